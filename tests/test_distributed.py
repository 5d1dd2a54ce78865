"""Several processes train the model that one would."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta

import numpy as np
import pytest
import torch

from skvae import VAE, cli, distributed, load, rng, training
from skvae.callbacks import EarlyStopping, History, Watcher
from skvae.checkpoint import FILE, Checkpoint
from skvae.data import Source
from skvae.distributed import World, joined, own_device
from skvae.evidence import Batch
from skvae.exceptions import (
    DataError,
    DistributedError,
    ParameterError,
    TrainingDivergedError,
    TrainingInterruptedWarning,
)
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE, Bound, Capacity, DecoderWeights
from skvae.posteriors import Diagonal, VectorQuantized
from skvae.priors import Categorical, Standard
from skvae.training import Plan, Trainer

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch is built without torch.distributed"
)

CPU = torch.device("cpu")
X = (torch.rand(100, 6, generator=rng.generator(0)) < 0.3).float()
SPEC = Assembly((6,), 2, Bernoulli(), Diagonal(), Standard(), MLP((8,)))
# Batches of 32, 32, 32 and 4 of 100 rows; of 32 and 1 of 33: neither divides by 2 or 3.
PLAN = Plan(max_epochs=4, batch_size=32, learning_rate=0.01, seed=3)


# -- noise and parts ------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_noise_of_a_part_is_that_of_its_rows_in_the_whole(draw):
    whole, part = (rng.Sequential(rng.generator(0)) for _ in range(2))
    part = rng.Shard(part, 2, 5, 7)
    for shape, event in (((), (4,)), ((3,), (2, 2)), ((2, 3), ())):  # one after the other
        expected = getattr(whole, draw)(shape, torch.empty(7, *event))
        got = getattr(part, draw)(shape, torch.empty(3, *event))
        assert torch.equal(got, expected.narrow(len(shape), 2, 3))
    # Points that stand for no row, such as pseudo-inputs, are the same for all.
    assert torch.equal(
        getattr(part, draw)((2,), torch.empty(4)), getattr(whole, draw)((2,), torch.empty(4))
    )
    assert getattr(part, draw)((5,), torch.empty((), dtype=torch.float64)).shape == (5,)


@pytest.mark.parametrize(("total", "size"), [(7, 2), (7, 3), (8, 4), (2, 3), (1, 2)])
def test_parts_are_all_rows_once_and_the_first_is_never_empty(total, size):
    batch = Batch(torch.arange(total).view(-1, 1) + 1.0, torch.ones(total, 1, dtype=torch.bool))
    parts = [World(r, size).part(batch, CPU) for r in range(size)]
    real = [p for p in parts if p.weight > 0]
    assert torch.equal(torch.cat([p.batch.x for p in real]), batch.x)
    assert sum(p.weight for p in parts) == pytest.approx(1)
    assert all(p.weight == pytest.approx(len(p.batch.x) / total) for p in real)
    assert {len(p.batch.x) for p in real} <= {total // size, total // size + 1}
    assert parts[0].weight > 0
    for part in parts:
        assert (part.stop - part.start, part.total) == (len(part.batch.x), total)
        assert part.batch.mask.shape == part.batch.x.shape
        if not part.weight:  # it computes the first row, for nothing
            assert torch.equal(part.batch.x, batch.x[:1])


def test_one_process_alone_exchanges_nothing():
    batch, world = Batch(X), World()
    part = world.part(batch, CPU)
    assert part.batch is batch
    assert part.weight == 1
    noise = rng.Sequential(rng.generator(0))
    assert part.noise(noise) is noise
    assert batch.whole(X) is X
    assert world.from_main(lambda: 3) == 3
    assert torch.equal(world.sum([X])[0], X)


# -- a world of threads ---------------------------------------------------------------------------


class Thread(World):
    """Exchanges through a list that all threads see."""

    def __init__(self, rank, size, box, barrier):
        super().__init__(rank, size)
        self.box, self.barrier, self.sums = box, barrier, 0

    def _exchange(self, value):
        self.box[self.rank] = value
        self.barrier.wait()
        values = list(self.box)
        self.barrier.wait()
        return values

    def _add_up(self, flat):
        self.sums += 1
        return torch.stack(self._exchange(flat)).sum(0)

    def _tell(self, content):
        return self._exchange(content)[0]


def together(size, function):
    """Call function(world) in each of ``size`` threads; the results, or the errors."""
    barrier, box, results = threading.Barrier(size, timeout=20), [None] * size, [None] * size

    def run(rank):
        try:
            results[rank] = function(Thread(rank, size, box, barrier))
        except BaseException as error:
            results[rank] = error
            barrier.abort() if isinstance(error, threading.BrokenBarrierError) else None

    threads = [threading.Thread(target=run, args=(r,)) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def trained(objective=None, size=1, rows=100, plan=PLAN, spec=SPEC, more=lambda world: ()):
    """Train in ``size`` threads; the trainers and their histories."""

    def one(world):
        trainer, history = Trainer(spec.build(0), objective or ELBO(), CPU), History()
        train = Source(X[:rows] * 0.7, binarize="stochastic", seed=5)
        valid = Source(X[:11] * 0.7, binarize="stochastic", seed=6)
        trainer.fit(train, valid, plan, [history, *more(world)], None, world)
        return trainer, history

    results = together(size, one) if size > 1 else [one(World())]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def weights_of(trainer):
    return {k: v.numpy().tobytes() for k, v in trainer.module.state_dict().items()}


def close(a, b, rtol=1e-5):
    """Largest deviation relative to the largest entry of each weight."""
    a, b = a.module.state_dict(), b.module.state_dict()
    return all((a[k] - b[k]).abs().max() <= rtol * max(1e-3, a[k].abs().max()) for k in a)


def numbers(history):
    return np.array([[row[k] for k in sorted(row) if k != "seconds"] for row in history.rows])


@pytest.mark.parametrize(
    ("objective", "size", "rows"),
    [
        (ELBO(), 2, 100),
        (ELBO(), 3, 33),  # the last batch is one row: two threads have none
        (ELBO(beta=2.0, free_bits=0.02), 2, 100),
        (ELBO(free_bits=0.02, n_samples=2), 3, 33),
        (Capacity(capacity=0.02, gamma=3.0, rise=1), 2, 100),
        (IWAE(3), 2, 100),
        (ELBO() + DecoderWeights(0.1), 2, 33),
    ],
    ids=str,
)
def test_several_train_the_same_model_as_one(objective, size, rows):
    (one, history), *_ = trained(objective, 1, rows)
    many = trained(objective, size, rows)
    for trainer, _ in many:
        assert close(trainer, one)
        assert weights_of(trainer) == weights_of(many[0][0])  # among each other bit for bit
        assert trainer.at == one.at
    assert np.allclose(numbers(many[-1][1]), numbers(history), rtol=1e-5, atol=1e-6)
    assert not close(trained(objective, 1, rows - 1)[0][0], one)  # the tolerance says something


def test_free_bits_and_capacity_are_taken_of_the_whole_batch():
    """Value and gradient, where the parts lie on different sides of the corner."""
    kl = torch.tensor([0.1, 0.2, 3.0, 5.0], dtype=torch.float64)

    def one(world):
        part = world.part(Batch(kl.unsqueeze(1)), CPU)
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        mean = (part.batch.x * scale).mean()
        loss = part.batch.whole(mean).clamp(min=1.0) + (part.batch.whole(mean) - 1).abs()
        (loss * part.weight).backward()
        return loss.item(), scale.grad.item()

    results = together(2, one)
    assert [loss for loss, _ in results] == pytest.approx([2.075 + 1.075] * 2)
    assert sum(gradient for _, gradient in results) == pytest.approx(2 * 2.075)


def test_an_update_takes_one_exchange():
    worlds = []
    trained(size=2, more=lambda world: worlds.append(world) or ())
    # 4 epochs of 4 updates and a validation each, and one to compare what they were given
    assert [world.sums for world in worlds] == [4 * (4 + 1) + 1] * 2


def test_gradients_that_are_not_there_stay_away():
    """A weight that the objective does not use keeps no running averages, as with one process."""

    class Half(ELBO):
        def __call__(self, model, batch, *, step, noise):
            bound = super().__call__(model, batch, step=step, noise=noise)
            loss = bound.loss if step % 2 else model.decoder[-2].bias.square().sum()
            return Bound(loss, bound.terms, bound.evidence)

    (one, _), *_ = trained(Half())
    for trainer, _ in trained(Half(), 2):
        assert close(trainer, one)
        steps = [int(s["step"]) for s in trainer.optimizer.state.values()]
        assert steps == [int(s["step"]) for s in one.optimizer.state.values()]
        assert set(steps) == {8, 16}


@pytest.mark.parametrize(
    "spec",
    [
        SPEC.replace(network=MLP((8,), batch_norm=True)),
        SPEC.replace(posterior=VectorQuantized(4, 3), prior=Categorical()),
    ],
    ids=["batch norm", "codebook"],
)
def test_buffers_are_those_of_the_first_process(spec):
    (alone, _), *_ = trained(spec=spec)
    (first, _), (second, _) = trained(size=2, spec=spec, rows=33)
    assert weights_of(first) == weights_of(second)
    before, after = spec.build(0).state_dict(), first.module.state_dict()
    learned = {k for k in after if not torch.equal(before[k], after[k])}
    assert learned == {
        k for k in before if not torch.equal(before[k], alone.module.state_dict()[k])
    }


def test_a_part_that_is_not_finite_is_skipped_by_all():
    class Marked(ELBO):
        """Not finite where the 50th row is in the batch: in one of the threads at a time."""

        def __call__(self, model, batch, *, step, noise):
            bound = super().__call__(model, batch, step=step, noise=noise)
            bad = (batch.x == X[50]).all(-1).any() and step % 3 == 1
            return Bound(
                bound.loss * torch.nan if bad else bound.loss, bound.terms, bound.evidence
            )

    (one, _), *_ = trained(Marked())
    assert one.at.steps_done < 16
    for trainer, _ in trained(Marked(), 2):
        assert trainer.at == one.at
        assert close(trainer, one)


def test_all_diverge_with_the_same_message():
    def one(world):
        class Mine(ELBO):
            def __call__(self, model, batch, *, step, noise):
                bound = super().__call__(model, batch, step=step, noise=noise)
                if world.is_main:
                    return bound
                terms = bound.terms | {"kl": bound.terms["kl"] * torch.nan}
                return Bound(bound.loss * torch.nan, terms, bound.evidence)

        trainer = Trainer(SPEC.build(0), Mine(), CPU)
        trainer.fit(Source(X[:40]), None, Plan(50, 40, 0.01, 0), [], None, world)

    errors = together(2, one)
    for error in errors:
        assert isinstance(error, TrainingDivergedError)
        assert "not finite were kl, also" in str(error)


# -- decisions ------------------------------------------------------------------------------------


class StopIn(Watcher):
    def __init__(self, world, rank):
        self.mine = world.rank == rank

    def epoch_ended(self, module, epoch):
        return self.mine


def test_watchers_of_the_first_process_decide():
    for rank, epochs in ((0, 1), (1, 4)):
        results = trained(size=2, more=lambda world, rank=rank: [StopIn(world, rank)])
        assert [trainer.at.epochs_done for trainer, _ in results] == [epochs, epochs]


def test_early_stopping_restores_the_same_weights_in_all():
    plan = Plan(60, 32, 0.3, 3, schedule=False)
    results = trained(size=2, plan=plan, more=lambda world: [EarlyStopping(3, watch="valid_elbo")])
    (one, _), *_ = trained(plan=plan, more=lambda world: [EarlyStopping(3, watch="valid_elbo")])
    assert one.at.epochs_done < 60
    assert [t.at.epochs_done for t, _ in results] == [one.at.epochs_done] * 2
    assert weights_of(results[0][0]) == weights_of(results[1][0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_ends_all_after_the_same_update(number, monkeypatch, tmp_path):
    ended, local = [], threading.local()

    @contextlib.contextmanager
    def stopping():
        stop = training._Stop(number if local.rank == 1 else None)
        yield stop
        ended.append(stop.agreed)

    monkeypatch.setattr(training, "_stop_at_batch_end", stopping)

    def one(world):
        local.rank = world.rank
        trainer = Trainer(SPEC.build(0), ELBO(), CPU)
        place = Checkpoint(tmp_path / str(world.rank), {})
        trainer.fit(Source(X), None, PLAN, [], place, world)
        return trainer

    expected = pytest.warns(TrainingInterruptedWarning, match="0 epochs and 1 updates")
    with expected if number == signal.SIGINT else contextlib.nullcontext():
        trainers = together(2, one)
    assert ended == [number, number]
    assert [t.at.steps_done for t in trainers] == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["0"]
    state, _ = Checkpoint(tmp_path / "0", {}).read()
    assert state["at"]["steps_done"] == 1


class Killed(BaseException):
    """What no handler of the library catches."""


@pytest.mark.parametrize("last", [3, 6, 11])
def test_a_fit_of_two_resumes_to_the_same_bytes_from_the_first_ones_checkpoint(tmp_path, last):
    def run(world, directory, last):
        class Mortal(ELBO):
            calls = 0

            def __call__(self, model, batch, *, step, noise):
                Mortal.calls += 1
                if Mortal.calls > last:
                    raise Killed
                return super().__call__(model, batch, step=step, noise=noise)

            def held_out(self):
                return ELBO()

        trainer, history = Trainer(SPEC.build(0), Mortal(), CPU), History()
        place = Checkpoint(directory / str(world.rank), {}, interval=0.0)
        sources = (Source(X[:90]), Source(X[90:]))
        trainer.fit(*sources, PLAN, [history, EarlyStopping(None)], place, world)
        return weights_of(trainer), numbers(history).tolist(), Mortal.calls

    whole = together(2, lambda world: run(world, tmp_path, 10**9))
    assert not any(tmp_path.glob("*/*"))
    killed = together(2, lambda world: run(world, tmp_path, last))
    assert [type(error) for error in killed] == [Killed, Killed]
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*")] == [f"0/{FILE}"]
    again = together(2, lambda world: run(world, tmp_path, 10**9))
    assert [a[:2] for a in again] == [w[:2] for w in whole]
    assert [a[2] for a in again] == [12 - last] * 2  # 3 updates in each of 4 epochs
    assert not any(tmp_path.glob("*/*"))


def test_what_the_first_process_raises_all_raise():
    calls = []

    def one(world):
        def refuse():
            calls.append(world.rank)
            raise DataError("no")

        assert world.from_main(lambda: world.rank) == 0
        world.from_main(refuse)

    errors = together(3, one)
    assert [type(e) for e in errors] == [DataError] * 3
    assert calls == [0]


@pytest.mark.parametrize("what", ["data and first weights", "plan", "rows", "position"])
def test_processes_that_were_given_different_things_refuse(what):
    def one(world):
        changed = world.rank == 1
        trainer = Trainer(SPEC.build(int(changed and what[0] == "d")), ELBO(), CPU)
        trainer.at.epochs_done = int(changed and what == "position")
        rows = X[: 99 if changed and what == "rows" else 100]
        plan = Plan(1, 32, 0.02 if changed and what == "plan" else 0.01, 0)
        trainer.fit(Source(rows), None, plan, [], None, world)

    first, second = together(2, one)
    assert isinstance(first, ParameterError)
    assert "The 2 processes" in str(first)
    assert isinstance(second, ParameterError)
    assert f"differ in: {what}." in str(second)


# -- joining --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "there",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    ],
)
def test_without_a_launcher_a_process_is_alone(there, monkeypatch):
    for name in distributed.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    with joined() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert not torch.distributed.is_initialized()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_group_that_does_not_come_together_is_an_error(monkeypatch):
    here = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**here, "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)
    refused = pytest.raises(DistributedError, match="did not come together")
    with refused, joined(timedelta(seconds=1)):
        pass
    assert not torch.distributed.is_initialized()


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device(torch.device("cuda")) == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device(torch.device("cuda")) == torch.device("cuda:1")
    assert own_device(torch.device("cuda:0")) == torch.device("cuda:0")
    assert own_device(CPU) == CPU
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    for local, each in (("2", True), ("3", False), ("0", False)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        assert distributed._has_device_each() is each


def test_a_lost_process_is_a_clear_error_with_its_own_exit_code(monkeypatch, capsys):
    def fail(flat):
        raise RuntimeError("[/a/pair.cc:53] Connection closed by peer\nmore")

    monkeypatch.setattr(torch.distributed, "all_reduce", fail)
    with pytest.raises(DistributedError, match=r"Process 1 of 2 .*\(Connection closed by peer\)"):
        World(1, 2).sum([X])
    monkeypatch.setattr(cli, "app", lambda *a, **k: World(1, 2).sum([X]))
    assert cli._run(["info"]) == 7
    monkeypatch.setenv("RANK", "1")
    assert cli._run(["info", "--json"]) == 7
    assert capsys.readouterr().out == ""  # the first process alone writes there


# -- real processes -------------------------------------------------------------------------------

DRIVER = """
import json, os, signal, sys, time, traceback
import numpy as np, torch
from skvae import VAE, checkpoint, objectives
from skvae.cli import main
from skvae.distributed import joined
import skvae.estimators._core, skvae.commands
groups = json.loads(sys.argv[1])
codes = []
for name, code, port in groups:  # one group after the other, forked to save the imports
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            for number, kind in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{name}.{rank}.{kind}", os.O_WRONLY | os.O_CREAT), number)
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            status = 1
            try:
                exec(code)
                status = 0
            except SystemExit as stop:
                status = stop.code or 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        children.append(child)
    codes.append([os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children])
