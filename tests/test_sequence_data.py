"""What a set of sequences is, how it is kept, its batches, and what is refused."""

import json

import numpy as np
import pytest
import torch

from skvae._lines import has_lines, read_lines, to_lines
from skvae.buckets import SequenceSource, StepTransform
from skvae.data import Transform
from skvae.estimators import _sequence_rows
from skvae.estimators._sequence_rows import (
    SequenceRows,
    check_steps,
    sequence_likelihood,
    trimmed,
)
from skvae.evidence import Batch
from skvae.exceptions import DataError, ModelFileError, ParameterError, UnseenCodesWarning
from skvae.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    LogNormal,
    Ordinal,
    Poisson,
    Sequence,
)
from skvae.sequences import MAX_TOKENS, Form, Ragged, are_sequences, count_missing, listed

CPU = torch.device("cpu")
VECTORS = [np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])]


def ragged(*lengths, n_features=1):
    """Sequences whose steps are numbered from 0."""
    values = np.arange(float(sum(lengths) * n_features)).reshape(-1, n_features)
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


def rows_of(sequences, length, **settings):
    return SequenceRows(sequences, 3, length=length, **settings)


# -- ragged and padded ----------------------------------------------------------------------


def test_padded_rows_hold_the_steps_then_zeros_and_say_which_exist():
    x = Ragged.of(VECTORS).padded(3, np.float64)
    assert x.dtype == np.float64
    assert x.tolist() == [[1, 2, 1, 3, 4, 1, 0, 0, 0], [5, 6, 1, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_padding_and_taking_out_again_gives_the_same_bits(dtype):
    random = np.random.default_rng(0)
    parts = [random.normal(size=(n, 3)).astype(dtype) for n in (4, 1, 7, 2)]
    back = Ragged.unpadded(Ragged.of(parts).padded(9, dtype), 3)
    assert back.offsets.tolist() == [0, 4, 5, 12, 14]
    assert [p.tobytes() for p in back.parts()] == [p.tobytes() for p in parts]


def test_sequences_are_taken_in_the_order_of_the_index():
    taken = ragged(2, 1, 3).take(np.array([2, 0, 2]))
    assert [p[:, 0].tolist() for p in taken.parts()] == [[3, 4, 5], [0, 1], [3, 4, 5]]
    assert taken.lengths.tolist() == [3, 2, 3]
    assert len(ragged(2, 1, 3).take(np.array([], int))) == 0


def test_a_step_has_its_place():
    assert [ragged(2, 1, 3).place(step) for step in range(6)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (2, 0),
        (2, 1),
        (2, 2),
    ]


# -- what are sequences ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "expected", "meant"),
    [
        (["abc", "abc"], True, True),
        (("abc",), True, True),
        (np.array(["a", "bc"]), True, True),
        ([["a", "b"], ["c"]], True, True),
        ([["a", "b"], ["c", "d"]], False, True),
        ([[1, 2], [3]], True, True),
        ([[1, 2], [3, 4]], False, True),
        (VECTORS, True, True),
        ([VECTORS[0], VECTORS[0]], False, True),
        ([torch.zeros(2, 1), torch.zeros(3, 1)], True, True),
        (np.zeros((3, 2)), False, False),
        (np.zeros((3, 2, 1)), False, False),
        ([1.0, 2.0], False, False),
        ([], False, False),
        ([{1: 2}, {}], False, False),
        ("abc", False, False),
        (None, False, False),
    ],
)
def test_sequences_are_told_from_tables(X, expected, meant):
    assert are_sequences(X) is expected
    assert are_sequences(X, meant=True) is meant


def test_series_and_arrays_of_objects_are_lists_of_their_items():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    assert listed(pandas.Series(["a", "bc"])) == ["a", "bc"]
    assert listed(polars.Series(["a", "bc"])) == ["a", "bc"]
    assert listed(pandas.DataFrame({"a": [1]})) is None
    assert listed(np.array([[1, 2], [3]], dtype=object)) == [[1, 2], [3]]
    assert [item.shape for item in listed(np.zeros((2, 3, 1)))] == [(3, 1), (3, 1)]
    assert listed(np.zeros((2, 3))) is None


# -- reading --------------------------------------------------------------------------------


def test_numbers_keep_their_values_in_a_compact_type():
    form, read = Form.learn([[0, 255], [7]])
    assert (form.kind, form.length, form.n_features, form.vector) == ("numbers", 2, 1, False)
    assert read.values.dtype == np.uint8
    assert read.values[:, 0].tolist() == [0, 255, 7]
    assert Form.learn([[0, 256], [7]])[1].values.dtype == np.int16
    assert Form.learn([[0, -1], [7]])[1].values.dtype == np.int16
    assert Form.learn([[0, 32768], [7]])[1].values.dtype == np.int32
    assert Form.learn([[0, 2**31], [7]])[1].values.dtype == np.float64
    assert Form.learn([[0.5, 1], [7]])[1].values.dtype == np.float64


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float16, "float32"),
        (np.float32, "float32"),
        (np.float64, "float64"),
        (np.uint8, "float32"),
        (np.int16, "float32"),
        (np.int32, "float64"),
        (bool, "float32"),
    ],
)
def test_numbers_are_computed_in_what_tables_are_computed_in(dtype, expected):
    X = [np.ones((2, 3), dtype), np.ones((1, 3), dtype)]
    form, _ = Form.learn(X)
    assert form.dtype == expected
    assert form.event_shape == (3, 4)
    assert form.vector


