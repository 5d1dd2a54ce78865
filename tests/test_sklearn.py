"""scikit-learn's own checks: all of them, with no expected failure."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skvae import VAE, VAEClassifier, VAEImputer, VAERegressor

SMALL = {"max_epochs": 2, "hidden_layer_sizes": (8,), "random_state": 0}

LEARNED = {
    "n_components": 2,
    "hidden_layer_sizes": (16,),
    "max_epochs": 60,
    "learning_rate": 0.02,
    "batch_size": 32,
    "random_state": 0,
}

ESTIMATORS = [
    VAE(n_components=2, **SMALL),
    VAE(n_components=2, likelihood="mse", early_stopping=False, **SMALL),
    VAEImputer(n_components=2, n_samples=20, max_samples=40, **SMALL),
    VAERegressor(**LEARNED),
    VAEClassifier(**LEARNED),
    VAEClassifier(model="m1", **LEARNED),
]


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Replace the check of every other test: scikit-learn's checks draw from NumPy's generator."""


@parametrize_with_checks(ESTIMATORS)
def test_generic_checks(estimator, check):
    check(estimator)  # raises on failure


# Defined by scikit-learn but run only on its own estimators.
OWN_CHECKS = [
    estimator_checks.check_param_validation,
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
    estimator_checks.check_get_feature_names_out_error,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
    estimator_checks.check_inplace_ensure_writeable,
]


# The output checks give fitted estimators frames and arrays in turn, on purpose.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning")
@pytest.mark.parametrize("check", OWN_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "estimator",
    [ESTIMATORS[0], *ESTIMATORS[2:5]],
    ids=["VAE", "VAEImputer", "VAERegressor", "VAEClassifier"],
)
def test_checks_that_scikit_learn_runs_on_itself(estimator, check):
    check(type(estimator).__name__, clone(estimator))  # raises on failure


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_nothing_is_excused(estimator):
    """No tag that makes scikit-learn skip checks is set."""
    tags = estimator.__sklearn_tags__()
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.input_tags.two_d_array


def test_pipeline_and_grid_search(digits):
    X = digits[0][:200]
    pipeline = make_pipeline(StandardScaler(), VAE(**SMALL))
    search = GridSearchCV(pipeline, {"vae__n_components": [1, 2]}, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.transform(X).shape[1] in (1, 2)
