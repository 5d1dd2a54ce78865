"""How long ``import skvae`` and ``skvae --help`` take, and what they leave alone.

python -m benchmarks.startup [--rounds 10]
"""

import argparse
import datetime
import subprocess
import sys
import time

import numpy as np

from benchmarks.contenders import machine

CASES = {
    "python -c pass": ["-c", "pass"],
    "import skvae": ["-c", "import skvae"],
    "skvae --help": ["-m", "skvae", "--help"],
    "import torch": ["-c", "import torch"],
    "from skvae import VAE": ["-c", "from skvae import VAE"],
}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="2 rounds")
    options = parser.parse_args()
    found = {name: [] for name in CASES}
    for _ in range(2 if options.quick else options.rounds):
        for name, arguments in CASES.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            found[name].append(time.perf_counter() - start)
    print(f"\n{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {machine()}\n")
    print("| command | seconds |")
    print("|---|---:|")
    for name, seconds in found.items():
        print(f"| `{name}` | {np.median(seconds):.2f} |")


if __name__ == "__main__":
    main()
