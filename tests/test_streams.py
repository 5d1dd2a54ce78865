"""Rows in files: blocks, one pass of statistics, shuffled batches, and fits that stream them."""

import itertools
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from skvae import VAE, _rows, files, streams
from skvae.data import Source, Transform
from skvae.estimators._fit_rows import Streamed
from skvae.exceptions import DataError
from skvae.likelihoods import Bernoulli, Gaussian, LogNormal, Poisson
from skvae.streams import Rows, StreamSource, open_rows, survey

CPU = torch.device("cpu")
SMALL = {
    "n_components": 2,
    "hidden_layer_sizes": (16,),
    "max_epochs": 3,
    "batch_size": 32,
    "random_state": 0,
}


class Pieces(Rows):
    """Rows in memory in blocks of given sizes; counts what is read."""

    def __init__(self, X, sizes, columns=None):
        self.X, self.sizes = X, np.array(sizes)
        self.event_shape, self.dtype, self.columns = X.shape[1:], X.dtype, columns
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.reads = []

    def block(self, i):
        self.reads.append(i)
        return self.X[self.starts[i] : self.starts[i] + self.sizes[i]].reshape(-1, self.n_features)

    def origin(self, i):
        return f"part-{i}", 0


def source_of(X, sizes, **settings):
    rows = Pieces(X, sizes)
    d = rows.n_features
    settings = {"seed": 3, "identity": [], **settings}
    return StreamSource(rows, Transform(np.zeros(d), np.ones(d)), (d,), **settings)


