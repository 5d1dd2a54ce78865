"""The VAE estimator as a user meets it."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skvae import VAE, files, likelihoods, load, networks, objectives, posteriors, priors
from skvae.estimators._choices import pick_precision
from skvae.evaluation import LikelihoodReport, imputation_rmse, likelihood_report
from skvae.exceptions import DataError, ParameterError, TrainingDivergedError
from skvae.models import Assembly
from skvae.networks import MLP

SMALL = {"max_epochs": 2, "hidden_layer_sizes": (8,), "random_state": 0, "n_components": 2}


@pytest.fixture(scope="module")
def table():
    """Real-valued rows with correlated columns."""
    g = np.random.default_rng(0)
    return g.normal(size=(60, 2)) @ g.normal(size=(2, 5)) + 0.1 * g.normal(size=(60, 5))


# -- what it learns -------------------------------------------------------------------------------


def test_it_learns_the_digits(digits):
    X, _ = digits
    options = {"likelihood": "bernoulli", "n_components": 8, "random_state": 0}
    options["hidden_layer_sizes"] = (64,)
    short = VAE(max_epochs=1, **options).fit(X)
    vae = VAE(max_epochs=60, **options).fit(X)
    assert vae.score(X) > short.score(X) + 2
    p = X.mean(0)  # a model without latent variables
    independent = (X * np.log(p + 1e-9) + (1 - X) * np.log(1 - p + 1e-9)).sum(1).mean()
    assert vae.score(X) > independent + 2.5
    error = np.mean((vae.inverse_transform(vae.transform(X)) - X) ** 2)
    assert error < 0.6 * np.mean((X.mean(0) - X) ** 2)


def test_the_tag_for_positive_data_follows_the_likelihood():
    wanted = {"auto": False, "bce": True, "poisson": True, "mse": False, "nonsense": False}
    for name, positive in wanted.items():
        tags = VAE(likelihood=name).__sklearn_tags__()
        assert tags.input_tags.positive_only is positive


def test_auto_chooses_the_likelihood_and_says_so(digits, table):
    binary = (digits[0][:50] > 0.5).astype(float)
    assert VAE(**SMALL).fit(binary).likelihood_ == likelihoods.Bernoulli()
    assert VAE(**SMALL).fit(table).likelihood_ == likelihoods.Gaussian(scale="per_feature")


def test_names_aliases_and_specs_are_equal(table):
    named = VAE(likelihood="mse", **SMALL).fit(table)
    spec = VAE(likelihood=likelihoods.Gaussian(scale="unit"), **SMALL).fit(table)
    assert np.array_equal(named.transform(table), spec.transform(table))
    by_network = VAE(network=networks.MLP((8,)), likelihood="mse", **SMALL).fit(table)
    assert np.array_equal(named.transform(table), by_network.transform(table))
    weighted = VAE(objective=objectives.ELBO(beta=5.0), likelihood="mse", **SMALL).fit(table)
    assert not np.array_equal(named.transform(table), weighted.transform(table))


def test_history_and_early_stopping(digits):
    X = digits[0]
    vae = VAE(likelihood="bernoulli", max_epochs=3, hidden_layer_sizes=(8,), random_state=0).fit(X)
    assert vae.n_iter_ == len(vae.history_) == 3
    assert {"train_elbo", "valid_elbo", "learning_rate", "seconds"} <= set(vae.history_.columns)
    off = clone(vae).set_params(early_stopping=False).fit(X)
    assert "valid_elbo" not in off.history_.columns
    tiny = VAE(**SMALL).fit(X[:30])  # 3 rows are too few to hold out
    assert "valid_elbo" not in tiny.history_.columns
    stopped = clone(vae).set_params(max_epochs=50, n_iter_no_change=1, tol=1e6).fit(X)
    assert stopped.n_iter_ == 2


@pytest.mark.parametrize("name", ["elbo", "iwae", "capacity"])
def test_objectives_by_name_and_what_early_stopping_watches(digits, tmp_path, name):
    X = digits[0][:300]
    vae = VAE(objective=name, likelihood="bernoulli", n_iter_no_change=1, **SMALL).fit(X)
    watched = "valid_iwae" if name == "iwae" else "valid_elbo"
    assert watched in vae.history_.columns
    assert "train_elbo" in vae.history_.columns
    vae.save(tmp_path / "m")
    assert load(tmp_path / "m").objective == name
    if name == "iwae":
        assert (vae.history_["train_iwae"] >= vae.history_["train_elbo"] - 0.5).all()


def test_the_same_seed_gives_the_same_bytes(digits, tmp_path):
    X = digits[0][:200]
    for name in ("a", "b"):
        VAE(likelihood="bernoulli", **SMALL).fit(X).save(tmp_path / name)
    a, b = load(tmp_path / "a"), load(tmp_path / "b")
    assert np.array_equal(a.transform(X), b.transform(X))
    other = VAE(likelihood="bernoulli", **SMALL).set_params(random_state=1).fit(X)
    assert not np.array_equal(a.transform(X), other.transform(X))


@pytest.mark.parametrize(
    "seed", [np.random.RandomState(0), np.random.default_rng(0), np.int64(3), None]
)
def test_every_kind_of_random_state(table, seed):
    vae = VAE(**{**SMALL, "random_state": seed}).fit(table)
    assert np.isfinite(vae.score(table))
    assert vae.sample(2, random_state=copy.deepcopy(seed)).shape == (2, 5)


def test_partial_fit_goes_on_and_never_starts_afresh(digits):
    X = digits[0][:320]
    vae = VAE(likelihood="bernoulli", hidden_layer_sizes=(32,), random_state=0, n_components=2)
    scores = []
    for _ in range(4):
        for part in np.split(X, 2):
            vae.partial_fit(part)
        scores.append(vae.score(X))
    assert scores == sorted(scores)
    assert vae.n_iter_ == 8
    with pytest.raises(ValueError, match="3 features, but VAE is expecting 64"):
        vae.partial_fit(X[:, :3])


def test_warm_start(digits):
    X = digits[0][:320]
    vae = VAE(likelihood="bernoulli", warm_start=True, early_stopping=False, **SMALL)
    first = vae.fit(X).score(X)
    second = vae.fit(X).score(X)
    assert second > first
    assert vae.n_iter_ == 4
    cold = VAE(likelihood="bernoulli", early_stopping=False, **SMALL)
    assert cold.fit(X).score(X) == cold.fit(X).score(X) == first


# -- containers and shapes ------------------------------------------------------------------------


def test_pandas_in_pandas_out(table):
    df = pd.DataFrame(table, columns=list("abcde"), index=np.arange(60) * 7)
    vae = VAE(**SMALL).fit(df)
    assert list(vae.feature_names_in_) == list("abcde")
    assert list(vae.sample(3).columns) == list("abcde")
    assert isinstance(vae.inverse_transform(vae.transform(df)), pd.DataFrame)
    named = vae.set_output(transform="pandas").transform(df)
    assert list(named.columns) == ["vae0", "vae1"]
    holes = df.copy()
    holes["i"] = 1
    holes = df.mask(np.random.default_rng(0).random(df.shape) < 0.2)
    full = vae.impute(holes)
    assert full.index.equals(df.index)
    assert not full.isna().any().any()
    assert ((full == df) | holes.isna()).all().all()
    assert holes.isna().any().any()  # the user's frame is as it was
    draws = vae.impute(holes, n_draws=2, random_state=0)
    assert len(draws) == 2
    assert isinstance(draws[0], pd.DataFrame)
    with pytest.raises(ValueError, match="feature names"):
        vae.transform(df.rename(columns={"a": "z"}))


def test_polars_in_polars_out(table):
    df = pl.DataFrame(table, schema=list("abcde"))
    vae = VAE(**SMALL).fit(df)
    assert vae.sample(2, random_state=0).columns == list("abcde")
    holes = df.with_columns(a=pl.when(pl.col("a") > 0).then(pl.col("a")).otherwise(None))
    full = vae.impute(holes)
    assert isinstance(full, pl.DataFrame)
    assert full["a"].is_null().sum() == 0
    assert full["b"].equals(df["b"])


def test_pandas_nullable_types_count_as_missing(table):
    df = pd.DataFrame({"a": table[:, 0], "b": table[:, 1]}).convert_dtypes()
    df.loc[3, "a"] = pd.NA
    holes = df.astype(float)
    assert np.isnan(holes.loc[3, "a"])
    vae, same = VAE(**SMALL).fit(df), VAE(**SMALL).fit(holes)
    assert np.array_equal(vae.transform(df), same.transform(holes))


def test_tables_from_files_keep_their_names(table, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(files.to_bytes(table, list("abcde"), "t.csv"))
    vae = VAE(**SMALL).fit(path)
    assert list(vae.feature_names_in_) == list("abcde")
    assert np.allclose(vae.transform(path), vae.transform(files.read(path)))
    path.write_bytes(files.to_bytes(table, list("edcba"), "t.csv"))
    with pytest.raises(DataError, match=r"columns of X are e, d, c, b, a.*fitted with a, b"):
        vae.transform(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, bool, np.int64, ">f8"])
def test_number_types(dtype):
    X = (np.random.default_rng(0).random((40, 5)) < 0.4).astype(dtype)
    vae = VAE(**SMALL).fit(X)
    reference = VAE(**SMALL).fit(X.astype(np.float64))
    assert np.allclose(vae.transform(X), reference.transform(X.astype(np.float64)), atol=1e-5)
    Z = vae.transform(X)
    assert Z.dtype == (np.float32 if np.dtype(dtype).itemsize in (1, 2, 4) else np.float64)


def test_tensors_lists_and_layouts(table):
    vae = VAE(**SMALL).fit(torch.tensor(table, requires_grad=True))
    Z = vae.transform(table)
    for same in (
        table.tolist(),
        np.asfortranarray(table),
        np.repeat(table, 2, 0)[::2],
        table[::-1][::-1],
        torch.tensor(table),
    ):
        assert np.allclose(vae.transform(same), Z, atol=1e-12)


def test_images_keep_their_shape(digits):
    X = digits[0][:100].reshape(-1, 1, 8, 8)
    vae = VAE(likelihood="bernoulli", **SMALL).fit(X)
    assert vae.event_shape_ == (1, 8, 8)
    assert vae.sample(3).shape == (3, 1, 8, 8)
    assert vae.inverse_transform(vae.transform(X)).shape == X.shape
    holes = X.copy()
    holes[:, :, 4:] = np.nan
    assert vae.impute(holes).shape == X.shape
    assert vae.impute(holes, n_draws=2).shape == (2, *X.shape)
    flat = VAE(likelihood="bernoulli", event_shape=(1, 8, 8), **SMALL).fit(X.reshape(100, 64))
    assert flat.event_shape_ == (1, 8, 8)
    assert flat.sample(3).shape == (3, 64)
    assert np.array_equal(flat.transform(X.reshape(100, 64)), vae.transform(X))


def test_data_are_never_modified(digits):
    X = digits[0][:50].copy()
    X.flags.writeable = False
    before = X.copy()
    vae = VAE(likelihood="bernoulli", **SMALL).fit(X)
    vae.transform(X)
    vae.score_samples(X)
    assert np.array_equal(X, before)


# -- score ----------------------------------------------------------------------------------------


def test_scores_do_not_depend_on_order_or_company(fitted, digits):
    X = digits[0][:40]
    reference = fitted.score_samples(X, n_samples=20)
    order = np.random.default_rng(0).permutation(40)
    assert np.allclose(fitted.score_samples(X[order], n_samples=20), reference[order], atol=1e-9)
    alone = [fitted.score_samples(row[None], n_samples=20)[0] for row in X[:5]]
    assert np.allclose(alone, reference[:5], atol=1e-9)
    assert np.array_equal(fitted.score_samples(X, n_samples=20), reference)


def test_more_samples_tighten_the_bound(fitted, digits):
    X = digits[0][:200]
    means = [fitted.score_samples(X, n_samples=k).mean() for k in (1, 10, 300)]
    assert means[0] < means[1] - 0.05
    assert means[1] < means[2] + 0.05
    report = fitted.evaluate(X, n_samples=300)
    assert isinstance(report, LikelihoodReport)
    assert report.log_likelihood == pytest.approx(means[2])
    assert report.elbo < report.log_likelihood
    assert report.elbo == pytest.approx(report.reconstruction - report.kl)
    assert report.standard_error == pytest.approx(
        fitted.score_samples(X, n_samples=300).std(ddof=1) / np.sqrt(200)
    )
    assert 1 <= report.effective_sample_size <= 300
    assert sum(report.kl_per_dimension) == pytest.approx(report.kl)
    variances = fitted.transform(X).var(0)
    assert report.active_units == (variances > 0.01).sum()
    assert len(report.kl_per_dimension) == 4


def test_stochastic_binarisation_scores_binary_images(digits):
    X = digits[0]
    vae = VAE(
        likelihood="bernoulli", binarize="stochastic", max_epochs=5, random_state=0, n_components=2
    ).fit(X)
    grey = vae.score_samples(X[:100])
    assert np.array_equal(grey, vae.score_samples(X[:100]))
    from skvae.data import binarize_by_content

    binary = binarize_by_content(X[:100])
    assert np.all(grey < 0)
    report = vae.evaluate(X[:100], n_samples=5)
    assert sum(report.kl_per_dimension) == pytest.approx(report.kl)
    assert grey.mean() == pytest.approx(vae.score_samples(binary).mean(), abs=0.5)
    threshold = VAE(likelihood="bernoulli", binarize="threshold", **SMALL).fit(X)
    assert np.allclose(
        threshold.score_samples(X[:20]), threshold.score_samples((X[:20] > 0.5).astype(float))
    )


def test_float32_agrees_with_float64(fitted, digits):
    X = digits[0][:20]
    assert np.allclose(fitted.transform(X.astype(np.float32)), fitted.transform(X), atol=1e-4)
    single = fitted.score_samples(X.astype(np.float32), n_samples=5)
    assert single.dtype == np.float64
    assert np.allclose(single, fitted.score_samples(X, n_samples=5), atol=1e-2)


def test_report_of_one_row_has_no_standard_error():
    one = np.array([-1.0])
    report = likelihood_report(
        one,
        one,
        one,
        one,
        1,
        posterior_mean=one[None],
        kl_per_dimension=None,
        pareto_k=np.array([np.nan]),
        kl_split=None,
    )
    assert np.isnan(report.standard_error)
    assert report.active_units == 0
    assert report.kl_per_dimension is None
    truth, filled = np.array([[1.0, 2.0]]), np.array([[9.0, 5.0]])
    assert imputation_rmse(truth, filled, np.array([[False, True]])) == 3.0


# -- generate -------------------------------------------------------------------------------------


def test_samples_have_the_law_of_the_data(table):
    vae = VAE(
        n_components=2,
        hidden_layer_sizes=(),
        max_epochs=800,
        batch_size=60,
        learning_rate=0.03,
        early_stopping=False,
        random_state=0,
    ).fit(table)
    new = vae.sample(4000, random_state=0)
    assert np.allclose(new.mean(0), table.mean(0), atol=0.15)
    assert np.allclose(np.cov(new.T), np.cov(table.T), atol=0.35)


def test_draws_and_means(fitted):
    draws = fitted.sample(50, random_state=3)
    means = fitted.sample(50, kind="mean", random_state=3)
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert ((means > 0) & (means < 1)).all()
    assert np.array_equal(draws, fitted.sample(50, random_state=3))
    assert not np.array_equal(draws, fitted.sample(50, random_state=4))
    assert not np.array_equal(fitted.sample(50), fitted.sample(50))
    assert fitted.sample(0).shape == (0, 64)
    assert abs((draws - means).mean()) < 0.02


# -- fill in --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holes(digits):
    X = digits[0][:60].copy()
    missing = np.random.default_rng(0).random(X.shape) < 0.5
    missing[0], missing[1] = True, False
    return X, np.where(missing, np.nan, X), missing


def test_imputation_beats_the_mean_and_keeps_what_was_seen(digits, holes):
    X, broken, missing = holes
    vae = VAE(
        likelihood="bernoulli", n_components=8, hidden_layer_sizes=(64,), max_epochs=60,
        random_state=0,
    ).fit(digits[0])  # fmt: skip
    full = vae.impute(broken)
    assert np.array_equal(full[~missing], X[~missing])
    assert np.isfinite(full).all()
    mean_fill = np.broadcast_to(digits[0].mean(0), X.shape)
    rows = slice(2, None)
    ours = imputation_rmse(X[rows], full[rows], missing[rows])
    assert ours < 0.85 * imputation_rmse(X[rows], mean_fill[rows], missing[rows])
    # Where nothing was seen, the conditional mean is the mean of the model.
    assert np.abs(full[0] - vae.sample(4000, random_state=0).mean(0)).mean() < 0.05


def test_the_conditional_mean_does_not_depend_on_company(fitted, holes):
    _, broken, _ = holes
    full = fitted.impute(broken)
    assert np.array_equal(full, fitted.impute(broken))
    assert np.allclose(fitted.impute(broken[5:6]), full[5:6], atol=1e-9)
    assert np.allclose(fitted.impute(broken[::-1])[::-1], full, atol=1e-9)


def test_draws_differ_between_draws_and_rows(fitted, holes):
    X, broken, missing = holes
    twice = np.vstack([broken, broken])
    draws = fitted.impute(twice, n_draws=3, random_state=0)
    assert draws.shape == (3, 120, 64)
    both = np.vstack([missing, missing])
    assert np.array_equal(
        draws[:, ~both], np.broadcast_to(np.vstack([X, X])[~both], (3, (~both).sum()))
    )
    assert set(np.unique(draws[:, both])) == {0.0, 1.0}
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[:, :60], draws[:, 60:])  # equal rows, draws of their own
    assert np.array_equal(draws, fitted.impute(twice, n_draws=3, random_state=0))
    means = fitted.impute(broken, n_draws=2, kind="mean", random_state=0)
    assert ((means[:, missing] > 0) & (means[:, missing] < 1)).all()


def test_rows_without_holes_pass_through(fitted, digits):
    X = digits[0][:3]
    assert np.array_equal(fitted.impute(X), X)


# -- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0, 2.0], [np.inf, 3.0]], r"infinity: 1 cell\(s\), the first in row 1, column 0"),
        ([1.0, 2.0], "Reshape your data"),
        (np.empty((0, 3)), "0 sample"),
        (np.empty((3, 0)), "0 feature"),
        (np.array([[1 + 2j]]), "Complex data"),
        ([["a", "b"], ["c", "d"]], "could not convert|Unable to convert"),
    ],
)
def test_bad_data(X, message):
    with pytest.raises(ValueError, match=message):
        VAE(**SMALL).fit(X)


def test_bernoulli_says_what_to_do_with_bytes():
    X = np.array([[0, 255], [128, 3]], dtype=np.uint8)
    with pytest.raises(DataError, match=r"X\[0, 1\] = 255.*Divide by 255.*'gaussian'"):
        VAE(likelihood="bernoulli", **SMALL).fit(X)


def test_bad_data_after_fit(fitted, digits):
    X = digits[0][:2].copy()
    X[1, 5] = np.inf
    for call in (fitted.transform, fitted.score_samples, fitted.evaluate):
        with pytest.raises(DataError, match="row 1, column 5"):
            call(X)
    X[1, 5] = np.inf
    with pytest.raises(DataError, match="infinity"):
        fitted.impute(X)
    X[1, 5] = 2
    with pytest.raises(DataError, match="= 2, but likelihood='bernoulli'"):
        fitted.transform(X)
    with pytest.raises(DataError, match="= 2, but likelihood='bernoulli'"):
        fitted.impute(np.where(X[0, 0] == X, np.nan, X))
    with pytest.raises(DataError, match=r"Z has 3 columns, but z of this model has 4"):
        fitted.inverse_transform(np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "'n_components' parameter of VAE must be an int.*Got 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"batch_size": -1}, "batch_size"),
        ({"likelihood": "bernouli"}, "Did you mean 'bernoulli'"),
        ({"posterior": "diag"}, "Did you mean 'diagonal'"),
        ({"prior": "normal"}, "prior='normal' is not known"),
        ({"network": "mpl"}, "Did you mean 'mlp'"),
        ({"objective": "elob"}, "Did you mean 'elbo'"),
        ({"binarize": "yes"}, "binarize"),
        ({"binarize": "stochastic", "likelihood": "gaussian"}, "Use likelihood='bernoulli'"),
        ({"event_shape": (2, 2)}, "has 4 cells, but X has 5 features"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "Raise validation_fraction"),
        ({"device": "abacus"}, "device='abacus' cannot be used"),
        ({"hidden_layer_sizes": (0,)}, "integers >= 1"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_bad_parameters_leave_the_estimator_as_it_was(table, parameters, message):
    vae = VAE(**SMALL).fit(table)
    before, state = vae.transform(table), set(vars(vae))
    vae.set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        vae.fit(table[:, :5])
    assert set(vars(vae)) == state
    assert np.array_equal(vae.transform(table), before)
    fresh = VAE(**{**SMALL, **parameters})
    with pytest.raises(ValueError, match=message):
        fresh.fit(table)
    assert set(vars(fresh)) == set(vars(VAE()))


def test_a_misspelt_parameter_is_refused_at_once():
    with pytest.raises(TypeError, match="n_component"):
        VAE(n_component=3)
    with pytest.raises(ValueError, match="Invalid parameter 'n_component'"):
        VAE().set_params(n_component=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, X: v.sample(-1), "n_samples must be an integer >= 0"),
        (lambda v, X: v.sample(1, kind="best"), "kind must be"),
        (lambda v, X: v.sample(1, random_state="x"), "random_state"),
        (lambda v, X: v.score_samples(X, n_samples=0), "n_samples must be an integer >= 1"),
        (lambda v, X: v.impute(X, n_draws=0), "n_draws"),
        (lambda v, X: v.impute(X, n_samples=1.5), "n_samples"),
    ],
)
def test_bad_arguments(fitted, digits, call, message):
    with pytest.raises(ParameterError, match=message):
        call(fitted, digits[0][:2])


def test_unfitted():
    for call in (
        lambda v: v.transform([[1.0]]),
        lambda v: v.sample(),
        lambda v: v.save("x"),
        lambda v: v.impute([[1.0]]),
        lambda v: v.inverse_transform([[1.0]]),
    ):
        with pytest.raises(NotFittedError):
            call(VAE())


def test_divergence_keeps_the_model_fitted(table):
    from test_training import poisoned

    vae = VAE(objective=poisoned(range(3, 99)), **{**SMALL, "max_epochs": 50})
    with pytest.raises(TrainingDivergedError):
        vae.fit(table)
    assert np.isfinite(vae.transform(table)).all()


# -- numerics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        np.full((20, 3), 7.0),
        np.array([[5.0]]),
        np.random.default_rng(0).normal(size=(50, 1)),
        np.random.default_rng(0).normal(size=(50, 2)) * [1e12, 1e-12],
        np.random.default_rng(0).normal(size=(50, 2)) + np.array([1e12, 0]),
        np.random.default_rng(0).normal(size=(50, 2)) * 1e39,
        np.tile([[1.0, 2.0]], (50, 1)),
    ],
    ids=["constant", "one cell", "one column", "scales", "offset", "beyond float32", "duplicates"],
)
@pytest.mark.parametrize("likelihood", ["auto", "mse", "global", "per_cell"])
def test_awkward_tables_stay_finite(X, likelihood):
    if likelihood in ("global", "per_cell"):
        likelihood = likelihoods.Gaussian(scale=likelihood)
    vae = VAE(n_components=3, likelihood=likelihood, max_epochs=20, random_state=0)
    if likelihood == "mse" and X.std(0).max() > 1e5:
        with pytest.raises(DataError, match=r"standard deviation of .* assumes 1\. Rescale X"):
            vae.fit(X)
        return
    vae.fit(X)
    for values in (vae.transform(X), vae.score_samples(X), vae.sample(5, random_state=0)):
        assert np.isfinite(values).all()
    X_missing = X.copy()
    X_missing[0] = np.nan
    assert np.isfinite(vae.impute(X_missing)).all()


def test_pickle_and_deepcopy(fitted, digits):
    X = digits[0][:5]
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert np.array_equal(other.transform(X), fitted.transform(X))
        assert np.array_equal(other.score_samples(X), fitted.score_samples(X))


@pytest.mark.parametrize(
    ("likelihood", "width", "native", "expected"),
    [
        ("bernoulli", 400, True, torch.bfloat16),
        ("bernoulli", 400, False, None),
        ("bernoulli", 50, True, None),  # too small to gain
        ("gaussian", 400, True, None),  # a mean of eight bits is a coarse one
    ],
)
def test_automatic_precision(monkeypatch, likelihood, width, native, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    resolved = likelihoods.Likelihood.resolve(likelihood, argument="likelihood")
    spec = Assembly(
        (30,), 2, resolved, posteriors.Diagonal(), priors.Standard(), MLP((width, width))
    )
    module = spec.build(0)
    assert pick_precision("auto", torch.device("cpu"), module) == expected
    assert pick_precision("float32", torch.device("cpu"), module) is None
    assert pick_precision("bfloat16", torch.device("cpu"), module) == torch.bfloat16
