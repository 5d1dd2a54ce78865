"""Transforms, binarisation, batches, and files."""

import gzip
import itertools

import numpy as np
import pytest
import torch

from skvae import files
from skvae.data import Source, Transform, binarize_by_content, check_support, even_sizes
from skvae.exceptions import DataError
from skvae.likelihoods import Support

CPU = torch.device("cpu")


def test_transform_standardises_and_inverts():
    X = np.random.default_rng(0).normal(size=(20000, 3)) * [1, 1e6, 1e-6] + [0, 1e9, 1]
    transform = Transform.fit(X, "per_feature")
    assert np.allclose(transform.shift, X.mean(0))
    assert np.allclose(transform.unit, X.std(0))
    encoded = transform.encode(X, torch.float64)
    assert np.allclose(encoded.std(0, correction=0), 1)
    assert np.allclose(transform.decode(encoded), X, rtol=1e-14)


def test_transform_modes():
    X = np.random.default_rng(0).normal(size=(1000, 2)) * [1, 7]
    shared = Transform.fit(X, "shared")
    assert shared.unit[0] == shared.unit[1] == pytest.approx(np.sqrt(X.var(0).mean()))
    assert np.allclose(shared.shift, X.mean(0))
    none = Transform.fit(X, "none")
    assert none.shift.tolist() == [0, 0]
    assert none.unit.tolist() == [1, 1]


@pytest.mark.parametrize("mode", ["shared", "per_feature"])
def test_transform_survives_extremes(mode):
    X = np.array([[1e300, 5.0, 1e-300, 0.0], [-1e300, 5.0, 3e-300, 0.0]])
    transform = Transform.fit(X, mode)
    assert np.isfinite(transform.unit).all()
    assert (transform.unit > 0).all()
    assert torch.isfinite(transform.encode(X, torch.float32)).all()
    if mode == "per_feature":
        assert transform.unit[0] == pytest.approx(1e300)
        assert transform.unit[1] == transform.unit[3] == 1  # constant
        assert transform.unit[2] == pytest.approx(1e-300)


def test_a_constant_with_rounding_noise_counts_as_constant():
    X = np.full((1000, 1), 0.1) * 3
    X[::2] = np.nextafter(X[0], 1)
    assert Transform.fit(X, "per_feature").unit[0] == 1


def test_check_support_names_the_cell_and_the_remedy():
    X = np.array([[0.0, 1.0], [0.5, 255.0]])
    with pytest.raises(DataError, match=r"X\[1, 1\] = 255.*'bernoulli'.*\[0, 1\].*Divide by 255"):
        check_support(X, Support(0.0, 1.0), "bernoulli")
    with pytest.raises(DataError, match=r"Negative values in data.*X\[0, 0\] = -1.*Rescale"):
        check_support(np.array([[-1.0, 2.0]]), Support(0.0, 1.0), "bernoulli")
    check_support(X, Support(), "gaussian")


def test_binarize_by_content_has_the_right_mean_and_depends_on_the_row_only():
    grey = np.random.default_rng(0).random((2000, 20))
    grey[:, 0], grey[:, 1] = 0, 1
    binary = binarize_by_content(grey)
    assert set(np.unique(binary)) == {0.0, 1.0}
    assert not binary[:, 0].any()
    assert binary[:, 1].all()
    assert binary.dtype == grey.dtype
    z = (binary - grey)[:, 2:].sum(0) / np.sqrt((grey * (1 - grey))[:, 2:].sum(0))
    assert np.abs(z).max() < 4
    order = np.random.default_rng(1).permutation(2000)
    assert np.array_equal(binarize_by_content(grey[order]), binary[order])
    assert np.array_equal(binarize_by_content(grey[7:8]), binary[7:8])
    assert np.array_equal(binarize_by_content(grey.astype(np.float32)), binary)
    assert not np.array_equal(binarize_by_content(grey, seed=1), binary)


def test_batches_cover_all_rows_once_in_an_order_of_their_own():
    source = Source(torch.arange(10.0)[:, None], seed=3)
    epochs = [[b.x.flatten().tolist() for b in source.batches(e, 4, CPU)] for e in (0, 0, 1)]
    assert [len(b) for b in epochs[0]] == [4, 3, 3]
    assert sorted(itertools.chain(*epochs[0])) == list(range(10))
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    other = Source(torch.arange(10.0)[:, None], seed=4)
    assert [b.x.flatten().tolist() for b in other.batches(0, 4, CPU)] != epochs[0]
    in_order = [b.x.flatten().tolist() for b in source.in_order(4, CPU)]
    assert list(itertools.chain(*in_order)) == list(range(10))


