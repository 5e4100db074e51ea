"""The repository's own files, as the tests of its shape look at them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "bench", "broker", "config", "parley", "storage", "workers")
# Servers of others that the bench compares with: programs that run elsewhere, with their libraries.
FOREIGN = "bench/peers/servers/"
_IGNORED = {"build", "dist", "__pycache__"}
# `.git` is a file in a linked working tree: it names where the repository is on this machine.
_NO_SOURCES = {".env", ".git"}


@cache
def all_files() -> tuple[Path, ...]:
    """Every file of the repository, without environments, caches, builds and data."""
    return tuple(sorted(_walk(ROOT)))


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    """The Python files below some top-level folders; without any: of product and bench."""
    wanted = folders or PACKAGES
    return tuple(
        path
        for path in all_files()
        if path.suffix == ".py"
        and path.relative_to(ROOT).parts[0] in wanted
        and not name_of(path).startswith(FOREIGN)
    )


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file. Look, do not change."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    """A file's place in the repository, for messages and exceptions."""
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    """The dotted name of a Python file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir():
            is_hidden = entry.name.startswith(".") and entry.name != ".ci"
            if not is_hidden and entry.name not in _IGNORED and entry.suffix != ".egg-info":
                yield from _walk(entry)
        elif entry.suffix != ".pyc" and entry.name not in _NO_SOURCES:
            yield entry