print(json.dumps(codes))
"""

FIT = """
main(["fit", "x.npy", "-o", "{name}.safetensors", "--likelihood", "bernoulli",
      "--batch-size", "32", "--max-epochs", "5", "--hidden-layer-sizes", "8", "--n-components",
      "2", "--random-state", "1", "--json", "--checkpoint", "c", *{more}])
"""

MORTAL = """
checkpoint.Checkpoint.due = True
real, calls = objectives.ELBO.__call__, 0
def call(self, *args, **kwargs):
    global calls
    calls += 1
    if calls == 11 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.{number})
    return real(self, *args, **kwargs)
objectives.ELBO.__call__ = call
"""

API = """
X = np.load("x.npy")
for how in ("launched", "again", "initialised"):  # the group is joined and left each time
    if how == "initialised":
        torch.distributed.init_process_group("gloo")
    vae = VAE(2, hidden_layer_sizes=(4,), max_epochs=2, batch_size=64).fit(X)
    assert torch.distributed.is_initialized() == (how == "initialised")
    print(vae.transform(X[:3]).sum(), vae._core.seed)
torch.distributed.destroy_process_group()
"""

HANGING = """
from datetime import timedelta
from skvae.exceptions import DistributedError
try:
    with joined(timedelta(seconds=2)) as world:
        if world.rank == 1:
            time.sleep(5)
        else:
            VAE(2, max_epochs=2, random_state=0).fit(np.load("x.npy"))
