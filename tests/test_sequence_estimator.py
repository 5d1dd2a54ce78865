"""Sequences end to end: fit, every call, files, checkpoints, the command line."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAE, cli, load, serialization
from skvae.exceptions import DataError, ModelFileError, ParameterError, UnseenCodesWarning
from skvae.likelihoods import Bernoulli, Categorical, Gaussian, Poisson, Sequence
from skvae.networks import RNN, TCN

SMALL = {
    "n_components": 2,
    "network": RNN(hidden_size=12),
    "max_epochs": 2,
    "batch_size": 16,
    "random_state": 0,
}


def some_texts(n=60, longest=7, seed=0):
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list("abc"), k)) for k in random.integers(1, longest + 1, n)]


def some_numbers(n=60, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)
    scale, shift = np.array([1.0, 100.0]), np.array([0.0, 1000.0])
    return [
        (random.normal(size=(k, 2)) * scale + shift).astype(dtype)
        for k in random.integers(1, 8, n)
    ]


TEXTS, NUMBERS = some_texts(), some_numbers()


@pytest.fixture(scope="module")
def text_model():
    return VAE(**SMALL).fit(TEXTS)


@pytest.fixture(scope="module")
def number_model():
    return VAE(**SMALL).fit(NUMBERS)


def weights_of(vae):
    return {k: v.numpy().tobytes() for k, v in vae._core.module.state_dict().items()}


# -- what a fit learns ----------------------------------------------------------------------


def test_text_is_a_sequence_of_characters(text_model):
    assert text_model.likelihood_ == Sequence(Categorical(4))
    assert text_model.event_shape_ == (8, 2)
    assert text_model.n_features_in_ == 1
    assert text_model.transform(TEXTS).shape == (60, 2)
    drawn = text_model.sample(50, random_state=1)
    assert all(isinstance(x, str) and 1 <= len(x) <= 7 for x in drawn)
    assert len(set(drawn)) > 10
    decoded = text_model.inverse_transform(np.zeros((2, 2)))
    assert decoded[0] == decoded[1]


def test_arrays_come_back_as_arrays_in_data_units(number_model):
    assert number_model.likelihood_ == Sequence(Gaussian(scale="per_feature"))
    assert number_model.event_shape_ == (8, 3)
    assert number_model.n_features_in_ == 2
    drawn = np.concatenate(number_model.sample(300, random_state=0))
    assert drawn.dtype == np.float64
    assert np.allclose(drawn.mean(0), [0, 1000], atol=[0.3, 30])
    assert np.allclose(drawn.std(0), [1, 100], rtol=0.2)
    decoded = number_model.inverse_transform(np.zeros((1, 2), np.float32))
    assert decoded[0].dtype == np.float32
    assert decoded[0].shape[1] == 2


def test_lengths_follow_those_of_the_data(number_model):
    lengths = [len(x) for x in number_model.sample(1000, random_state=0)]
    assert np.mean(lengths) == pytest.approx(np.mean([len(x) for x in NUMBERS]), rel=0.35)


@pytest.mark.parametrize(
    ("X", "likelihood", "expected"),
    [
        ([[0, 1, 1], [1]] * 10, "auto", Bernoulli()),
        ([[0, 1, 3], [1]] * 10, "poisson", Poisson()),
        ([[0, 1, 3], [1]] * 10, "categorical", Categorical(4)),
        ([["x", "yy", "x"], ["x"]] * 10, "auto", Categorical(3)),
        ([["x", "yy", "x"], ["x"]] * 10, Sequence(Categorical(9)), Categorical(9)),
    ],
)
def test_the_likelihood_is_that_of_a_step(X, likelihood, expected):
    vae = VAE(likelihood=likelihood, **{**SMALL, "max_epochs": 1}).fit(X)
    assert vae.likelihood_ == Sequence(expected)
    values = {v for x in vae.sample(30, random_state=0) for v in x}
    if isinstance(X[0][0], str):
        assert values <= {"<unk>", "x", "yy"}
    elif likelihood == "categorical":
        assert values <= {-1, 0, 1, 3}
    else:
        assert all(v >= 0 and v == round(v) for v in values)


def test_the_network_is_recurrent_unless_another_is_asked_for():
    vae = VAE(2, max_epochs=1, random_state=0).fit(TEXTS[:10])
    assert vae._core.spec.network == RNN()
    vae = VAE(2, network="tcn", max_epochs=1, random_state=0).fit(TEXTS[:10])
    assert vae._core.spec.network == TCN()


def test_a_network_for_tables_is_refused():
    with pytest.raises(ParameterError, match="network='mlp' reads rows of one length"):
        VAE(2, network="mlp").fit(TEXTS)


def test_arrays_of_three_dimensions_are_sequences_without_an_end():
    X = np.random.default_rng(0).normal(size=(40, 5, 2)) * [1, 50]
    vae = VAE(**SMALL).fit(X)
    assert vae.likelihood_ == Sequence(Gaussian(scale="per_feature"), ragged=False)
    assert vae.event_shape_ == (5, 2)
    unit = np.tile(X.reshape(-1, 2).std(0), 5)
    assert np.allclose(vae._core.transform.unit, unit)
    assert vae.sample(3, random_state=0).shape == (3, 5, 2)
    hidden = X[:4].copy()
    hidden[1, 2, 0] = np.nan
    filled = vae.impute(hidden, n_samples=9)
    assert np.isfinite(filled[1, 2, 0])
    seen = ~np.isnan(hidden)
    assert np.array_equal(filled[seen], hidden[seen])
    flat = VAE(**SMALL, event_shape=(5, 2)).fit(X.reshape(40, 10))
    assert weights_of(flat) == weights_of(vae)
    assert flat.sample(3, random_state=0).shape == (3, 10)


def test_a_plain_table_with_a_recurrent_network_has_one_number_per_step():
    X = np.random.default_rng(0).normal(size=(40, 5))
    vae = VAE(**SMALL).fit(X)
    assert vae.event_shape_ == (5, 1)
    assert vae.sample(3, random_state=0).shape == (3, 5)
    ragged = VAE(**SMALL).fit(X.tolist())
    assert ragged.event_shape_ == (6, 2)
    assert ragged.sample(1, random_state=0)[0].ndim == 1


def test_a_list_of_equal_rows_is_a_table():
    vae = VAE(2, max_epochs=1, hidden_layer_sizes=(4,)).fit([[0.5, 1.0], [2.0, 3.0]] * 10)
    assert vae.event_shape_ == (2,)
    assert isinstance(vae.sample(2), np.ndarray)


# -- invariances ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_neither_order_nor_company_changes_what_is_said_of_a_sequence(request, kind):
    vae = request.getfixturevalue("text_model" if kind == "text" else "number_model")
    X = TEXTS if kind == "text" else NUMBERS
    tolerance = 1e-4 if kind == "text" else 1e-9  # text is computed in float32
    z, log_p = vae.transform(X), vae.score_samples(X, n_samples=20)
    order = np.random.default_rng(1).permutation(len(X))
    assert np.allclose(vae.transform([X[i] for i in order]), z[order], atol=tolerance)
    moved = vae.score_samples([X[i] for i in order], n_samples=20)
    assert np.allclose(moved, log_p[order], atol=tolerance, rtol=tolerance)
    for i in (0, 7):
        assert np.allclose(vae.transform([X[i]])[0], z[i], atol=tolerance)
        alone = vae.score_samples([X[i]], n_samples=20)[0]
        assert alone == pytest.approx(log_p[i], abs=tolerance, rel=tolerance)
    assert vae.score(X) == np.mean(vae.score_samples(X))


def test_a_limit_beyond_the_longest_changes_no_density():
    vae = VAE(**SMALL, event_shape=(20, 1)).fit(TEXTS)
    assert vae.event_shape_ == (21, 2)
    assert vae.transform(["a" * 20]).shape == (1, 2)
    with pytest.raises(DataError, match="has 21 steps, but this model takes at most 20"):
        vae.transform(["a" * 21])
    short = VAE(**SMALL).fit(TEXTS)
    assert np.allclose(vae.transform(TEXTS), short.transform(TEXTS), atol=1e-4)


def test_blocks_of_any_size_give_the_same(number_model, monkeypatch):
    from skvae.estimators import _sequence_face

    whole = number_model.transform(NUMBERS)
    monkeypatch.setattr(_sequence_face, "CELLS_PER_BLOCK", 7 * 24)
    blocks = list(number_model._validated_blocks(NUMBERS))
    assert [len(b) for b in blocks] == [7] * 8 + [4]
    assert np.allclose(number_model.transform(NUMBERS), whole, atol=1e-9)


def test_the_densities_of_all_short_texts_are_the_share_of_short_samples():
    settings = {"network": RNN(hidden_size=8), "max_epochs": 3, "event_shape": (4, 1)}
    vae = VAE(2, **settings, random_state=0).fit(["ab", "b"] * 20)
    texts = ["?", "a", "b", *(x + y for x in "?ab" for y in "?ab")]  # ? is never seen
    with pytest.warns(UnseenCodesWarning):
        log_p = vae.score_samples(texts, n_samples=4000)
    short = np.mean([len(x) <= 2 for x in vae.sample(4000, random_state=0)])
    assert 0.2 < short < 0.95
    assert np.exp(log_p).sum() == pytest.approx(short, abs=0.025)


def test_what_a_model_draws_it_can_read():
    vae = VAE(2, network=RNN(hidden_size=8), max_epochs=1, random_state=0).fit(["ab", "b"] * 20)
    drawn = vae.sample(200, random_state=0)
    assert max(map(len, drawn)) == 2
    assert np.isfinite(vae.transform(drawn)).all()


# -- impute and interpolate -----------------------------------------------------------------


def test_missing_codes_are_filled_in_and_the_others_stay(text_model):
    X = [["a", None, "c"], "ab", [None]]
    filled = text_model.impute(X, n_samples=18)
    assert filled[1] == "ab"
    assert (filled[0][0], filled[0][2]) == ("a", "c")
    assert filled[0][1] in "abc"
    assert filled[2][0] in "abc"
    draws = text_model.impute(X, n_samples=18, n_draws=30, random_state=0)
    assert len(draws) == 30
    assert {d[1] for d in draws} == {"ab"}
    assert {d[2][0] for d in draws} >= {"a", "b", "c"}


def test_missing_numbers_are_filled_in_and_the_others_keep_their_bits(number_model):
    X = [x.copy() for x in NUMBERS[:5]]
    X[0][0, 1] = np.nan
    X[3][:] = np.nan
    filled = number_model.impute(X, n_samples=18)
    assert abs(filled[0][0, 1] - 1000) < 300
    for x, y in zip(X, filled, strict=True):
        seen = ~np.isnan(x)
        assert x.shape == y.shape
        assert x[seen].tobytes() == y[seen].tobytes()
        assert np.isfinite(y).all()


@pytest.mark.parametrize("call", ["fit", "transform", "score_samples"])
def test_only_impute_takes_what_is_missing(text_model, call):
    with pytest.raises(DataError, match=r"missing cell\(s\), the first in step 1 of sequence 0"):
        getattr(text_model if call != "fit" else VAE(**SMALL), call)([["a", None], ["a"]])


def test_a_line_between_two_sequences_begins_and_ends_with_their_reconstructions(number_model):
    a, b = NUMBERS[0], NUMBERS[1]
    line = number_model.interpolate(a, b, 5)
    z0, z1 = number_model.transform([a, b])
    z = np.stack([z0, 0.75 * z0 + 0.25 * z1, (z0 + z1) / 2, 0.25 * z0 + 0.75 * z1, z1])
    expected = number_model.inverse_transform(z)
    assert len(line) == 5
    for x, y in zip(line, expected, strict=True):
        assert np.allclose(x, y)
    assert len(number_model.interpolate(a, b)) == 8


def test_a_line_between_two_texts_is_text(text_model):
    line = text_model.interpolate("abc", "cb", 4)
    assert len(line) == 4
    assert line[0] == text_model.inverse_transform(text_model.transform(["abc"]))[0]


def test_a_line_between_two_rows_of_a_table():
    pandas = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(50, 3))
    frame = pandas.DataFrame(X, columns=list("abc"))
    vae = VAE(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(frame)
    line = vae.interpolate(frame.iloc[[0]], frame.iloc[[1]], 3)
    assert list(line.columns) == list("abc")
    z = vae.transform(frame.iloc[:2])
    expected = vae.inverse_transform(np.stack([z[0], z.mean(0), z[1]]))
    assert np.allclose(line, expected)
    assert np.allclose(vae.interpolate(X[0], X[1], 3), expected)
    assert np.allclose(vae.interpolate(frame.iloc[0], torch.from_numpy(X[1]), 3), expected)
    with pytest.raises(DataError, match="x1 must be one row; received a frame of 2 rows"):
        vae.interpolate(X[0], frame.iloc[:2])
    with pytest.raises(ParameterError, match="n_steps must be an integer >= 2"):
        vae.interpolate(X[0], X[1], 1)
    with pytest.raises(NotFittedError):
        VAE().interpolate(X[0], X[1])


def test_a_line_between_two_images_is_images():
    X = np.random.default_rng(0).normal(size=(30, 2, 3)).astype(np.float32)
    vae = VAE(2, hidden_layer_sizes=(8,), max_epochs=1, random_state=0).fit(X)
    line = vae.interpolate(X[0], X[1], 4)
    assert line.shape == (4, 2, 3)
    assert line.dtype == np.float32
    assert np.allclose(line[-1], vae.inverse_transform(vae.transform(X[1:2]))[0], atol=1e-6)


# -- going on -------------------------------------------------------------------------------


def test_fits_repeat_bit_for_bit_and_seeds_differ(text_model):
    again = VAE(**SMALL).fit(TEXTS)
    assert weights_of(again) == weights_of(text_model)
    assert weights_of(VAE(**{**SMALL, "random_state": 1}).fit(TEXTS)) != weights_of(text_model)


def test_fits_go_on():
    vae = VAE(**SMALL, warm_start=True).fit(TEXTS)
    before = weights_of(vae)
    assert weights_of(vae.fit(TEXTS[:30])) != before
    assert len(vae.history_) == 4
    part = VAE(**SMALL).partial_fit(TEXTS).partial_fit(TEXTS[:20])
    assert len(part.history_) == 2
    with pytest.raises(DataError, match="takes at most 7"):
        part.partial_fit(["a" * 9])


def test_a_fit_that_was_ended_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    from skvae.checkpoint import Checkpoint

    settings = {**SMALL, "max_epochs": 4}
    whole = VAE(**settings).fit(NUMBERS)
    directory = str(tmp_path / "c")
    write, calls = Checkpoint.write, []

    def ended_at_the_ninth(self, *state):
        calls.append(1)
        write(self, *state)
        if len(calls) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "due", property(lambda self: True))
    monkeypatch.setattr(Checkpoint, "write", ended_at_the_ninth)
    with pytest.raises(KeyboardInterrupt):
        VAE(**settings, checkpoint=directory).fit(NUMBERS)
    other = [*NUMBERS[:-1], NUMBERS[-1] + 1]
    with pytest.raises(ParameterError, match="data and first weights"):
        VAE(**settings, checkpoint=directory).fit(other)
    resumed = VAE(**settings, checkpoint=directory).fit(NUMBERS)
    assert weights_of(resumed) == weights_of(whole)
    assert len(calls) < 2 * 9 + 8


def test_a_table_after_sequences_and_the_reverse():
    table = np.random.default_rng(0).normal(size=(30, 3))
    vae = VAE(2, max_epochs=1, random_state=0).fit(TEXTS[:10]).fit(table)
    assert vae.event_shape_ == (3,)
    assert vae.sample(2, random_state=0).shape == (2, 3)
    with pytest.raises(DataError, match="a set of sequences, but VAE was fitted on rows of 3"):
        vae.transform(TEXTS)
    pandas = pytest.importorskip("pandas")
    vae = VAE(2, max_epochs=1, random_state=0).fit(pandas.DataFrame(table, columns=list("abc")))
    vae.fit(TEXTS[:10])
    assert not hasattr(vae, "feature_names_in_")
    assert isinstance(vae.sample(1)[0], str)


@pytest.mark.parametrize("X", [np.zeros((2, 8)), {"a": 1}, 7])
def test_a_model_of_sequences_takes_no_table(text_model, X):
    with pytest.raises(DataError, match="was fitted on sequences, so X must be a list"):
        text_model.transform(X)


def test_a_failed_fit_leaves_the_model_as_it_was(text_model):
    before = text_model.transform(TEXTS)
    with pytest.raises(DataError):
        text_model.fit(["abc", ""])
    assert np.array_equal(text_model.transform(TEXTS), before)


@pytest.mark.parametrize("call", ["transform", "score_samples", "impute"])
def test_values_that_the_likelihood_forbids_are_named_at_any_call(call):
    vae = VAE(likelihood="poisson", **{**SMALL, "max_epochs": 1}).fit([[1, 2], [3]] * 10)
    with pytest.raises(DataError, match="Sequence 1, step 0, feature 0 of X is -3"):
        getattr(vae, call)([[1, 2], [-3]])


def test_values_in_sequences_of_one_length_are_checked_too():
    X = np.random.default_rng(0).poisson(3, (30, 4, 2)).astype(float)
    vae = VAE(likelihood="poisson", **{**SMALL, "max_epochs": 1}).fit(X)
    X[7, 2, 1] = -3
    for call in (vae.transform, vae.score_samples, VAE(likelihood="poisson", **SMALL).fit):
        with pytest.raises(DataError, match="Sequence 7, step 2, feature 1 of X is -3"):
            call(X)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 1), "allows 6 steps, but the longest sequence of X has 7"),
        ((9, 2), r"must be \(T, F\) .* F = 1 feature"),
        ((9, 1, 1), r"must be \(T, F\)"),
        ((), r"must be \(T, F\)"),
    ],
)
def test_an_event_shape_that_does_not_fit_is_refused(shape, message):
    with pytest.raises(ParameterError, match=message):
        VAE(**SMALL, event_shape=shape).fit(TEXTS)


def test_unseen_codes_are_read_as_the_unknown_one(text_model):
    with pytest.warns(UnseenCodesWarning, match="1 of 3 steps"):
        z = text_model.transform(["aXb"])
    assert np.array_equal(z, text_model.transform(["a\N{REPLACEMENT CHARACTER}b"]))


# -- beside scikit-learn --------------------------------------------------------------------


def test_sequences_go_through_pipelines_and_validation():
    pandas = pytest.importorskip("pandas")
    vae = VAE(**{**SMALL, "max_epochs": 1})
    assert make_pipeline(vae, StandardScaler()).fit_transform(TEXTS).shape == (60, 2)
    scores = cross_val_score(vae, np.array(TEXTS, dtype=object), cv=2)
    assert np.isfinite(scores).all()
    frame = vae.set_output(transform="pandas").fit_transform(pandas.Series(TEXTS))
    assert list(frame.columns) == ["vae0", "vae1"]


def test_evaluate_reports_on_sequences(text_model):
    report = text_model.evaluate(TEXTS, n_samples=30)
    assert report.n_rows == 60
    expected = text_model.score_samples(TEXTS, n_samples=30).mean()
    assert report.log_likelihood == pytest.approx(expected, abs=1e-6)


# -- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_a_saved_model_is_the_same_model(request, tmp_path, kind):
    vae = request.getfixturevalue("text_model" if kind == "text" else "number_model")
    X = TEXTS if kind == "text" else NUMBERS
    path, again = tmp_path / "m.safetensors", tmp_path / "n.safetensors"
    vae.save(path)
    loaded = load(path)
    loaded.save(again)
    assert path.read_bytes() == again.read_bytes()
    assert loaded.n_features_in_ == vae.n_features_in_
    assert loaded.event_shape_ == vae.event_shape_
    assert loaded.transform(X).tobytes() == vae.transform(X).tobytes()
    assert loaded.score_samples(X).tobytes() == vae.score_samples(X).tobytes()
    drawn = zip(loaded.sample(9, random_state=0), vae.sample(9, random_state=0), strict=True)
    assert all(np.array_equal(x, y) for x, y in drawn)


@pytest.mark.parametrize(
    "change",
    [
        None,
        {"length": 8},
        {"n_features": 2, "kind": "numbers", "tokens": []},
        {"tokens": ["?", "a", "b", "c", "d"]},
        {"tokens": ["?", "a", "a", "c"]},
        {"kind": "code"},
    ],
)
def test_a_file_whose_sequences_do_not_fit_its_model_is_refused(text_model, tmp_path, change):
    text_model.save(tmp_path / "m.safetensors")
    manifest, tensors = serialization.read(tmp_path / "m.safetensors")
    described = manifest["sequences"]
    manifest["sequences"] = None if change is None else {**described, **change}
    for name in ("format_version", "library_version", "tensors"):
        del manifest[name]
    serialization.write(tmp_path / "bad.safetensors", manifest, tensors)
    with pytest.raises(ModelFileError, match="of sequences"):
        load(tmp_path / "bad.safetensors")


def test_a_fit_on_a_file_is_a_fit_on_its_lines(tmp_path, text_model):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    assert weights_of(VAE(**SMALL).fit(path)) == weights_of(text_model)
    assert np.array_equal(text_model.transform(str(path)), text_model.transform(TEXTS))
    assert text_model.impute(path) == TEXTS


# -- the command line -----------------------------------------------------------------------


@pytest.fixture
def skvae(capsys):
    def call(*args, code=0):
        assert cli._run([str(a) for a in args]) == code
        return capsys.readouterr()

    return call


def test_the_commands_take_texts_and_write_lines(tmp_path, skvae):
    data, model = tmp_path / "texts.txt", tmp_path / "m.safetensors"
    data.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    flags = ("--n-components", 2, "--max-epochs", 1, "--random-state", 0)
    said = skvae("fit", data, "-o", model, *flags).err
    assert "training on 60 sequences" in said
    vae = load(model)
    rows = skvae("transform", model, data).out.splitlines()
    assert rows[0] == "vae0,vae1"
    assert len(rows) == 61
    drawn = vae.sample(3, random_state=1)
    assert len(set(drawn)) == 3
    assert skvae("sample", model, "-n", 3, "--random-state", 1).out.splitlines() == drawn
    out = skvae("sample", model, "-n", 3, "--random-state", 1, "--json").out
    assert json.loads(out)["sequences"] == drawn
    skvae("sample", model, "-n", 3, "--random-state", 1, "-o", tmp_path / "s.txt")
    assert (tmp_path / "s.txt").read_text(encoding="utf-8").splitlines() == drawn
    out = skvae("score", model, data, "--n-samples", 10, "--json").out
    report = json.loads(out)
    assert report["n_rows"] == 60
    assert math.isfinite(report["log_likelihood"])
    assert "sequence" in skvae("info", model).out


def test_the_commands_fill_in_what_is_null(tmp_path, skvae):
    data, model = tmp_path / "x.jsonl", tmp_path / "m.safetensors"
    lines = [json.dumps(x.tolist()) for x in NUMBERS]
    data.write_text("\n".join(lines), encoding="utf-8")
    VAE(**SMALL).fit(data).save(model)
    data.write_text("[[1.5, null], [2.5, 1000.0]]\n[[0.5, 990.0]]", encoding="utf-8")
    result = skvae("impute", model, data, "--n-samples", 9)
    assert "filling in 1 missing cells of 2 sequences" in result.err
    first, second = map(json.loads, result.out.splitlines())
    assert second == [[0.5, 990.0]]
    assert first[1] == [2.5, 1000.0]
    assert first[0][0] == 1.5
    assert abs(first[0][1] - 1000) < 300
    out = tmp_path / "y.jsonl"
    said = skvae("impute", model, data, "--n-samples", 9, "--n-draws", 2, "-o", out, "--json")
    assert json.loads(said.out) == {"schema_version": 1, "output": str(out), "n_sequences": 4}
    drawn = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert drawn[1] == drawn[3] == [[0.5, 990.0]]


def test_sequences_are_not_divided(tmp_path, skvae):
    data = tmp_path / "x.txt"
    data.write_text("ab\nc\n", encoding="utf-8")
    said = skvae("fit", data, "-o", tmp_path / "m.safetensors", "--divide-by", 2, code=2)
    assert "--divide-by is for tables" in said.err
