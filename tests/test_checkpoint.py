"""A fit that is ended at any moment and started again ends with the same bytes."""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skvae import VAE, load, objectives, rng, serialization
from skvae.callbacks import EarlyStopping, History
from skvae.checkpoint import FILE, Checkpoint
from skvae.data import Source
from skvae.exceptions import CheckpointWarning, ModelFileError, ParameterError
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO
from skvae.posteriors import Diagonal
from skvae.priors import Standard
from skvae.training import Plan, Trainer

CPU = torch.device("cpu")
X = (torch.rand(100, 6, generator=rng.generator(0)) < 0.3).float()
PLAN = Plan(max_epochs=6, batch_size=16, learning_rate=0.01, seed=3)  # 7 updates per epoch


class Killed(BaseException):
    """What no handler of the library catches."""


class Mortal(ELBO):
    """Ends the process, as it were, in a given call."""

    calls, last = 0, 10**9

    def __call__(self, model, batch, *, step, noise):
        type(self).calls += 1
        if self.calls > self.last:
            raise Killed
        return super().__call__(model, batch, step=step, noise=noise)

    def held_out(self):
        return ELBO(beta=1.0)


def mortal(last=10**9):
    return type("Mortal", (Mortal,), {"calls": 0, "last": last})()


def run(directory, last=10**9, interval=0.0):
    spec = Assembly((6,), 2, Bernoulli(), Diagonal(), Standard(), MLP((8,)))
    trainer = Trainer(spec.build(0), mortal(last), CPU)
    history, stopping = History(), EarlyStopping(patience=None)
    checkpoint = None if directory is None else Checkpoint(directory, {"a": "1"}, interval)
    sources = (
        Source(X[:84], binarize="stochastic", seed=5),
        Source(X[84:], binarize="stochastic", seed=6),
    )
    trainer.fit(*sources, PLAN, [history, stopping], checkpoint)
    return trainer, history, stopping


def weights_of(trainer):
    return {k: v.numpy().tobytes() for k, v in trainer.module.state_dict().items()}


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


@pytest.mark.parametrize("last", np.random.default_rng(0).choice(36, 20, replace=False))
def test_killed_after_any_update_and_resumed_ends_with_the_same_bytes(tmp_path, last):
    whole, history, stopping = run(None)
    with pytest.raises(Killed):
        run(tmp_path / "c", int(last), interval=0.0)
    again, history_again, stopping_again = run(tmp_path / "c")
    assert weights_of(again) == weights_of(whole)
    assert without_seconds(history_again) == without_seconds(history)
    assert stopping_again.best == stopping.best
    assert stopping_again.best_epoch == stopping.best_epoch
    assert again.at == whole.at
    assert type(again.running).calls == 36 - last  # it did go on, and not begin again
    assert not (tmp_path / "c").exists()  # a complete fit leaves nothing behind


def test_a_fit_that_is_killed_again_and_again_ends_all_the_same(tmp_path):
    whole, _, _ = run(None)
    for _ in range(7):
        with pytest.raises(Killed):
            run(tmp_path / "c", 5)
    again, _, _ = run(tmp_path / "c")
    assert weights_of(again) == weights_of(whole)
    assert type(again.running).calls == 36 - 7 * 5


def test_an_old_checkpoint_is_as_good_as_a_new_one(tmp_path):
    """What was done after it is done again, in the same way."""
    whole, _, _ = run(None)
    with pytest.raises(Killed):
        run(tmp_path / "c", 17, interval=1e9)  # only the one before the first update
    again, _, _ = run(tmp_path / "c")
    assert weights_of(again) == weights_of(whole)
    assert type(again.running).calls == 36


def test_recoveries_are_resumed_too(tmp_path):
    class Bad(Mortal):
        def __call__(self, model, batch, *, step, noise):
            bound = super().__call__(model, batch, step=step, noise=noise)
            if step != 8 or batch.x.sum() % 8 < 1:
                return bound
            return objectives.Bound(bound.loss * torch.nan, bound.terms, bound.evidence)

    def one(directory, last):
        spec = Assembly((6,), 2, Bernoulli(), Diagonal(), Standard(), MLP((8,)))
        trainer = Trainer(spec.build(0), type("Bad", (Bad,), {"last": last})(), CPU)
        checkpoint = None if directory is None else Checkpoint(directory, {}, 0.0)
        trainer.fit(Source(X), None, PLAN, (), checkpoint)
        return trainer

    whole = one(None, 10**9)
    assert whole.at.recoveries > 0
    for last in (9, 12, 15, 30):
        with pytest.raises(Killed):
            one(tmp_path / "c", last)
        again = one(tmp_path / "c", 10**9)
        assert again.at == whole.at
        assert weights_of(again) == weights_of(whole)


# -- the estimator --------------------------------------------------------------------------------


