"""Public names, docstrings, import hygiene."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import skvae

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(skvae.__path__, "skvae.")
    if not m.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists_sorted_and_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    names = list(module.__all__)
    assert len(set(names)) == len(names)
    for public in names:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__, f"{name}.{public}"


def test_the_package_lists_what_it_offers():
    assert dir(skvae) == skvae.__all__ == sorted(skvae.__all__)
    for name in skvae.__all__:
        assert getattr(skvae, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = skvae.nonsense


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    failures, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failures == 0


def test_there_are_examples_in_docstrings():
    finder = doctest.DocTestFinder()
    assert any(
        t.examples for t in finder.find(importlib.import_module("skvae.estimators.vae").VAE)
    )


def test_importing_has_no_side_effects():
    code = """
import logging, signal, sys, threading, warnings
before = (threading.active_count(), list(logging.root.handlers), signal.getsignal(signal.SIGINT))
import skvae
assert not {"torch", "sklearn", "numpy", "rich"} & set(sys.modules)
skvae.VAE
assert "torch" not in sys.modules and "matplotlib" not in sys.modules
import torch
threads, state = torch.get_num_threads(), torch.default_generator.get_state()
validate = torch.distributions.Distribution._validate_args
import skvae.estimators._core
assert torch.equal(torch.default_generator.get_state(), state)
assert torch.get_num_threads() == threads
assert torch.distributions.Distribution._validate_args == validate
after = (threading.active_count(), list(logging.root.handlers), signal.getsignal(signal.SIGINT))
assert after == before, (before, after)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_every_module_can_be_imported_alone():
    """No hidden dependence on import order: each in a fork that has only seen what we build on."""
    code = f"""
import os, sys
import sklearn.base, torch
assert not any(name.startswith("skvae") for name in sys.modules)
for name in {MODULES!r}:
    child = os.fork()
    if child == 0:
        try:
            __import__(name)
        except BaseException as error:
            print(name, repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