def test_sequences_of_numbers_come_back_as_they_were():
    form, read = Form.learn(VECTORS)
    assert [x.tolist() for x in form.restored(read)] == [[[1, 2], [3, 4]], [[5, 6]]]
    form, read = Form.learn([[1.5, 2.5], [3.5]])
    assert [x.tolist() for x in form.restored(read)] == [[1.5, 2.5], [3.5]]


def test_text_is_characters_in_order_behind_an_unknown_one():
    form, read = Form.learn(["cab", "b"])
    assert form.tokens == ("\N{REPLACEMENT CHARACTER}", "a", "b", "c")
    assert read.values[:, 0].tolist() == [3, 1, 2, 2]
    assert read.values.dtype == np.uint8
    assert form.restored(read) == ["cab", "b"]
    assert (form.kind, form.length, form.event_shape) == ("characters", 3, (4, 2))


def test_codes_are_kept_in_order_behind_an_unknown_one():
    form, read = Form.learn([["see", "it"], ["it"]])
    assert form.tokens == ("<unk>", "it", "see")
    assert read.values[:, 0].tolist() == [2, 1, 1]
    assert form.restored(read) == [["see", "it"], ["it"]]


def test_whole_numbers_are_codes_where_that_is_said():
    form, read = Form.learn([[30, 7], [7.0]], coded=True)
    assert form.tokens == (-1, 7, 30)
    assert read.values[:, 0].tolist() == [2, 1, 1]
    assert form.restored(read) == [[30, 7], [7]]
    assert Form.learn([[-3, 7], [7]], coded=True)[0].tokens == (-4, -3, 7)
    arrays = [np.array([30, 7]), np.array([7])]
    assert form.read(arrays).values[:, 0].tolist() == [2, 1, 1]


def test_many_codes_need_a_larger_type():
    form, read = Form.learn([[str(i) for i in range(300)]])
    assert read.values.dtype == np.int16
    assert form.restored(read)[0] == [str(i) for i in range(300)]


def test_the_unknown_code_may_be_in_the_data():
    form, read = Form.learn([["<unk>", "a"], ["a"]])
    assert form.tokens == ("<unk>", "a")
    assert read.values[:, 0].tolist() == [0, 1, 1]


def test_unseen_codes_are_counted_in_one_warning():
    form, _ = Form.learn(["abc", "ab"])
    with pytest.warns(UnseenCodesWarning, match=r"3 of 5 steps .*\('x', 'y'\)") as caught:
        read = form.read(["axb", "xy"])
    assert len(caught) == 1
    assert read.values[:, 0].tolist() == [1, 0, 2, 0, 0]
    form, _ = Form.learn([[5, 7], [7]], coded=True)
    with pytest.warns(UnseenCodesWarning, match=r"1 of 2 steps .*\(6\); they are read as -1"):
        assert form.read([[6, 7]]).values[:, 0].tolist() == [0, 2]


