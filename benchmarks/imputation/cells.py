"""One cell of the comparison: a table, a mask and a method, in and out of sample."""

import multiprocessing
import time
import traceback
import warnings

from benchmarks.imputation import metrics, tables
from benchmarks.imputation.masks import hide, holed
from benchmarks.imputation.peers import PEERS, QUICK, Mean

KEYS = ("table", "mechanism", "rate", "seed", "method", "sample")
COVERAGE = 0.9


def seconds(call, *arguments):
    """Return the result of a call and how long it took."""
    start = time.perf_counter()
    result = call(*arguments)
    return result, time.perf_counter() - start


def measured(peer, train, truth, hidden, holes, complete):
    """Return the scores of a fitted peer.

    Parameters
    ----------
    peer : Peer
    train : DataFrame
        Training rows, complete; their moments are the units.
    truth, holes : DataFrame, shape (n, p)
        The rows to impute, without and with holes.
    hidden : ndarray of bool, shape (n, p)
    complete : callable
        ``peer.in_sample`` or ``peer.transform``.
    """
    imputed, elapsed = seconds(complete, holes)
    nrmse, nmae, wrong = metrics.column_errors(truth, imputed, hidden, train)
    found = {
        "n": len(truth),
        "nrmse": metrics.mean_of(nrmse),
        "nmae": metrics.mean_of(nmae),
        "wrong": metrics.mean_of(wrong),
        "nrmse_by_column": nrmse,
        "energy": metrics.energy_distance(truth, imputed, train),
        "transform_seconds": elapsed,
        "hidden_share": float(hidden.mean()),
    }
    if hasattr(peer, "sample"):
        draws, found["sample_seconds"] = seconds(peer.sample, holes, metrics.N_DRAWS)
        found["crps"] = metrics.crps(truth, draws, hidden, train)
        found["energy_of_draw"] = metrics.energy_distance(truth, draws[0], train)
        bounds = metrics.ends(draws)
        inside, width, count = metrics.coverage(truth, *bounds, hidden, train)
        found |= {"coverage_of_draws": inside, "width_of_draws": width, "n_numbers": count}
        if hasattr(peer, "interval"):
            bounds, found["interval_seconds"] = seconds(peer.interval, holes, COVERAGE)
            inside, width, _ = metrics.coverage(truth, *bounds, hidden, train)
        found |= {"coverage": inside, "width": width}
    return found


def compute(cell, quick=False, rows=None):
    """Return the records of one fit, in sample and out of sample.

    Parameters
    ----------
    cell : dict
        With all of `KEYS` but ``"sample"``.
    quick : bool
        Peers of the foretaste.
    rows : tuple of int or None
        Rows for training and for the test, if not those of the protocol.
    """
    seed = cell["seed"]
    limits = rows or (tables.N_TRAIN, tables.N_TEST)
    train, test = tables.split(tables.whole(cell["table"]), seed, *limits)
    # One mask for both parts, so that one mechanism made the holes of both.
    both = tables.joined(train, test)
    hidden = hide(both, cell["mechanism"], cell["rate"], seed)
    hidden_train, hidden_test = hidden[: len(train)], hidden[len(train) :]
    holes = holed(train, hidden_train), holed(test, hidden_test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = (QUICK if quick else PEERS)[cell["method"]](seed)
        _, fit_seconds = seconds(peer.fit, holes[0])
        mean = Mean().fit(holes[0])
        records = []
        for sample, truth, mask, rows_, complete in (
            ("in", train, hidden_train, holes[0], peer.in_sample),
            ("out", test, hidden_test, holes[1], getattr(peer, "transform", None)),
        ):
            record = {**cell, "sample": sample, "fit_seconds": fit_seconds, "status": "done"}
            if complete is None:
                record["status"] = "not offered"
            else:
                record |= measured(peer, train, truth, mask, rows_, complete)
                of_mean = metrics.column_errors(truth, mean.transform(rows_), mask, train)[0]
                record["worst_vs_mean"] = metrics.worst_ratio(record["nrmse_by_column"], of_mean)
            records.append(record)
    return records


def _send(pipe, cell, quick, rows):
    try:
        pipe.send(compute(cell, quick, rows))
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {error}"[:500])


def run(cell, quick=False, timeout=900.0, rows=None):
    """Compute a cell in a process of its own; an error or too long a time is a result too."""
    context = multiprocessing.get_context("forkserver")  # imports torch once, not in each cell
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, cell, quick, rows))
    process.start()
    sender.close()
    found = "timeout"
    try:
        if receiver.poll(timeout):
            found = receiver.recv()
    except EOFError:
        found = "the process died"
    if found == "timeout":
        process.kill()
    process.join()
    if isinstance(found, str):
        status = {"status": "timeout" if found == "timeout" else "failed", "reason": found}
        return [{**cell, "sample": sample, **status} for sample in ("in", "out")]
    return found
