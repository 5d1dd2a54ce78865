"""What is left when a write is ended from outside, and what hostile files may take.

Run by ``test_files_survive.py`` in a process of its own, which has one thread and can fork:

    python tests/ended.py EMPTY_DIRECTORY

Prints JSON. Every write is ended at the n-th call to the system for every n.
"""

import json
import os
import pathlib
import resource
import signal
import sys
import time

import numpy as np
import torch

from skvae import VAE, load
from skvae.checkpoint import FILE, Checkpoint

HERE = pathlib.Path(__file__).parent
ENDED, OTHER = 9, 7
MEMORY = 64 * 2**20


class Counted:
    """A file that passes on what it is told in steps that are counted."""

    def __init__(self, file, tick):
        self.file, self.tick = file, tick

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.tick()
        self.file.close()

    def write(self, content):
        third = len(content) // 3
        for part in (content[:third], content[third : 2 * third], content[2 * third :]):
            self.tick()
            self.file.write(part)
            self.file.flush()

    def flush(self):
        self.tick()
        self.file.flush()

    def fileno(self):
        return self.file.fileno()


def end_at(n):
    """End this process in the n-th call from now on, before it is done."""
    left = [n]

    def tick():
        left[0] -= 1
        if not left[0]:
            os._exit(ENDED)

    def counted(function):
        def call(*args, **kwargs):
            tick()
            return function(*args, **kwargs)

        return call

    for name in ("open", "fsync", "close", "replace", "rename", "unlink", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    real = pathlib.Path.open

    def opened(path, mode="r", *args, **kwargs):
        tick()
        file = real(path, mode, *args, **kwargs)
        return Counted(file, tick) if "x" in mode else file

    pathlib.Path.open = opened


def in_child(function, *args):
    """Return how a process ended that did this: 0 where it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            function(*args)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(OTHER)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crash_points(directory, name, old, write):
    """End ``write`` at every call; return for each what is in the directory afterwards.

    All happens in one directory, where the temporary files pile up.
    """
    (directory / name).write_bytes(old)
    found = []
    for n in range(1, 100):

        def ended(n=n):
            end_at(n)
            write()

        code = in_child(ended)
        content = (directory / name).read_bytes()
        others = sorted(p.name for p in directory.iterdir() if p.name != name)
        found.append({"code": code, "content": content.hex(), "others": others})
        (directory / name).write_bytes(old)
        if code != ENDED:
            return found
    raise AssertionError("it does not come to an end")


def crashes(root):
    """Return what is left of a model and a checkpoint, old and new, by crash point."""
    rows = np.arange(12.0).reshape(6, 2) % 5
    first, second = (
        VAE(1, hidden_layer_sizes=(), max_epochs=1, random_state=seed).fit(rows) for seed in (0, 1)
    )
    out = {}
    for name in ("first", "second"):
        {"first": first, "second": second}[name].save(root / name)
    old, new = (root / "first").read_bytes(), (root / "second").read_bytes()
    directory = root / "models"
    directory.mkdir()
    path = directory / "m[1].safetensors"

    def save():
        second.save(path, overwrite=True)

    found = crash_points(directory, path.name, old, save)
    out["model"] = {"old": old.hex(), "new": new.hex(), "found": found}
    # The next writes: recent files may still be somebody's, old ones are not.
    stranger = directory / f".other{path.name}.{'0' * 16}.tmp"
    stranger.write_bytes(b"")
    save()
    out["model"]["kept"] = sorted(p.name for p in directory.iterdir())
    for file in directory.iterdir():
        os.utime(file, times=(time.time() - 3700,) * 2)
    save()
    out["model"]["left"] = sorted(p.name for p in directory.iterdir())

    def checkpointed(place, value):
        checkpoint = Checkpoint(place, {"a": "1"})
        checkpoint.write({"at": value}, {"x": torch.full((50,), float(value))})
        return checkpoint

    contents = []
    for value in (1, 2):
        checkpointed(root / f"c{value}", value)
        contents.append((root / f"c{value}" / FILE).read_bytes())
    place = root / "checkpoint"
    place.mkdir()
    found = crash_points(place, FILE, contents[0], lambda: checkpointed(place, 2))
    out["checkpoint"] = {"old": contents[0].hex(), "new": contents[1].hex(), "found": found}
    checkpointed(place, 2).remove()
    out["checkpoint"]["left"] = place.exists()
    return out


def disk_full(root):
    """Return what is said and left when a file may have so many bytes, and no more."""
    vae = load(HERE / "formats" / "v1-vae.safetensors")
    directory = root / "full"
    directory.mkdir()
    path = directory / "model.safetensors"
    path.write_bytes(b"old")
    out = []
    for limit in (0, 1000, 4096):

        def limited(limit=limit):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                vae.save(path, overwrite=True)
            except OSError as error:
                sys.exit(0 if error.filename == str(path) and str(path) in str(error) else 1)
            sys.exit(2)

        child = os.fork()
        if child == 0:
            try:
                limited()
            except SystemExit as error:
                os._exit(error.code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        left = sorted(p.name for p in directory.iterdir())
        out.append([code, path.read_text(), left])
    return out


def loaded(root):
    """Load all hostile files with little more memory than there is already."""
    for path in (HERE / "formats").glob("*.safetensors"):
        load(path)  # so that what is imported late is there

    def hostile():
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        out = {}
        for path in sorted((HERE / "attacks" / "refused").iterdir()):
            start = time.process_time()
            try:
                load(path)
                said = "loaded"
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            out[path.name] = [said, time.process_time() - start]
        (root / "loaded.json").write_text(json.dumps(out))

    code = in_child(hostile)
    return {"code": code, "files": json.loads((root / "loaded.json").read_text())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = pathlib.Path(sys.argv[1])
    report = {"crashes": crashes(root), "full": disk_full(root), "loaded": loaded(root)}
    sys.stdout.write(json.dumps(report))
