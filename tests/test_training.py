"""The loop: reproducible, stoppable, never poisoned."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest
import torch

from skvae import VAE, rng
from skvae.callbacks import EarlyStopping, Epoch, History, Progress, Watcher
from skvae.data import Source
from skvae.exceptions import TrainingDivergedError, TrainingInterruptedWarning
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, Bound
from skvae.posteriors import Diagonal
from skvae.priors import Standard
from skvae.training import (
    MAX_GRADIENT_NORM,
    MAX_RECOVERIES,
    MAX_SKIPPED,
    Plan,
    Trainer,
    auto_batch_size,
    auto_epochs,
)

CPU = torch.device("cpu")
X = (torch.rand(96, 6, generator=rng.generator(0)) < 0.3).float()


def module_of():
    return Assembly((6,), 2, Bernoulli(), Diagonal(), Standard(), MLP((8,))).build(0)


def plan(**changes):
    options = {"max_epochs": 4, "batch_size": 32, "learning_rate": 0.01, "seed": 0}
    return Plan(**{**options, **changes})


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


class Recorder(Watcher):
    def __init__(self, stop_after=None):
        self.epochs, self.ended, self.stop_after = [], 0, stop_after

    def epoch_ended(self, module, epoch):
        self.epochs.append(epoch)
        return self.stop_after is not None and len(self.epochs) >= self.stop_after

    def fit_ended(self, module):
        self.ended += 1


def test_training_is_a_function_of_the_seed():
    results = []
    for seed in (0, 0, 1):
        trainer = Trainer(module_of(), ELBO(), CPU)
        trainer.fit(Source(X, seed=seed), None, plan(seed=seed))
        results.append(weights(trainer.module))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_epochs_are_reported_in_nats_per_row():
    recorder = Recorder()
    trainer = Trainer(module_of(), ELBO(), CPU)
    trainer.fit(Source(X), Source(X[:10]), plan(max_epochs=3), [recorder])
    assert [e.number for e in recorder.epochs] == [1, 2, 3]
    for epoch in recorder.epochs:
        v = epoch.values
        assert v["train_elbo"] == pytest.approx(v["train_reconstruction"] - v["train_kl"])
        assert v["valid_elbo"] == pytest.approx(v["valid_reconstruction"] - v["valid_kl"])
        assert -6 < v["train_elbo"] < 0
    assert recorder.ended == 1
    assert trainer.at.steps_done == 9
    assert not trainer.module.training


def test_a_short_last_batch_counts_by_its_rows():
    recorder = Recorder()
    trainer = Trainer(module_of(), ELBO(), CPU)
    trainer.fit(Source(X[:33]), None, plan(max_epochs=1, learning_rate=1e-12), [recorder])
    noise = [rng.Sequential(rng.generator(0, rng.Stream.NOISE, 0, i)) for i in (0, 1)]
    batches = list(Source(X[:33]).batches(0, 32, CPU))
    elbos = [
        ELBO()(trainer.module, b, step=0, noise=n).terms["elbo"]
        for b, n in zip(batches, noise, strict=True)
    ]
    expected = torch.cat(elbos).mean().item()
    assert recorder.epochs[0].values["train_elbo"] == pytest.approx(expected, abs=1e-4)


def test_a_watcher_can_stop_and_all_watchers_see_the_last_epoch():
    first, second = Recorder(stop_after=2), Recorder()
    trainer = Trainer(module_of(), ELBO(), CPU)
    trainer.fit(Source(X), None, plan(max_epochs=9), [first, second])
    assert len(first.epochs) == len(second.epochs) == 2
    assert first.ended == second.ended == 1


def test_the_learning_rate_rises_then_falls_to_zero():
    p = plan(learning_rate=1.0)
    rates = [p.rate(s, 1000) for s in range(1000)]
    assert np.argmax(rates) in range(45, 56)
    assert max(rates) == pytest.approx(1, abs=0.02)
    assert rates[0] == pytest.approx(1 / 50)
    assert rates[-1] < 1e-4
    assert plan(schedule=False, learning_rate=0.5).rate(3, 10) == 0.5


@pytest.mark.parametrize(
    ("n", "batch", "epochs"),
    [(1, 16, 2000), (200, 16, 480), (1500, 32, 128), (60000, 256, 26), (10**7, 256, 20)],
)
def test_automatic_choices(n, batch, epochs):
    assert auto_batch_size(n) == batch
    assert auto_epochs(n, batch) == epochs


# -- early stopping -------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights():
    module = module_of()
    stopping = EarlyStopping(patience=2, tol=0.1)
    seen = []
    for i, value in enumerate([-3.0, -2.0, -1.95, -1.96, -5.0]):
        with torch.no_grad():
            module.posterior.head.bias.fill_(i)
        seen.append(stopping.epoch_ended(module, Epoch(i + 1, {"valid_elbo": value})))
    assert seen == [False, False, False, True, True]  # −1.95 is best, but not by tol
    assert stopping.best_epoch == 3
    stopping.fit_ended(module)
    assert (module.posterior.head.bias == 2).all()


def test_without_patience_it_only_keeps_the_best():
    stopping = EarlyStopping(patience=None)
    module = module_of()
    assert not any(stopping.epoch_ended(module, Epoch(i, {"valid_elbo": -i})) for i in range(50))


# -- divergence -----------------------------------------------------------------------------------


class Poisoned(ELBO):
    """Not finite at some updates."""

    bad_steps: frozenset = frozenset()
    calls = 0

    def __call__(self, model, batch, *, step, noise):
        bound = super().__call__(model, batch, step=step, noise=noise)
        type(self).calls += 1
        if self.calls in self.bad_steps:
            return Bound(
                bound.loss * float("nan"),
                bound.terms | {"kl": bound.terms["kl"] * np.nan},
                bound.evidence,
            )
        return bound


def poisoned(steps):
    return type("Poisoned", (Poisoned,), {"bad_steps": frozenset(steps), "calls": 0})()


def test_one_bad_update_is_skipped_and_poisons_nothing():
    trainer = Trainer(module_of(), poisoned({2, 5}), CPU)
    recorder = Recorder()
    trainer.fit(Source(X), None, plan(), [recorder])
    assert trainer.at.steps_done == 10
    assert all(torch.isfinite(v).all() for v in weights(trainer.module).values())
    assert all(np.isfinite(e.values["train_elbo"]) for e in recorder.epochs)


def test_skipping_for_ever_ends_with_an_error_that_names_the_term():
    trainer = Trainer(module_of(), poisoned(range(4, 1000)), CPU)
    recorder = Recorder()
    with pytest.raises(
        TrainingDivergedError,
        match=r"epoch \d+ after 3 updates: not finite were kl, also.*learning_rate",
    ):
        trainer.fit(Source(X), None, plan(max_epochs=50), [recorder])
    assert all(torch.isfinite(v).all() for v in weights(trainer.module).values())
    assert recorder.ended == 1
    assert trainer.running.calls == 3 + (MAX_RECOVERIES + 1) * MAX_SKIPPED


def test_after_several_bad_updates_the_last_good_state_comes_back_with_a_smaller_step():
    """Epochs have 3 updates; those from the 8th to the 12th fail, in the third and fourth."""
    trainer, states = Trainer(module_of(), poisoned(range(8, 13)), CPU), []

    class Keep(Recorder):
        def epoch_ended(self, module, epoch):
            states.append(weights(module))
            return super().epoch_ended(module, epoch)

    recorder = Keep()
    trainer.fit(Source(X), None, plan(max_epochs=5, schedule=False), [recorder])
    assert [e.values["learning_rate"] for e in recorder.epochs] == [0.01] * 4 + [0.005]
    assert trainer.at.recoveries == 1
    assert not same(states[1], states[2])  # the 7th update was taken
    assert same(states[2], states[3])  # and that is where training went back to
    assert not same(states[3], states[4])


def test_skipping_every_other_update_is_not_accepted_for_ever():
    trainer = Trainer(module_of(), poisoned(set(range(1000)) - set(range(3, 1000, 4))), CPU)
    with pytest.raises(TrainingDivergedError, match="learning rate halved 3 times"):
        trainer.fit(Source(X), None, plan(max_epochs=100))


def test_a_huge_gradient_is_clipped():
    class Huge(ELBO):
        def __call__(self, model, batch, *, step, noise):
            bound = super().__call__(model, batch, step=step, noise=noise)
            # Squares of 1e20 overflow in the norm: that update is skipped.
            return Bound(bound.loss * (1e20 if step == 3 else 1e9), bound.terms, bound.evidence)

    class Norms(torch.optim.SGD):
        seen = []

        def update(self, rate):
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            self.seen.append(torch.nn.utils.get_total_norm(gradients).item())

    trainer = Trainer(module_of(), Huge(), CPU)
    trainer.optimizer = Norms(trainer.parameters, lr=1.0)
    with pytest.raises(TrainingDivergedError, match="the gradient"):
        trainer.fit(Source(X), None, plan(max_epochs=9))
    assert trainer.at.steps_done == 3
    assert np.allclose(Norms.seen, MAX_GRADIENT_NORM, rtol=1e-3)
    assert all(torch.isfinite(v).all() for v in weights(trainer.module).values())


# -- interruption ---------------------------------------------------------------------------------


class InterruptAt(Watcher):
    """Sends Ctrl-C to this process at the end of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def epoch_ended(self, module, epoch):
        if epoch.number == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_keeps_the_model_and_the_handler():
    trainer, recorder = Trainer(module_of(), ELBO(), CPU), Recorder()
    before = signal.getsignal(signal.SIGINT)
    with pytest.warns(TrainingInterruptedWarning, match="after 2 epochs"):
        trainer.fit(Source(X), None, plan(max_epochs=1000), [recorder, InterruptAt(2)])
    assert signal.getsignal(signal.SIGINT) is before
    assert len(recorder.epochs) == 2
    assert recorder.ended == 1
    with pytest.raises(KeyboardInterrupt):  # and Ctrl-C works again
        signal.raise_signal(signal.SIGINT)


