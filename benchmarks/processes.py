"""How training scales over the processes of one machine.

    python -m benchmarks.processes [--rounds 3] [--quick]

One epoch of binarised MNIST in float32, 784-500-500-50 and back, by one process with one thread,
one with two threads, and two with one thread each that exchange gradients through gloo. All see
the same batches. Each run is started afresh, in turn; ratios are medians within a round.
"""

import argparse
import datetime
import os
import subprocess
import sys

import numpy as np

from benchmarks.contenders import machine, ours
from skvae import datasets

CASES = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes": (2, 1)}


def binary(rows):
    """Return rows of binarised MNIST."""
    return (datasets.load_mnist().X_train[:rows] > 127).astype(np.float32)


def seconds(n_processes, n_threads, batch_size, rows):
    """Start the processes and return the seconds of their epoch."""
    command = ["-m", "benchmarks.processes", "--child", str(batch_size), str(rows)]
    if n_processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        command = [*launcher, str(n_processes), *command]
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(n_threads)},
    )
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="6,000 images, 1 round")
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        batch_size, rows = options.child
        found = ours(binary(rows), batch_size, "float32")
        if os.environ.get("RANK", "0") == "0":
            print(found)
        return
    datasets.load_mnist(progress=print)
    rounds, rows = (1, 6_000) if options.quick else (options.rounds, 30_000)
    print(f"\n{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {machine()}\n")
    print("| batch | processes | seconds | × one thread |")
    print("|---:|---|---:|---:|")
    for batch_size in (128, 1024):
        found = [
            [seconds(*case, batch_size, rows) for case in CASES.values()] for _ in range(rounds)
        ]
        table = np.array(found)
        for i, name in enumerate(CASES):
            faster = np.median(table[:, 0] / table[:, i])
            print(f"| {batch_size} | {name} | {np.median(table[:, i]):.1f} | {faster:.2f} |")


if __name__ == "__main__":
    main()