def numbers(n):
    return np.arange(float(n))[:, None]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of at most 64 rows."""
    monkeypatch.setattr(_rows, "BLOCK_ROWS", 64)


# -- blocks -----------------------------------------------------------------------------------


def test_npy_folders_are_read_in_order_of_the_names(tmp_path, small_blocks):
    X = np.random.default_rng(0).normal(size=(300, 2, 3)).astype(np.float32)
    for name, part in [("b", X[100:110]), ("a", X[:100]), ("sub/c", X[110:])]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{name}.npy", part)
    np.save(tmp_path / "_hidden.npy", X[:1])
    rows = open_rows(tmp_path)
    assert rows.sizes.tolist() == [64, 36, 10, 64, 64, 62]
    assert rows.dtype == np.float32
    assert (len(rows), rows.n_features, rows.event_shape) == (300, 6, (2, 3))
    assert np.array_equal(rows.read(), X)
    assert np.array_equal(rows.block(4), X[174:238].reshape(64, 6))
    assert rows.origin(4) == (str(tmp_path / "sub" / "c.npy"), 64)
    assert np.array_equal(files.read(tmp_path).values, X)


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float32, np.int64, ">f8"])
def test_npy_blocks_have_the_dtype_that_arrays_in_memory_get(tmp_path, dtype, small_blocks):
    X = (np.random.default_rng(0).random((100, 3)) * 2).astype(dtype)
    np.save(tmp_path / "c.npy", X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    expected = np.float64 if np.dtype(dtype).itemsize == 8 else np.float32
    for name in ("c.npy", "f.npy"):
        rows = open_rows(tmp_path / name)
        assert rows.block(1).dtype == rows.dtype == expected
        assert np.array_equal(rows.read(), X)


def test_parquet_blocks_are_row_groups_or_parts_of_them(tmp_path, small_blocks):
    X = np.random.default_rng(0).normal(size=(390, 2))
    X[7, 1] = np.nan
    whole = np.arange(390)
    table = pa.table({"a": X[:, 0], "n": pa.array(whole, pa.int32()), "b": X[:, 1]})
    table = table.set_column(2, "b", pa.array(X[:, 1], from_pandas=True))  # NaN as null
    pq.write_table(table[:300], tmp_path / "1.parquet", row_group_size=200)
    pq.write_table(table[300:], tmp_path / "2.parquet", row_group_size=20)
    rows = open_rows(tmp_path)
    assert rows.columns == ("a", "n", "b")
    assert rows.sizes.tolist() == [64, 64, 64, 8, 64, 36, 20, 20, 20, 20, 10]
    expected = np.stack([X[:, 0], whole, X[:, 1]], 1)
    assert np.array_equal(rows.read(), expected, equal_nan=True)
    ends = np.cumsum(rows.sizes)
    for i in (2, 1, 5, 4, 5, 10, 3, 0):  # back and forth
        assert np.array_equal(
            rows.block(i), expected[ends[i] - rows.sizes[i] : ends[i]], equal_nan=True
        )
    assert rows.origin(5) == (str(tmp_path / "1.parquet"), 264)
    assert files.read(tmp_path / "2.parquet").columns == ("a", "n", "b")


def test_views_leave_rows_out_and_divide(tmp_path):
    rows = Pieces(numbers(30), [10, 5, 15])
    view = streams.Rows.read(_rows.Without(rows, np.array([29, 0, 10, 11, 12, 13, 14])))
    assert view[:, 0].tolist() == [*range(1, 10), *range(15, 29)]
    assert len(_rows.Without(rows, np.array([3]))) == 29
    assert np.array_equal(_rows.Divided(rows, 4.0).read(), numbers(30) / 4)


def test_files_that_do_not_fit_together_are_named(tmp_path):
    def error(match):
        return pytest.raises(DataError, match=match)

    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_rows(tmp_path / "nowhere")
    with error(r"holds no \.npy and no \.parquet"):
        open_rows(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros((0, 3)))
    with error("there are no rows"):
        open_rows(tmp_path)
    np.save(tmp_path / "b.npy", np.zeros((2, 4)))
    with error(r"b\.npy has rows of shape \(4,\), but .*a\.npy has rows of shape \(3,\)"):
        open_rows(tmp_path)
    np.save(tmp_path / "b.npy", np.zeros(4))
    with error(r"b\.npy has shape \(4,\)"):
        open_rows(tmp_path)
    np.save(tmp_path / "b.npy", np.array([["x"]]))
    with error(r"b\.npy holds <U1"):
        open_rows(tmp_path)
    np.save(tmp_path / "b.npy", np.zeros((9, 3)))
    content = (tmp_path / "b.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(content[:-1])
    with error(r"b\.npy is truncated.*216 bytes"):
        open_rows(tmp_path)
    (tmp_path / "b.npy").write_bytes(content[:20])
    with error(r"b\.npy is not a readable NumPy file"):
        open_rows(tmp_path)


def test_parquet_files_that_do_not_fit_together_are_named(tmp_path):
    def write(name, **columns):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")

    def error(match):
        return pytest.raises(DataError, match=match)

    write("a", x=[1.0], y=[2.0])
    write("b", x=[1.0], z=[2.0])
    with error(r"b\.parquet does not have the columns of .*a\.parquet; differing: y, z"):
        open_rows(tmp_path)
    write("b", y=[1.0], x=[2.0])
    with error(r"b\.parquet.*their order differs"):
        open_rows(tmp_path)
    write("b", x=[1.0], y=[2])
    with error(r"b\.parquet, column 'y' holds int64, but double in .*a\.parquet"):
        open_rows(tmp_path)
    write("b", x=[1.0], y=["red"])
    with error(r"b\.parquet, column 'y' holds string, but numbers"):
        open_rows(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"nonsense")
    with error(r"b\.parquet is not a readable Parquet file"):
        open_rows(tmp_path)
    np.save(tmp_path / "c.npy", np.zeros((2, 2)))
    with error("keep one kind"):
        open_rows(tmp_path)


# -- one pass ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "shared", "per_feature", "scale"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_pass_finds_the_transform_of_rows_in_memory(mode, dtype):
    X = np.random.default_rng(0).gamma(2.0, size=(5000, 4)) * [1, 1e-6, 1e6, 3] + [0, 0, 1e9, 0]
    X = X.astype(dtype)
    X[:, 3] = dtype(0.1) * dtype(3)  # constant up to rounding, in float64
    X[::2, 3] = np.nextafter(X[0, 3], dtype(1))
    found = survey(Pieces(X, [1, 999, 3000, 7, 993]), 0)
    here, there = found.transform(mode), Transform.fit(X, mode)
    assert np.abs((here.shift - there.shift) / np.abs(X).max(0)).max() < 1e-12
    largest = np.abs(X).max() if mode == "shared" else np.abs(X).max(0)
    assert (np.abs((here.unit - there.unit) / largest) < 1e-12).all()
    assert here.unit[3] == 1 or mode != "per_feature" or dtype == np.float32
    assert np.allclose(found.mean * found.unit, X.mean(0, dtype=np.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", ["shared", "per_feature"])
def test_one_pass_survives_extremes(mode):
    X = np.array([[0.0, 5.0, 1e-300, 0.0], [-1e300, 5.0, 3e-300, 0.0], [1e300, 5.0, 2e-300, 0.0]])
    here = survey(Pieces(X, [1, 1, 1]), 0).transform(mode)
    there = Transform.fit(X, mode)
    assert np.allclose(here.unit, there.unit, rtol=1e-12, atol=0)
    assert np.allclose(here.shift, there.shift, rtol=1e-12, atol=1e-310)


def test_one_pass_knows_binary_whole_and_range():
    X = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    found = survey(Pieces(X, [2, 1]), 0)
    assert found.binary
    assert found.whole
    X[2] = 3.0, -2.0
    found = survey(Pieces(X, [2, 1]), 0)
    assert not found.binary
    assert found.whole
    assert found.low.tolist() == [0, -2]
    assert found.high.tolist() == [3, 1]
    X[0, 0] = 0.5
    assert not survey(Pieces(X, [2, 1]), 0).whole


def test_the_sample_is_random_rows_of_a_function_of_the_seed(monkeypatch):
    monkeypatch.setattr(streams, "SAMPLE_ROWS", 200)
    rows = Pieces(numbers(5000), [1000] * 5)
    found = survey(rows, 7)
    assert rows.reads == [0, 1, 2, 3, 4]
    assert found.sample[:, 0].tolist() == found.index.tolist()
    assert len(set(found.index)) == 200
    assert np.abs(found.index[:100].mean() - 2500) < 4 * 5000 / np.sqrt(12 * 100)
    assert np.abs(np.corrcoef(found.index, np.arange(200))[0, 1]) < 0.3
    assert np.array_equal(survey(rows, 7).index, found.index)
    assert not np.array_equal(survey(rows, 8).index, found.index)
    monkeypatch.setattr(streams, "SAMPLE_BYTES", 8 * 150)
    assert len(survey(rows, 7).index) == 150


def test_bad_cells_are_named_by_file_row_and_column(tmp_path, small_blocks):
    X = np.zeros((200, 3))
    np.save(tmp_path / "a.npy", X)
    X[150, 2] = np.nan
    np.save(tmp_path / "b.npy", X)
    with pytest.raises(
        DataError, match=r"NaN.*b\.npy, row 150, column 2\. VAE.*in memory.*impute"
    ):
        VAE(**SMALL).fit(tmp_path)
    X[150, 2] = np.inf
    pq.write_table(pa.table(dict(zip("uvw", X.T, strict=True))), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"infinity.*c\.parquet, row 150, column 'w'\. Replace"):
        VAE(**SMALL).fit(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("likelihood", "value"),
    [(Bernoulli(), 1.5), (Bernoulli(), -0.5), (Poisson(), 0.5), (LogNormal(), 0.0)],
)
def test_values_outside_the_support_are_named_by_file_row_and_column(likelihood, value):
    X = np.ones((30, 2))
    Streamed(Pieces(X, [10, 20]), 0).check(likelihood)
    X[25, 1] = value
    with pytest.raises(DataError, match=rf"part-1\[15, 1\] = {value:g}, .*{likelihood.name}"):
        Streamed(Pieces(X, [10, 20]), 0).check(likelihood)
    Streamed(Pieces(X, [10, 20]), 0).check(Gaussian())


# -- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [4, 4 * 20, 4 * 37, 4 * 1000])
@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_every_row_comes_once_in_full_batches(buffer, size):
    source = source_of(numbers(111), [10, 1, 30, 0, 20, 50], buffer_bytes=buffer)
    assert len(source) == 111
    for epoch in (0, 1):
        batches = [b.x[:, 0] for b in source.batches(epoch, size, CPU)]
        assert sorted(torch.cat(batches).tolist()) == list(range(111))
        assert all(len(b) == size for b in batches[:-1])
        assert len(batches[-1]) == (111 % size or size)


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        source = source_of(numbers(500), [50] * 10, seed=seed, buffer_bytes=4 * 150)
        return torch.cat([b.x for b in source.batches(epoch, 32, CPU)])[:, 0].tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(s, e)) for s, e in itertools.product((1, 2), (0, 1))}) == 4


@pytest.mark.parametrize("size", [7, 64])
def test_a_resumed_epoch_goes_on_exactly_and_skips_without_reading(size):
    source = source_of(
        np.random.default_rng(0).random((500, 3)),
        [50] * 10,
        buffer_bytes=12 * 150,
        binarize="stochastic",
    )
    whole = [b.x for b in source.batches(4, size, CPU)]
    for skip in (0, 1, len(whole) // 2, len(whole) - 1, len(whole)):
        source.rows.reads.clear()
        rest = [b.x for b in source.batches(4, size, CPU, skip=skip)]
        assert len(rest) == len(whole) - skip
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[skip:], strict=True))
        assert len(source.rows.reads) == 10 - 3 * (skip * size // 150 if skip else 0) or (
            skip == len(whole) and not source.rows.reads
        )


def test_rows_that_were_together_in_the_file_are_spread():
    blocks, per_block, held = 200, 50, 20
    source = source_of(
        numbers(blocks * per_block), [per_block] * blocks, buffer_bytes=4 * per_block * held
    )
    assert {len(g) for g in source.groups(0)} == {held}
    batches = [b.x[:, 0].numpy() for b in source.batches(0, 250, CPU)]
    # 250 draws leave one of 20 blocks out with probability below 1e-4.
    assert min(len(np.unique(b // per_block)) for b in batches) == held
    order = np.concatenate(batches)
    position = np.corrcoef(order, np.arange(len(order)))[0, 1]
    # Blocks, not rows, are independent between buffers: the error is that of 200 numbers.
    assert abs(position) < 4 / np.sqrt(blocks)
    neighbours = np.corrcoef(order[:-1], order[1:])[0, 1]
    assert abs(neighbours) < 0.2
    means = np.array([b.mean() for b in batches])
    # As a sample of 20 blocks without replacement, not as a slice of sorted rows.
    assert means.std() < 1.5 * order.std() / np.sqrt(held)


def test_what_fits_into_the_buffer_is_shuffled_as_a_whole():
    source = source_of(numbers(1000), [100] * 10)
    order = torch.cat([b.x for b in source.batches(0, 100, CPU)])[:, 0].numpy()
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15
    assert (np.abs(np.diff(order)) == 1).sum() < 20


def test_in_order_is_in_order_with_the_same_targets():
    X = np.random.default_rng(0).random((100, 3)).astype(np.float32)
    plain = source_of(X, [30, 70])
    assert torch.equal(
        torch.cat([b.x for b in plain.in_order(16, CPU)]), torch.from_numpy(X).float()
    )
    binary = source_of(X, [30, 70], binarize="stochastic")
    first, second = ([b.x for b in binary.in_order(16, CPU)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    # The same noise as rows in memory get.
    there = Source(torch.from_numpy(X), binarize="stochastic", seed=3).in_order(16, CPU)
    assert all(torch.equal(a, b.x) for a, b in zip(first, there, strict=True))
    other = torch.cat([b.x for b in binary.batches(0, 100, CPU)])
    assert set(other.unique().tolist()) == {0.0, 1.0}
    threshold = source_of(X, [30, 70], binarize="threshold")
    assert torch.equal(
        torch.cat([b.x for b in threshold.in_order(16, CPU)]), torch.from_numpy(X > 0.5).float()
    )


def test_rows_are_put_into_model_units_and_shape():
    rows = Pieces(np.arange(24.0).reshape(4, 6), [4])
    source = StreamSource(rows, Transform(np.ones(6), np.full(6, 2.0)), (2, 3), identity=[])
    (batch,) = source.in_order(9, CPU)
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x, (torch.arange(24.0).view(4, 2, 3) - 1) / 2)


# -- fits -------------------------------------------------------------------------------------


def saved(folder, X, cuts=(100, 130)):
    for i, part in enumerate(np.split(X, cuts)):
        np.save(folder / f"part-{i}.npy", part)
    return folder


def weights_of(vae):
    return {k: v.numpy().tobytes() for k, v in vae._core.module.state_dict().items()}


def correlated(n, d=6):
    random = np.random.default_rng(1)
    return random.normal(size=(n, 2)) @ random.normal(size=(2, d)) + random.normal(size=(n, d))


def test_a_stream_reaches_the_bound_of_rows_in_memory(tmp_path, small_blocks):
    X, held_out = np.split(correlated(1500), [1000])
    settings = {**SMALL, "max_epochs": 40, "learning_rate": 0.01}
    ordered = X[np.argsort(X[:, 0])]
    stream = VAE(**settings).fit(saved(tmp_path, ordered, (400, 410)))
    memory = VAE(**settings).fit(X)
    assert stream.n_features_in_ == 6
    assert "valid_elbo" in stream.history_.columns
    start = memory.history_[0]["train_elbo"]
    gain = memory.score(held_out) - start
    assert gain > 0.5
    assert stream.score(held_out) == pytest.approx(memory.score(held_out), abs=0.1 * gain)
    assert np.allclose(stream._core.transform.shift, memory._core.transform.shift, atol=1e-12)
    assert np.allclose(stream._core.transform.unit, memory._core.transform.unit, rtol=1e-12)


def test_a_streamed_estimator_is_like_any_other(tmp_path, small_blocks):
    X = correlated(300, 3)
    names = ["a", "b", "c"]
    pq.write_table(pa.table(dict(zip(names, X.T, strict=True))), tmp_path / "x.parquet")
    vae = VAE(**SMALL).fit(str(tmp_path / "x.parquet"))
    assert vae.feature_names_in_.tolist() == names
    assert vae.event_shape_ == (3,)
    assert vae.likelihood_ == Gaussian(scale="per_feature")
    table = files.Table(X, tuple(names))
    Z = vae.transform(table)
    assert np.array_equal(vae.transform(tmp_path / "x.parquet"), Z)
    assert np.array_equal(
        vae.score_samples(tmp_path / "x.parquet", n_samples=3),
        vae.score_samples(table, n_samples=3),
    )
    other = pa.table({"a": X[:, 0], "c": X[:, 2], "b": X[:, 1]})
    pq.write_table(other, tmp_path / "y.parquet")
    for call in (vae.transform, vae.score_samples):
        with pytest.raises(DataError, match=r"y\.parquet.*columns of X are a, c, b"):
            call(tmp_path / "y.parquet")
    holes = X.copy()
    holes[3, 1] = np.nan
    pq.write_table(pa.table(dict(zip(names, holes.T, strict=True))), tmp_path / "z.parquet")
    filled = vae.impute(tmp_path / "z.parquet", n_samples=4)
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[4:], X[4:])
    again = VAE(**SMALL).fit(open_rows(tmp_path / "x.parquet"))
    assert weights_of(again) == weights_of(vae)
    before = weights_of(again)
    again.set_params(warm_start=True).fit(tmp_path / "x.parquet")
    assert len(again.history_) == 6
    assert weights_of(again) != before
    again.partial_fit(tmp_path / "x.parquet")
    assert len(again.history_) == 7
    again.fit_prior(tmp_path / "x.parquet", n_steps=3)
    assert again._core.spec.prior.name == "gaussian_mixture"


def test_binary_streams_get_a_bernoulli_likelihood_and_images_their_shape(tmp_path):
    X = (np.random.default_rng(0).random((200, 4, 5)) < 0.2).astype(np.uint8)
    vae = VAE(**SMALL).fit(saved(tmp_path, X))
    assert vae.likelihood_ == Bernoulli()
    assert vae.event_shape_ == (4, 5)
    assert vae.sample(2, random_state=0).shape == (2, 4, 5)
    base = VAE(**SMALL | {"learning_rate": 1e-30}).fit(tmp_path)._core.module.likelihood.base
    mean = X.mean(0).clip(1e-3, 1 - 1e-3)
    assert np.allclose(base.numpy(), np.log(mean / (1 - mean)), atol=1e-5)


def test_held_out_rows_are_not_trained_on(monkeypatch):
    monkeypatch.setattr(streams, "SAMPLE_ROWS", 40)
    rows = Streamed(Pieces(numbers(1000), [100] * 10), 5)
    train, valid = rows.hold_out(25)
    assert (len(train), len(valid)) == (975, 25)
    together = np.concatenate([train.rows.read()[:, 0], valid.X[:, 0]])
    assert sorted(together) == list(range(1000))
    assert np.array_equal(rows.hold_out(25)[1].X, valid.X)
    assert len(rows.hold_out(100)[1]) == 40
    assert not np.array_equal(Streamed(rows.rows, 6).hold_out(25)[1].X, valid.X)
    assert train.varied
    assert not Streamed(Pieces(np.ones((9, 2)), [4, 5]), 0).varied


class Killed(BaseException):
    """What no handler of the library catches."""


@pytest.mark.parametrize("last", [1, 6, 13])
def test_killed_in_mid_epoch_and_resumed_ends_with_the_same_bytes(
    tmp_path, monkeypatch, small_blocks, last
):
    from skvae import checkpoint as checkpoints
    from skvae.training import Trainer

    monkeypatch.setattr(streams, "BUFFER_BYTES", 4 * 6 * 64)
    monkeypatch.setattr(
        StreamSource.__init__,
        "__kwdefaults__",
        {**StreamSource.__init__.__kwdefaults__, "buffer_bytes": 4 * 6 * 64},
    )
    monkeypatch.setattr(checkpoints.Checkpoint, "due", True)
    folder = tmp_path / "data"
    folder.mkdir()
    saved(folder, correlated(300))
    whole = VAE(**SMALL).fit(folder)
    vae = VAE(**SMALL, checkpoint=str(tmp_path / "state"))
    step, calls = Trainer._step, itertools.count()

    def mortal(self, *arguments):
        if next(calls) == last:
            raise Killed
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", mortal)
    with pytest.raises(Killed):
        vae.fit(folder)
    monkeypatch.setattr(Trainer, "_step", step)
    vae.fit(folder)
    assert weights_of(vae) == weights_of(whole)


def test_identity_tells_other_rows_and_another_order():
    X = correlated(100)
    changed = X.copy()
    changed[50, 3] += 1e-9

    def identity(X):
        tensors = survey(Pieces(X, [60, 40]), 0).identity()
        return [t.numpy().tobytes() for t in tensors]

    assert identity(X) == identity(X.copy())
    assert identity(X) != identity(changed)
    assert identity(X) != identity(X[::-1].copy())


MEASURE = """
import resource, sys
import numpy as np
from skvae import VAE, files, streams, _rows
files.STREAM_ABOVE = 1 << 20
settings = dict(n_components=2, hidden_layer_sizes=(8,), max_epochs=1, batch_size=1024,
                random_state=0)