def test_missing_values_are_nan_where_they_may_be():
    form, _ = Form.learn(["abc"])
    assert np.array_equal(
        form.read([["c", None], "ab"], missing=True).values[:, 0], [3, np.nan, 1, 2], True
    )
    form, _ = Form.learn([[1.0, 2.0], [3.0]])
    read = form.read([[1, None], [np.nan]], missing=True)
    assert np.array_equal(read.values[:, 0], [1, np.nan, np.nan], equal_nan=True)


def test_only_what_is_missing_is_filled_in():
    form, _ = Form.learn(["abc", "a"])
    codes = ragged(2, 3, 1)
    codes.values[:, 0] = [1, 2, 3, 3, 3, 2]
    X = ["cc", ["a", None, "b"], [None]]
    assert form.filled(X, codes) == ["cc", ["a", "c", "b"], ["b"]]
    form, _ = Form.learn(VECTORS)
    X = [np.array([[0.1, np.nan]], np.float32), np.array([[7, 8]])]
    out = form.filled(X, Ragged.of([np.array([[9.0, 10.0]]), np.array([[9.0, 10.0]])]))
    assert out[0].dtype == np.float32
    assert out[0].tolist() == [[np.float32(0.1), 10]]
    assert out[1].tolist() == [[7, 8]]