def test_no_batch_is_small():
    assert even_sizes(513, 64) == [57] * 9
    assert even_sizes(10, 4) == [4, 3, 3]
    assert even_sizes(8, 4) == [4, 4]
    assert even_sizes(3, 4) == [3]
    assert even_sizes(0, 4) == []


@pytest.mark.parametrize("levels", ["bytes", "floats"])
def test_stochastic_targets_are_drawn_afresh_with_the_right_mean(levels):
    grey = torch.tensor([[0.0, 51 / 255, 128 / 255, 1.0]])
    if levels == "floats":
        grey = grey * 0.999 + 0.0003
        grey[0, 0], grey[0, 3] = 0, 1
    source = Source(grey.expand(500, 4), binarize="stochastic", seed=0)
    assert source.x.dtype == (torch.uint8 if levels == "bytes" else torch.float32)
    epochs = [torch.cat([b.x for b in source.batches(e, 100, CPU)]) for e in range(20)]
    assert not torch.equal(epochs[0].sum(0), epochs[1].sum(0))
    assert torch.equal(epochs[0], torch.cat([b.x for b in source.batches(0, 100, CPU)]))
    x = torch.stack(epochs).flatten(0, 1)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(x.mean(0), grey[0], atol=0.02)
    assert x[:, 0].sum() == 0
    assert x[:, 3].all()
    # Held-out rows get their targets once.
    assert torch.equal(
        torch.cat([b.x for b in source.in_order(100, CPU)]),
        torch.cat([b.x for b in source.in_order(100, CPU)]),
    )


def test_threshold():
    source = Source(torch.tensor([[0.2, 0.5, 0.51]]), binarize="threshold")
    assert next(iter(source.in_order(1, CPU))).x.tolist() == [[0.0, 0.0, 1.0]]
    assert source.x.dtype == torch.uint8


# -- files ----------------------------------------------------------------------------------------


def write(tmp_path, name, values, columns=None):
    path = tmp_path / name
    path.write_bytes(files.to_bytes(values, columns, name))
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.tsv", "A.CSV"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tables_come_back_exactly(tmp_path, name, dtype):
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype) * 1e-7
    X[2, 1] = np.nan
    table = files.read(write(tmp_path, name, X, ["a", "b,c", 'd"']))
    assert np.array_equal(table.values.astype(dtype), X, equal_nan=True)
    if name.lower().endswith(("csv", "tsv")):
        assert table.columns == ("a", "b,c", 'd"')


def test_text_without_header_and_with_missing_words(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("1,NA\n\n,2.5\nnan,null\n")
    table = files.read(path)
    assert table.columns is None
    assert np.array_equal(table.values, [[1, np.nan], [np.nan, 2.5], [np.nan] * 2], equal_nan=True)


def test_idx_files(tmp_path):
    content = (
        bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (2, 1, 3)) + bytes(range(6))
    )
    for name, data in (("t-images-idx3-ubyte", content), ("a.idx.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        assert files.read(tmp_path / name).values.tolist() == [[[0, 1, 2]], [[3, 4, 5]]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n3\n", "line 3: 1 cells, expected 2"),
        ("x.csv", "a,b\n1,red\n", "line 2, column 'b': 'red' is not a number"),
        ("x.csv", "", "is empty"),
        ("x.npy", "nonsense", "not a readable NumPy file"),
        ("x.npz", "nonsense", "not a readable NumPy file"),
        ("x.xlsx", "nonsense", r"format is not known.*\.csv"),
    ],
)
def test_bad_files_say_where_and_what(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        files.read(tmp_path / name)


def test_objects_in_a_numpy_file_are_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable NumPy file"):
        files.read(tmp_path / "x.npy")


def test_archives_must_be_unambiguous(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.ones(1), b=np.ones(2))
    with pytest.raises(DataError, match="holds the arrays a, b"):
        files.read(tmp_path / "two.npz")
    np.savez(tmp_path / "x.npz", a=np.ones(1), X=np.ones((2, 2)))
    assert files.read(tmp_path / "x.npz").values.shape == (2, 2)
    with pytest.raises(FileNotFoundError, match="There is no data file"):
        files.read(tmp_path / "none.npy")


def test_what_cannot_be_written():
    with pytest.raises(DataError, match="cannot write this format"):
        files.to_bytes(np.ones((1, 1)), None, "x.xlsx")
    with pytest.raises(DataError, match=r"Write \.npy or \.npz"):
        files.to_bytes(np.ones((1, 1, 1)), None, "x.csv")