VAE(**settings).fit(np.random.default_rng(0).random((400, 256)))  # everything is loaded
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = mapped + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
streams.StreamSource.__init__.__kwdefaults__["buffer_bytes"] = 1 << 23
streams.SAMPLE_ROWS = 1000
vae = VAE(**settings)
print(len(vae.fit(sys.argv[1]).transform(sys.argv[1])))
try:
    np.load(sys.argv[1])
except MemoryError:
    print("out of memory")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_bounded_whatever_the_size_of_the_file(tmp_path):
    n = 160_000  # 164 MB
    random = np.random.default_rng(0).random((10_000, 256), dtype=np.float32)
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, 256)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(n // len(random)):
            file.write(random.tobytes())

    command = [sys.executable, "-c", MEASURE, str(tmp_path / "x.npy"), "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:2] == [str(n), "out of memory"], done.stderr


# -- the command line -------------------------------------------------------------------------


def skvae(capsys, *arguments):
    from skvae.cli import main

    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return out


def test_the_command_line_streams_from_and_to_files(tmp_path, capsys, small_blocks):
    X = correlated(200, 3).astype(np.float32)
    folder = tmp_path / "data"
    folder.mkdir()
    saved(folder, X)
    model = tmp_path / "m.safetensors"
    flags = "-q --n-components 2 --hidden-layer-sizes 8 --max-epochs 2 --random-state 0"
    skvae(capsys, "fit", folder, "-o", model, "--divide-by", 2, *flags.split())
    vae = VAE(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0)
    vae.fit(_rows.Divided(open_rows(folder), 2))
    Z = vae.transform(_rows.Divided(open_rows(folder), 2))
    assert np.allclose(Z, vae.transform(X / 2), atol=1e-6)
    names = ["vae0", "vae1"]
    for ending in (".npy", ".parquet", ".csv", ".tsv"):
        out = tmp_path / f"z{ending}"
        skvae(capsys, "transform", model, folder, "--divide-by", 2, "-o", out, "-q")
        table = files.read(out)
        assert np.array_equal(table.values.astype(np.float32), Z)
        assert table.columns == (None if ending == ".npy" else tuple(names))
    assert np.load(tmp_path / "z.npy").dtype == np.float32
    text = skvae(capsys, "transform", model, folder, "--divide-by", 2, "-q")
    assert text == (tmp_path / "z.csv").read_text()
    skvae(
        capsys,
        "score",
        model,
        folder,
        "--divide-by",
        2,
        "--n-samples",
        5,
        "-o",
        tmp_path / "s.npy",
        "-q",
    )
    scores = np.load(tmp_path / "s.npy")[:, 0]
    assert np.allclose(scores, vae.score_samples(X / 2, n_samples=5), rtol=1e-5)
    skvae(capsys, "sample", model, "-n", 3, "-o", tmp_path / "x.parquet", "-q")
    assert files.read(tmp_path / "x.parquet").values.shape == (3, 3)


def test_a_result_is_written_whole_or_not_at_all(tmp_path):
    from skvae._writers import writing

    target = tmp_path / "z.npy"
    with pytest.raises(TypeError), writing(target, 4, ["a"]) as write:
        write(None)
    assert list(tmp_path.iterdir()) == []
    with writing(target, 4, ["a"]) as write:
        write(np.zeros((2, 1)))
        write(np.ones((2, 1)))
    assert np.load(target)[:, 0].tolist() == [0, 0, 1, 1]
    with pytest.raises(FileExistsError), writing(target, 4, ["a"]):
        pass
    with (
        pytest.raises(DataError, match=r"z\.npz: cannot write"),
        writing(tmp_path / "z.npz", 4, ["a"]),
    ):
        pass


def test_a_stream_is_evaluated_as_its_rows_are(tmp_path, small_blocks, monkeypatch):
    from skvae.estimators import _scores

    X = correlated(300)
    vae = VAE(**SMALL).fit(X)
    whole, stream = vae.evaluate(X, n_samples=5), vae.evaluate(saved(tmp_path, X), n_samples=5)
    here, there = whole.to_dict(), stream.to_dict()
    assert here.keys() == there.keys()
    for name, value in here.items():
        same = value is None or pytest.approx(value, rel=1e-9, nan_ok=True)
        assert there[name] == same or there[name] is value, name
    monkeypatch.setattr(_scores, "ROWS_FOR_KL", 100)
    less = vae.evaluate(tmp_path, n_samples=5)
    assert less.log_likelihood == stream.log_likelihood
    assert less.mutual_information == pytest.approx(stream.mutual_information, abs=0.5)
