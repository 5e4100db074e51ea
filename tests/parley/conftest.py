"""Running `parley` within the test's own process, as its entry point does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import structlog

from config.settings import Settings
from parley.cli import main

SECRET = "a-secret-of-the-tests-that-is-long-enough"


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        assert "Traceback" not in line
        return line


class Run(Protocol):
    """`run("token", "--user", "anna", JWT_SECRET="...")`"""

    def __call__(self, *arguments: str, **env: str) -> Outcome: ...


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run commands in an empty folder, with no variable set but those given."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def run_command(*arguments: str, **env: str) -> Outcome:
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            status = main(arguments)
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    yield run_command
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