def test_a_handler_of_the_host_program_is_left_alone():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        trainer = Trainer(module_of(), ELBO(), CPU)
        trainer.fit(Source(X), None, plan(max_epochs=3), [InterruptAt(1)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
    assert trainer.at.epochs_done == 3


def test_interrupted_fit_gives_a_usable_estimator():
    """Ctrl-C in the middle of a real fit, from outside."""
    code = """
    import numpy as np
    from skvae import VAE
    X = (np.random.default_rng(0).random((2000, 20)) < 0.3).astype(float)
    vae = VAE(max_epochs=100000, early_stopping=False, random_state=0, verbose=1).fit(X)
    print(vae.transform(X[:3]).shape, vae.n_iter_ < 100000)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "epoch 1/" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "(3, 10) True\n"
    assert "TrainingInterruptedWarning" in err


def test_fits_in_threads_do_not_disturb_each_other():
    rows = np.asarray(X, dtype=np.float64)
    results, reference = {}, VAE(n_components=2, max_epochs=5, random_state=0).fit(rows)

    def fit(key):
        results[key] = VAE(n_components=2, max_epochs=5, random_state=0).fit(rows).transform(rows)

    threads = [threading.Thread(target=fit, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for Z in results.values():
        assert np.allclose(Z, reference.transform(rows), atol=1e-5)


# -- history and progress -------------------------------------------------------------------------


def test_history():
    history = History()
    module = module_of()
    history.epoch_ended(module, Epoch(1, {"train_elbo": -3.0}))
    history.epoch_ended(module, Epoch(2, {"train_elbo": -2.0, "valid_elbo": -2.5}))
    assert len(history) == 2
    assert history[-1]["valid_elbo"] == -2.5
    assert history["train_elbo"].tolist() == [-3.0, -2.0]
    assert np.array_equal(history["valid_elbo"], [np.nan, -2.5], equal_nan=True)
    assert len(history[1:]) == 1
    assert history.columns == ("epoch", "train_elbo", "valid_elbo")
    assert "n_epochs=2" in repr(history)
    with pytest.raises(KeyError, match="train_elbo"):
        history["nonsense"]


def test_progress_without_a_terminal_is_plain_lines(tmp_path):
    path = tmp_path / "log"
    with path.open("w") as stream:
        progress = Progress(3, "fit", stream, interval=0)
        progress.fit_started(module_of())
        for i in (1, 2):
            progress.epoch_ended(module_of(), Epoch(i, {"train_elbo": -1.0, "train_kl": 0.5}))
        progress.fit_ended(module_of())
    lines = path.read_text().splitlines()
    assert lines == [f"fit: epoch {i}/3, train ELBO -1.00, KL 0.50 nats" for i in (1, 2)]


def test_lower_precision_trains_to_about_the_same():
    elbos = []
    for dtype in (None, torch.bfloat16):
        trainer, recorder = Trainer(module_of(), ELBO(), CPU), Recorder()
        trainer.fit(Source(X), None, plan(max_epochs=20, dtype=dtype), [recorder])
        assert all(p.dtype == torch.float32 for p in trainer.parameters)
        elbos.append(recorder.epochs[-1].values["train_elbo"])
    assert elbos[0] != elbos[1]
    assert elbos[0] == pytest.approx(elbos[1], abs=0.1)


def test_no_warning_is_left_behind():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(module_of(), ELBO(), CPU).fit(Source(X), None, plan())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
