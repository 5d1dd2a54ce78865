"""Fixtures that several files use."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scipy: one check of scikit-learn needs it

import numpy as np
import pytest
import torch

from skvae import VAE, datasets

# Ray, Dask and Spark are large, and one needs Java: CONTRIBUTING.md says how to run these.
collect_ignore = [] if os.environ.get("SKVAE_TEST_CLUSTERS") == "1" else ["test_clusters.py"]


@pytest.fixture(autouse=True)
def _one_start_for_each_test():
    """What a test builds by hand must not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone(_one_start_for_each_test):
    """No call of the library may touch a global random generator or a global torch switch."""
    state = torch.default_generator.get_state()
    numpy_state = np.random.get_state()  # noqa: NPY002
    threads, validate = torch.get_num_threads(), torch.distributions.Distribution._validate_args
    yield
    assert torch.equal(torch.default_generator.get_state(), state), (
        "torch's global generator moved"
    )
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert torch.distributions.Distribution._validate_args == validate


@pytest.fixture(scope="session")
def digits():
    """Images of digits as rows in [0, 1], and their labels."""
    data = datasets.load_digits()
    return data.X_train / np.float64(data.max_value), data.y_train


@pytest.fixture(scope="session")
def fitted(digits):
    """A small model of the digits; tests must not change it."""
    return VAE(
        n_components=4,
        likelihood="bernoulli",
        hidden_layer_sizes=(32,),
        max_epochs=20,
        random_state=0,
    ).fit(digits[0])
