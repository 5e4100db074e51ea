"""Where the peers are installed, and how: each into a folder of its own below one cache folder.

The cache folder is named by the variable PARLEY_PEERS (default: `parley-peers` in the user's cache
folder); nothing is written into the system or the source tree. What is installed is pinned, with
hashes, by the lock files beside the servers' sources in `bench/peers/servers/`. A folder is
installed when it holds a stamp with the digest of its lock files, so a changed pin installs anew.

Rules: `missing` is one line for the user and quick; `install` is idempotent and says what failed
by BenchError. Packages come from the registries' ordinary clients with the settings that the user
has; no script of a package is run. Debian's packages are fetched by apt only when the user said so,
and even then unpacked into the cache folder rather than installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.connection import BenchError

SERVERS: Final = Path(__file__).resolve().parent / "servers"
_TIMEOUT: Final = 1800.0  # seconds for one installation; Go compiles for minutes
_STAMP: Final = "installed"
_SYSTEM_PROGRAMS: Final = "/usr/sbin:/sbin"  # nginx is there, and not on every user's PATH


def cache_folder() -> Path:
    """The folder below which everything is installed."""
    chosen = os.environ.get("PARLEY_PEERS")
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "parley-peers"


def find_program(name: str) -> str | None:
    """A program on the PATH or in the folders for system programs."""
    path = os.environ.get("PATH", "")
    return shutil.which(name, path=os.pathsep.join([path, _SYSTEM_PROGRAMS]))


class Package(ABC):
    """What a peer needs. `name` is its folder in the cache and in `servers`, and a peer's name."""

    def __init__(self, name: str, locks: Sequence[str]) -> None:
        self.name = name
        self.sources = SERVERS / name
        self._locks = locks

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return cache_folder() / self.name

    def missing(self) -> str | None:
        """What is not there, as one line; None when all is."""
        return self.lacking() or (None if self.is_installed() else self.advice())

    @abstractmethod
    def lacking(self) -> str | None:
        """A program of the machine without which it can not even be installed, as one line."""

    def advice(self) -> str:
        """What to do when it is not installed."""
        return f"{self.name} is not installed: python -m bench.peers install {self.name}"

    def install(self, *, use_apt: bool = False) -> None:
        """Install it, if it is not; BenchError when that can not be done."""
        reason = self.lacking()
        if reason:
            raise BenchError(reason)
        if self.is_installed():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.fill(use_apt=use_apt)
        (self.folder / _STAMP).write_text(self._digest())

    @abstractmethod
    def fill(self, *, use_apt: bool) -> None:
        """Install into the empty folder."""

    def run(self, command: Sequence[str | Path], variables: Mapping[str, str] = {}) -> None:
        """Run a step of the installation in its folder; BenchError with its output's end."""
        try:
            ended = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"{self.name}: {error}") from error
        if ended.returncode:
            end = ended.stdout.decode(errors="replace")[-2000:]
            raise BenchError(f"{self.name}: {command[0]} exited with {ended.returncode}:\n{end}")

    def is_installed(self) -> bool:
        """Whether its folder holds what its lock files name."""
        stamp = self.folder / _STAMP
        return stamp.is_file() and stamp.read_text() == self._digest()

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for lock in self._locks:
            digest.update((self.sources / lock).read_bytes())
        return digest.hexdigest()


class NodePackage(Package):
    """What `package-lock.json` pins. Native addons come built, inside their packages."""

    def __init__(self, name: str) -> None:
        super().__init__(name, ["package.json", "package-lock.json"])

    def lacking(self) -> str | None:
        for program in ("node", "npm"):
            if find_program(program) is None:
                return f"{self.name} needs {program}, which is not on the PATH"
        return None

    def fill(self, *, use_apt: bool) -> None:
        for lock in self._locks:
            shutil.copy(self.sources / lock, self.folder)
        self.run(
            ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
        )

    def command(self, *arguments: str) -> list[str]:
        """The command line of its server."""
        return [find_program("node") or "node", str(self.sources / "server.js"), *arguments]

    def environment(self) -> dict[str, str]:
        """The variables that its server needs."""
        return {
            "NODE_ENV": "production",  # both Express and Socket.IO's dependencies ask for it
            "NODE_PATH": str(self.folder / "node_modules"),
        }


class PythonPackage(Package):
    """What `requirements.txt` pins, in a virtual environment of its own, run by uvicorn."""

    def __init__(self, name: str) -> None:
        super().__init__(name, ["requirements.txt"])

    def lacking(self) -> str | None:
        return None

    def fill(self, *, use_apt: bool) -> None:
        self.run([sys.executable, "-m", "venv", self.folder / "venv"])
        self.run(
            [
                self._python,
                *("-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
                *("--only-binary", ":all:", "--require-hashes"),
                *("--requirement", self.sources / "requirements.txt"),
            ]
        )

    @property
    def _python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def command(self, port: int) -> list[str]:
        """The command line of its server."""
        return [
            *(str(self._python), "-B", "-m", "uvicorn", "server:app"),
            *("--app-dir", str(self.sources), "--host", "127.0.0.1", "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--ws", "auto"),
            *("--ws-per-message-deflate", "false", "--no-access-log", "--log-level", "warning"),
        ]


class GoPackage(Package):
    """A program that Go builds from its module, as `go.mod` and `go.sum` pin it."""

    def __init__(self, name: str, module: str) -> None:
        super().__init__(name, ["go.mod", "go.sum"])
        self._module = module

    def lacking(self) -> str | None:
        if find_program("go") is None:
            return f"{self.name} is built from its Go module, and go is not on the PATH: skipped"
        return None

    def fill(self, *, use_apt: bool) -> None:
        for lock in self._locks:
            shutil.copy(self.sources / lock, self.folder)
        go = find_program("go") or "go"
        self.run(
            [go, "build", "-mod=readonly", "-modcacherw", "-o", self.program, self._module],
            {
                "GOMODCACHE": str(cache_folder() / "go" / "modules"),
                "GOCACHE": str(cache_folder() / "go" / "build"),
                "GOTOOLCHAIN": "local",
                "CGO_ENABLED": "0",  # as their own releases are built
            },
        )

    @property
    def program(self) -> Path:
        """The built program."""
        return self.folder / "server"