def vae(**changes):
    settings = {
        "n_components": 2,
        "likelihood": "bernoulli",
        "hidden_layer_sizes": (8,),
        "max_epochs": 4,
        "random_state": 0,
    }
    return VAE(**settings | changes)


def test_a_checkpoint_of_another_fit_is_refused_and_kept(tmp_path, monkeypatch):
    rows = X.numpy()
    monkeypatch.setattr("skvae.checkpoint.Checkpoint.remove", lambda self: None)
    vae(checkpoint=str(tmp_path)).fit(rows)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ParameterError, match=r"another fit; different are: plan\."):
        vae(checkpoint=str(tmp_path), learning_rate=0.1).fit(rows)
    with pytest.raises(ParameterError, match=r"different are: data and first weights\."):
        vae(checkpoint=str(tmp_path)).fit(1 - rows)
    with pytest.raises(ParameterError, match=r"different are: .*objective"):
        vae(checkpoint=str(tmp_path), objective=objectives.ELBO(beta=2.0)).fit(rows)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_complete_fit_is_not_affected_and_removes_its_checkpoint(tmp_path):
    with_it = vae(checkpoint=str(tmp_path / "new" / "deep")).fit(X.numpy())
    without = vae().fit(X.numpy())
    assert np.array_equal(with_it.transform(X.numpy()), without.transform(X.numpy()))
    assert not (tmp_path / "new" / "deep").exists()


def test_a_place_that_cannot_be_written_to_is_found_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    model = vae(checkpoint=str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        model.fit(X.numpy())
    assert not hasattr(model, "history_")


def test_a_full_disk_during_training_costs_the_checkpoint_only(tmp_path, monkeypatch):
    whole, _, _ = run(None)
    real, count = serialization.write, iter(range(10**6))

    def full_after_three(*args, **kwargs):
        if next(count) >= 3:
            raise OSError(28, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr("skvae.serialization.write", full_after_three)
    with pytest.warns(CheckpointWarning, match="No space left.*training goes on"):
        again, _, _ = run(tmp_path / "c")
    assert weights_of(again) == weights_of(whole)


def test_a_damaged_checkpoint_and_other_files_are_refused(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, 5)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[-3] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged"):
        run(tmp_path)
    vae().fit(X.numpy()).save(tmp_path / FILE, overwrite=True)
    with pytest.raises(ModelFileError, match="is not a checkpoint"):
        run(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(ModelFileError, match="not a scikit-vae model"):
        run(tmp_path)


def test_a_checkpoint_is_no_model(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, 5)
    with pytest.raises(ModelFileError, match="checkpoint of a fit"):
        load(tmp_path / FILE)


def test_killed_processes_resume_on_the_command_line(tmp_path):
    """SIGKILL and SIGTERM from outside, at whatever moment that hits."""
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((3000, 30)) < 0.3) * 1.0)
    flags = [
        "--likelihood",
        "bernoulli",
        "--no-early-stopping",
        "--max-epochs",
        "100",
        "--random-state",
        "1",
        "--quiet",
    ]

    def command(output, *more):
        return [sys.executable, "-m", "skvae", "fit", "x.npy", "-o", output, *flags, *more]

    subprocess.run(command("whole.safetensors"), cwd=tmp_path, check=True)

    def written():
        path = tmp_path / "c" / FILE
        return path.stat().st_mtime_ns if path.exists() else None

    begin = command("resumed.safetensors", "--checkpoint", "c")
    resume = [*begin, "--resume"]
    for line, number, code in ((begin, signal.SIGKILL, -9), (resume, signal.SIGTERM, 143)):
        before = written()
        process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while written() == before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == code
        assert (tmp_path / "c" / FILE).exists()
        assert not (tmp_path / "resumed.safetensors").exists()
    refused = subprocess.run(begin, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    subprocess.run(resume, cwd=tmp_path, check=True)
    assert not (tmp_path / "c").exists()
    whole = load(tmp_path / "whole.safetensors")._core.module.state_dict()
    again = load(tmp_path / "resumed.safetensors")._core.module.state_dict()
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_sigterm_in_a_program_writes_a_checkpoint_and_ends_it_as_it_would_have(tmp_path):
    code = """
    import os, signal
    import numpy as np
    from skvae import VAE, callbacks
    from skvae.callbacks import History
    X = (np.random.default_rng(0).random((500, 8)) < 0.3) * 1.0
    ended = History.epoch_ended
    def kill(self, module, epoch):
        ended(self, module, epoch)
        if epoch.number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
    History.epoch_ended = kill
    VAE(2, hidden_layer_sizes=(8,), max_epochs=1000, checkpoint="c", random_state=0).fit(X)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGTERM
    manifest, _ = serialization.read(tmp_path / "c" / FILE)
    assert manifest["state"]["at"]["epochs_done"] == 3
    assert [p.name for p in (tmp_path / "c").iterdir()] == [FILE]