except DistributedError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Exit codes of the two processes of each group, and the folder where they ran."""
    folder = tmp_path_factory.mktemp("groups")
    np.save(folder / "x.npy", (np.random.default_rng(0).random((163, 12)) < 0.3) * 1.0)
    resume = ["--resume"]
    runs = {
        "whole": FIT.format(name="whole", more=[]),
        "killed": MORTAL.format(number="SIGKILL") + FIT.format(name="killed", more=[]),
        "ended": MORTAL.format(number="SIGTERM") + FIT.format(name="ended", more=resume),
        "resumed": FIT.format(name="resumed", more=resume),
        "api": API,
        "hanging": HANGING,
    }
    arguments = json.dumps([(name, code, free_port()) for name, code in runs.items()])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER, arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder, dict(zip(runs, json.loads(done.stdout), strict=True))


def said(folder, name, rank, kind):
    return (folder / f"{name}.{rank}.{kind}").read_text()


def weights_in(path):
    return load(path)._core.module.state_dict()


def test_two_processes_give_the_model_of_one(groups):
    folder, codes = groups
    assert codes["whole"] == [0, 0], said(folder, "whole", 0, "err")
    two = weights_in(folder / "whole.safetensors")
    vae = VAE(
        2,
        likelihood="bernoulli",
        batch_size=32,
        max_epochs=5,
        hidden_layer_sizes=(8,),
        random_state=1,
    ).fit(np.load(folder / "x.npy"))
    one = vae._core.module.state_dict()
    assert all((one[k] - two[k]).abs().max() <= 1e-5 * one[k].abs().max() for k in one)
    assert vae.history_["valid_elbo"] == pytest.approx(
        load(folder / "whole.safetensors").history_["valid_elbo"], rel=1e-5
    )


def test_the_first_process_alone_writes_and_speaks(groups):
    folder, _ = groups
    assert json.loads(said(folder, "whole", 0, "out"))["n_epochs"] == 5
    assert "saved whole.safetensors" in said(folder, "whole", 0, "err")
    assert said(folder, "whole", 1, "out") == said(folder, "whole", 1, "err") == ""


def test_a_killed_process_ends_the_others_with_a_message_and_a_checkpoint(groups):
    folder, codes = groups
    assert codes["killed"] == [7, -signal.SIGKILL]
    error = json.loads(said(folder, "killed", 0, "out"))["error"]
    assert error["type"] == "DistributedError"
    assert "Process 0 of 2" in error["message"]
    assert "after 9 updates" in error["message"]
    assert "--resume" in error["message"]
    assert not (folder / "killed.safetensors").exists()


def test_sigterm_to_one_process_ends_all_with_a_checkpoint(groups):
    folder, codes = groups
    assert codes["ended"] == [143, 143], said(folder, "ended", 0, "err")
    assert not (folder / "ended.safetensors").exists()


def test_a_killed_fit_resumes_to_the_same_bytes(groups):
    folder, codes = groups
    assert codes["resumed"] == [0, 0], said(folder, "resumed", 0, "err")
    whole = weights_in(folder / "whole.safetensors")
    again = weights_in(folder / "resumed.safetensors")
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert not (folder / "c").exists()


def test_an_estimator_joins_the_group_and_leaves_it(groups):
    folder, codes = groups
    assert codes["api"] == [0, 0], said(folder, "api", 1, "err")
    lines = said(folder, "api", 0, "out").splitlines()
    assert lines == said(folder, "api", 1, "out").splitlines()  # also the seed, of None
    assert len(set(lines)) == 3


def test_a_process_that_hangs_ends_the_others_too(groups):
    folder, codes = groups
    assert codes["hanging"] == [0, 0], said(folder, "hanging", 0, "err")
    assert "cannot reach another one" in said(folder, "hanging", 0, "out")


def torchrun(folder, *arguments):
    np.save(folder / "x.npy", X.numpy())
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launch, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchrun(tmp_path):
    fit = ["-m", "skvae", "fit", "x.npy", "-o", "m", "--max-epochs", "2", "--json", "-q"]
    said = torchrun(tmp_path, *fit, "--random-state", "0")
    assert json.loads(said)["model"] == "m"
    assert load(tmp_path / "m").n_iter_ == 2


LEFT = """
import weakref
import numpy as np
import torch.distributed
from skvae import VAE
from skvae.distributed import joined

with joined():
    group = weakref.ref(torch.distributed.group.WORLD)
    VAE(2, max_epochs=1, random_state=0).fit(np.load("x.npy"))
assert group() is None, "something still holds the group, and so its threads run on"
"""


def test_a_group_is_gone_once_it_is_left(tmp_path):
    (tmp_path / "left.py").write_text(LEFT)
    torchrun(tmp_path, "left.py")