def test_missing_cells_are_counted():
    assert count_missing(["ab", ["a", None], np.array([[1, np.nan], [np.nan, 2]]), [1, 2]]) == 3


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "X holds no sequences"),
        (["ab", ""], "Sequence 1 of X has no steps"),
        ([[1.0], []], "Sequence 1 of X has no steps"),
        (["ab", [1, 2]], "sequence 0 is text, sequence 1 is numbers"),
        ([["a", "b"], "ab"], "sequence 0 is codes, sequence 1 is text"),
        ([np.zeros((2, 2)), {1: 2}], "Item 1 of X is dict, not a sequence"),
        (
            [np.zeros((2, 2)), np.zeros((2, 3))],
            r"Sequence 1 of X has shape \(2, 3\), but \(L, 2\)",
        ),
        ([np.zeros((2, 2)), np.zeros(2)], r"Sequence 1 of X has shape \(2,\), but \(L, 2\)"),
        ([np.zeros(2), np.zeros((2, 1))], r"Sequence 1 of X has shape \(2, 1\), but \(L,\)"),
        ([np.zeros((2, 0))], r"holds float64 in shape \(2, 0\)"),
        ([np.array([1 + 2j])], r"holds complex128 in shape \(1,\)"),
        ([[1, "a"]], "Sequence 0 of X"),
        ([[[1, 2], [3]]], "Sequence 0 of X is no array of numbers"),
        ([["a", 1]], "some are str and some are numbers"),
        ([["a", 1.5]], "Step 1 of sequence 0 is 1.5; codes are"),
        ([["a"], ["b", None]], r"1 missing cell\(s\), the first in step 1 of sequence 1"),
        ([[1.0], [2.0, np.nan]], r"1 missing cell\(s\), the first in step 1 of sequence 1\."),
        (
            [VECTORS[0], np.array([[1, np.inf]])],
            r"infinity: 1 cell\(s\), the first in step 0 of sequence 1, feature 1",
        ),
        ([["a" * 1001]], "A code has 1001 characters; at most 1000"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_its_place(X, message):
    with pytest.raises(DataError, match=message):
        Form.learn(X)


@pytest.mark.parametrize(
    ("fitted", "X", "message"),
    [
        (["abc"], ["abcd"], r"Sequence 0 of X has 4 steps, .* at most 3.*event_shape=\(4, 1\)"),
        (["abc"], [[1, 2]], "X holds sequences of numbers, but .* was fitted on text"),
        ([["a", "b"]], ["ab"], "X holds text, but .* was fitted on sequences of codes"),
        ([[1, 2]], [["a"]], "X holds sequences of codes, but .* fitted on sequences of numbers"),
        ([[1, 2]], [[np.inf]], "infinity"),
        ([[1, 2]], [[np.nan]], "impute"),
        ([[1, 2]], [[[1], [2]]], r"Sequence 0 of X has shape \(2, 1\), but \(L,\) is needed"),
        (VECTORS, [[1, 2]], r"Sequence 0 of X has shape \(2,\), but \(L, 2\) is needed"),
        (["abc"], [["a", 1]], "Step 1 of sequence 0 is 1, but the codes of this model are str"),
        (["abc"], ["a", ["b", None]], "step 1 of sequence 1"),
    ],
)
def test_what_a_fitted_form_does_not_take_is_refused(fitted, X, message):
    form, _ = Form.learn(fitted)
    with pytest.raises(DataError, match=message):
        form.read(X)


def test_codes_that_are_no_numbers_are_refused_where_codes_are_numbers():
    form, _ = Form.learn([[5, 7]], coded=True)
    with pytest.raises(DataError, match=r"Step 1 of sequence 0 is 5\.5, but .* whole numbers"):
        form.read([[5, 5.5]])


def test_too_many_codes_are_refused():
    with pytest.raises(DataError, match=f"{MAX_TOKENS + 1} different codes; at most"):
        Form.learn([list(map(str, range(MAX_TOKENS + 1)))])


def test_a_form_is_json_and_back():
    for X, coded in [(["ab"], False), ([["a", "b"]], False), (VECTORS, False), ([[1]], True)]:
        form, _ = Form.learn(X, coded=coded)
        assert Form.from_json(json.loads(json.dumps(form.to_json()))) == form


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "programs"},
        {"kind": "numbers"},
        {"kind": "characters", "tokens": ["?", "ab"]},
        {"kind": "characters", "tokens": [1, 2]},
        {"length": 0},
        {"length": 2.0},
        {"length": True},
        {"n_features": 2},
        {"n_features": 0},
        {"vector": 1},
        {"dtype": "float16"},
        {"tokens": []},
        {"tokens": ["a"]},
        {"tokens": ["a", "a"]},
        {"tokens": ["a", 1]},
        {"tokens": [["a"], "b"]},
        {"tokens": [True, False]},
        {"tokens": [1.5, 2]},
        {"tokens": ["a", "b" * 1001]},
        {"tokens": None},
        {"tokens": list(map(str, range(MAX_TOKENS + 2)))},
        {"unknown": 1},
    ],
)
def test_a_description_that_makes_no_sense_is_refused(change):
    good = Form.learn([["a", "b"]])[0].to_json()
    assert Form.from_json(good)
    with pytest.raises(ModelFileError, match="makes no sense"):
        Form.from_json({**good, **change})


@pytest.mark.parametrize("data", [None, [], "x", {"kind": "numbers"}])
def test_what_is_no_description_is_refused(data):
    with pytest.raises(ModelFileError, match="makes no sense"):
        Form.from_json(data)


# -- rows -----------------------------------------------------------------------------------


def test_rows_are_scaled_by_what_all_steps_have_in_common():
    values = np.array([[1.0, 10.0], [2.0, 30.0], [6.0, 80.0]])
    rows = rows_of(Ragged(values, np.array([0, 2, 3])), 3, dtype=np.float64)
    transform = rows.transform("per_feature")
    assert np.allclose(transform.shift, np.tile([3, 40, 0], 3))
    assert np.allclose(transform.unit, np.tile([np.sqrt(14 / 3), np.sqrt(2600 / 3), 1], 3))
    x = transform.encode(rows.sequences.padded(3, np.float64), torch.float64).view(2, 3, 3)
    expected = (values - [3, 40]) / [np.sqrt(14 / 3), np.sqrt(2600 / 3)]
    assert np.allclose(x[0, :2, :2], expected[:2])
    assert np.allclose(x[1, :1, :2], expected[2:])
    assert x[..., 2].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert (x[0, 2] == 0).all()
    assert (x[1, 1:] == 0).all()
    back = transform.decode(x.flatten(1)).reshape(2, 3, 3)
    assert np.allclose(back[0, :2, :2], values[:2])


