"""Results on disk: one JSON object a line, which a stopped run goes on from."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import skvae

FOLDER = Path(__file__).parent.parent / "results"
PACKAGES = ("torch", "scikit-learn", "miceforest", "hyperimpute")


class Kept:
    """Records of one file, found again by some of their fields.

    Parameters
    ----------
    path : Path or None
        None keeps nothing beyond the process.
    keys : tuple of str
        Fields that identify what a record is the result of.
    """

    def __init__(self, path, keys):
        self.path, self.keys = path, keys
        self.records = []
        if path is not None and path.exists():
            # A process that was killed while it wrote leaves half a line.
            for line in path.read_text("utf-8").splitlines():
                if line.endswith("}"):
                    self.records.append(json.loads(line))
        for record in self.records:
            if lacking := set(keys) - set(record):
                raise ValueError(
                    f"{path} has a line without {sorted(lacking)}: not of this program"
                )
        self._known = {self._key(r) for r in self.records}

    def _key(self, record):
        return tuple(record[k] for k in self.keys)

    def __contains__(self, record):
        return self._key(record) in self._known

    def add(self, record):
        """Append a record, with the date and the versions."""
        record = {**record, "date": f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}"}
        record |= {"versions": versions()}
        self.records.append(record)
        self._known.add(self._key(record))
        if self.path is None:
            return
        self.path.parent.mkdir(exist_ok=True)
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        broken = bool(text) and not text.endswith("\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * broken + json.dumps(record, sort_keys=True, allow_nan=False) + "\n")


def versions():
    """Return what was measured with what."""
    found = [f"scikit-vae {skvae.__version__}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0))
    return f"{', '.join(found)}; {platform.machine()}, {cores} cores"