def test_rows_of_one_length_have_no_channel_for_the_end():
    X = np.arange(12.0).reshape(2, 6)
    rows = SequenceRows.of_table(X, (3, 2), 0)
    transform = rows.transform("per_feature")
    deviation = np.sqrt(np.mean((np.arange(0, 12, 2) - 5.0) ** 2))
    assert np.allclose(transform.shift, [5, 6] * 3)
    assert np.allclose(transform.unit, [deviation] * 6)
    assert np.allclose(rows.mean(), [5, 6] * 3)
    assert sorted(rows.some(2).tolist()) == X.tolist()
    source = rows.source(transform, (3, 2), binarize=None, seed=0)
    x = torch.cat([batch.x for batch in source.in_order(1, CPU)])
    assert x.shape == (2, 3, 2)
    assert np.allclose(x.flatten(1), (X - transform.shift) / transform.unit, atol=1e-6)


def test_the_mean_is_that_of_the_steps_that_exist():
    rows = rows_of(Ragged.of(VECTORS), 3)
    assert np.allclose(rows.mean(), np.tile([3, 4, 0], 3))


def test_rows_know_whether_they_are_binary_and_whether_they_differ():
    ones = Ragged(np.ones((4, 1)), np.array([0, 2, 4]))
    assert rows_of(ones, 3).binary
    assert not rows_of(ones, 3).varied
    assert rows_of(Ragged(np.ones((4, 1)), np.array([0, 1, 4])), 4).varied
    assert rows_of(ragged(2, 2), 3).varied
    assert not rows_of(ragged(2, 2), 3).binary


def test_held_out_rows_and_the_others_are_all_rows_once():
    rows = rows_of(ragged(*range(1, 21)), 21, n_codes=3, dtype=np.float64)
    rest, held_out = rows.hold_out(5)
    assert (len(rest), len(held_out)) == (15, 5)
    starts = [p[0, 0] for part in (rest, held_out) for p in part.sequences.parts()]
    assert sorted(starts) == rows.sequences.offsets[:-1].tolist()
    again = rows.hold_out(5)[1]
    assert again.sequences.values.tolist() == held_out.sequences.values.tolist()
    assert (rest.length, rest.n_codes, rest.dtype, rest.seed) == (21, 3, np.float64, 3)
    other = SequenceRows(rows.sequences, 4, length=21).hold_out(5)[1]
    assert other.sequences.values.tolist() != held_out.sequences.values.tolist()


def test_some_rows_are_different_ones():
    rows = rows_of(ragged(*range(1, 21)), 21)
    some = rows.some(7)
    assert some.shape == (7, 21 * 2)
    assert some.dtype == np.float32
    assert len({row[0] for row in some.tolist()}) == 7
    assert len(rows.some(100)) == 20


def test_of_very_long_rows_fewer_are_looked_at_together(monkeypatch):
    monkeypatch.setattr(_sequence_rows, "MOST_CELLS", 10 * 42 + 41)
    monkeypatch.setattr(_sequence_rows, "LEAST_ROWS", 4)
    rows = rows_of(ragged(*range(1, 21)), 21)
    assert len(rows.some(15)) == 10
    assert len(rows.some(7)) == 7
    monkeypatch.setattr(_sequence_rows, "MOST_CELLS", 1)
    assert len(rows.some(15)) == 4


def test_forbidden_values_are_named_with_sequence_and_step():
    sequences = ragged(2, 3, n_features=2)
    sequences.values[3, 1] = -1
    message = r"Sequence 1, step 1, feature 1 of X is -1, .*'poisson'.*found -1 to 9"
    with pytest.raises(DataError, match=message):
        check_steps(sequences, Sequence(Poisson()))
    with pytest.raises(DataError, match=r"needs values in \(0, inf\)"):
        rows_of(sequences, 4).check(Sequence(LogNormal()))
    check_steps(sequences, Sequence(Gaussian()))
    sequences.values[3, 1] = np.nan
    check_steps(sequences, Sequence(Poisson()))


# -- likelihoods ----------------------------------------------------------------------------


def test_the_likelihood_follows_from_what_the_steps_are():
    binary = Ragged(np.ones((4, 1)), np.array([0, 2, 4]))
    real = Gaussian(scale="per_feature")
    assert sequence_likelihood("auto", rows_of(ragged(2, 3), 4)) == Sequence(real)
    assert sequence_likelihood("auto", rows_of(binary, 3)) == Sequence(Bernoulli())
    coded = rows_of(binary, 3, n_codes=5)
    assert sequence_likelihood("auto", coded) == Sequence(Categorical(5))
    assert sequence_likelihood("categorical", coded) == Sequence(Categorical(5))
    assert sequence_likelihood("poisson", rows_of(binary, 3)) == Sequence(Poisson())
    assert sequence_likelihood(Sequence(Ordinal(7)), coded) == Sequence(Ordinal(7))
    fixed = rows_of(binary, 2, ragged=False)
    assert sequence_likelihood(Sequence(Poisson()), fixed) == Sequence(Poisson(), ragged=False)


@pytest.mark.parametrize("choice", ["gaussian", Sequence(Categorical(4)), Ordinal(4)])
def test_a_likelihood_that_does_not_describe_codes_is_refused(choice):
    rows = rows_of(ragged(2, 3), 4, n_codes=5)
    with pytest.raises(ParameterError, match="does not describe the 5 different codes"):
        sequence_likelihood(choice, rows)


# -- batches --------------------------------------------------------------------------------


def source_of(*lengths, seed=3, ragged_=True):
    d = 2 * (max(lengths) + 1)
    return SequenceSource(ragged(*lengths), Transform(np.zeros(d), np.ones(d)), seed=seed)


LENGTHS = np.random.default_rng(1).integers(1, 40, 700).tolist()


def first_steps(batch):
    return batch.x[:, 0, 0].tolist()


def test_every_sequence_comes_once_an_epoch_padded_to_the_longest_of_its_batch():
    source = source_of(*LENGTHS)
    starts = source.sequences.offsets[:-1].tolist()
    seen, shapes = [], []
    for batch in source.batches(0, 16, CPU):
        lengths = batch.x[..., -1].sum(1)
        assert batch.x.shape[1] == lengths.max() + 1
        for row, length in zip(batch.x, lengths.int().tolist(), strict=True):
            first = int(row[0, 0])
            assert row[:length, 0].tolist() == list(range(first, first + length))
            assert length == LENGTHS[starts.index(first)]
            assert (row[length:] == 0).all()
            seen.append(first)
        shapes.append(batch.x.shape)
    assert sorted(seen) == starts
    assert len(shapes) == -(-700 // 16)
    assert {s[0] for s in shapes} == {15, 16}
    padded = sum(s[0] * s[1] for s in shapes)
    assert padded < 1.15 * (sum(LENGTHS) + 700)  # at random it would be nearly double
    assert [s[1] for s in shapes] != sorted(s[1] for s in shapes)


def test_batches_are_a_function_of_seed_and_epoch():
    one, two = (list(map(first_steps, source_of(*LENGTHS).batches(2, 16, CPU))) for _ in "ab")
    assert one == two
    assert one != list(map(first_steps, source_of(*LENGTHS).batches(3, 16, CPU)))
    assert one != list(map(first_steps, source_of(*LENGTHS, seed=4).batches(2, 16, CPU)))
    skipped = list(map(first_steps, source_of(*LENGTHS).batches(2, 16, CPU, skip=5)))
    assert skipped == one[5:]


def test_sequences_of_one_length_meet_others_in_every_epoch():
    source = source_of(*[4] * 64)
    groups = [frozenset(frozenset(g.tolist()) for g in source.groups(e, 8)) for e in range(2)]
    assert groups[0] != groups[1]


def test_in_order_all_sequences_come_in_their_order():
    source = source_of(3, 1, 2)
    batches = list(source.in_order(2, CPU))
    assert [b.x.tolist() for b in batches] == [
        [[[0, 1], [1, 1], [2, 1], [0, 0]], [[3, 1], [0, 0], [0, 0], [0, 0]]],
        [[[4, 1], [5, 1], [0, 0]]],
    ]


def test_batches_are_in_model_units():
    rows = rows_of(ragged(2, 1), 3, dtype=np.float64)
    source = rows.source(rows.transform("per_feature"), (3, 2), binarize=None, seed=0)
    (batch,) = source.in_order(2, CPU)
    z = np.sqrt(1.5)
    expected = [[[-z, 1], [0, 1], [0, 0]], [[z, 1], [0, 0], [0, 0]]]
    assert torch.allclose(batch.x, torch.tensor(expected, dtype=torch.float32))
    assert batch.x.dtype == torch.float32


def test_a_source_is_known_by_its_values_and_where_they_are_cut():
    identity = [t.tolist() for t in source_of(2, 1).identity()]
    assert identity == [[[0], [1], [2]], [0, 2, 3]]
    assert [t.tolist() for t in source_of(1, 2).identity()] != identity


def test_batches_are_trimmed_behind_their_longest_sequence():
    x = torch.from_numpy(ragged(2, 1).padded(6, np.float32)).view(2, 6, 2)
    batch = trimmed(Batch(x, x > 0), Sequence(Gaussian()))
    assert torch.equal(batch.x, x[:, :3])
    assert torch.equal(batch.mask, (x > 0)[:, :3])
    assert trimmed(Batch(x), Sequence(Gaussian(), ragged=False)).x is x
    assert trimmed(Batch(x), Gaussian()).x is x


def test_a_step_transform_leaves_rows_of_one_length_alone():
    transform = StepTransform(np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    assert transform.encode(np.array([[3.0, 0.0]]), torch.float64).tolist() == [[1.0, -0.5]]


# -- files ----------------------------------------------------------------------------------


def test_lines_of_text_and_of_json_are_sequences(tmp_path):
    text, lists = tmp_path / "a.txt", tmp_path / "b.jsonl"
    text.write_text("ab c\nd\n", encoding="utf-8")
    lists.write_text('[1, null]\n[[1, 2]]\n["a"]\n"xyz"', encoding="utf-8")
    assert read_lines(text) == ["ab c", "d"]
    assert read_lines(lists) == [[1, None], [[1, 2]], ["a"], "xyz"]
    assert [has_lines(p) for p in ("a.TXT", "b.jsonl", "c.csv", "d")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"x\n\ny\n", "line 2 is empty"),
        ("a.txt", b"\xff\xfe", "not readable as UTF-8"),
        ("a.jsonl", b"[1]\n[2", "line 2 is not JSON"),
        ("a.jsonl", b'[1]\n{"a": 1}', "line 2 is a JSON dict"),
        ("a.jsonl", b"7", "line 1 is a JSON int"),
    ],
)
def test_lines_that_are_no_sequences_are_refused_by_number(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_lines(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.txt"):
        read_lines(tmp_path / "no.txt")


def test_sequences_are_written_so_that_they_read_back():
    assert to_lines(["ab", "c"], "x.txt") == "ab\nc\n"
    assert to_lines(["ab", "c"], "") == "ab\nc\n"
    assert to_lines(["ab", "c\n"], "") == '"ab"\n"c\\n"\n'
    assert to_lines(["ab"], "x.jsonl") == '"ab"\n'
    assert to_lines([["a", None]], "x.jsonl") == '["a", null]\n'
    assert to_lines([np.array([0.1, np.nan], np.float32)], "") == "[0.1, null]\n"
    assert to_lines([np.array([[1, 2]])], "") == "[[1, 2]]\n"
    with pytest.raises(DataError, match=r"Write \.jsonl"):
        to_lines([["a"]], "x.txt")
    with pytest.raises(DataError, match=r"Write \.jsonl"):
        to_lines(["a\nb"], "x.txt")
    with pytest.raises(DataError, match=r"written as \.txt or \.jsonl"):
        to_lines(["a"], "x.csv")
