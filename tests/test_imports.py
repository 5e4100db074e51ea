"""Who may import whom: the arrows between packages, and the one place of each foreign library.

import-linter holds the coarse arrows (`make lint`); this table holds the fine ones too and needs
nothing but the sources. Imports within functions count.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import PACKAGES, module_of, python_files, tree

SHARED = {"config", "storage", "broker.domain", "broker.protocol"}
# Importer (the longest prefix counts) → what it may import of ours.
ARROWS: dict[str, set[str]] = {
    "config": {"config"},
    "storage": {"config", "storage"},
    "broker.protocol": {"broker.protocol"},
    "broker.domain": SHARED,
    "broker": {*SHARED, "broker"},
    "api": {*SHARED, "api"},
    "workers": {*SHARED, "workers"},
    "workers.embedded": {"config", "workers.embedded"},
    "parley": {*PACKAGES},
    "bench": {"bench"},
}
# Foreign library → the only places that may import it.
PLACES: dict[str, set[str]] = {
    "alembic": {"storage.postgres"},
    "anyio": {"storage.postgres"},
    "asyncio": {"storage.postgres", "bench"},
    "asyncpg": {"storage.postgres"},
    "click": {"parley", "bench"},
    "cryptography": {"broker.domain"},
    "hiredis": {"storage.redis"},
    "hypercorn": {"api", "bench.empty_route"},
    "jwt": {"broker.domain", "bench"},
    "prometheus_client": {"config.metrics"},
    "psutil": {"bench", "workers"},
    "pydantic_settings": {"config"},
    "quart": {"api"},
    "quart_schema": {"api"},
    "quart_trio": {"api", "bench.empty_route"},
    "redis": {"storage.redis"},
    "sqlalchemy": {"storage.postgres"},
    "trio_websocket": {"broker", "workers.demo.visitor"},
    "uvloop": {"storage.postgres"},
    "wsproto": {"broker"},
}
# The protocol is pure: these would be I/O, time, or a framework.
IMPURE = {
    "asyncio", "os", "pathlib", "quart", "random", "socket", "ssl", "structlog", "subprocess",
    "threading", "time", "trio", "trio_websocket", "uuid", "uuid_utils",
}  # fmt: skip


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_within(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def allowed_for(module: str) -> set[str]:
    prefix = max((name for name in ARROWS if is_within(module, {name})), key=len)
    return ARROWS[prefix]


def test_the_arrows_between_our_packages() -> None:
    assert [
        f"{module_of(path)}:{line} imports {name}"
        for path in python_files()
        for line, name in imports(path)
        if name.partition(".")[0] in PACKAGES and not is_within(name, allowed_for(module_of(path)))
    ] == []


@pytest.mark.parametrize("library", sorted(PLACES))
def test_a_foreign_library_has_one_place(library: str) -> None:
    assert [
        f"{module_of(path)}:{line} imports {name}"
        for path in python_files()
        for line, name in imports(path)
        if is_within(name, {library}) and not is_within(module_of(path), PLACES[library])
    ] == []


def test_the_protocol_is_pure() -> None:
    assert [
        f"{module_of(path)}:{line} imports {name}"
        for path in python_files("broker")
        if is_within(module_of(path), {"broker.protocol"})
        for line, name in imports(path)
        if is_within(name, IMPURE)
    ] == []


def test_tests_are_imported_by_nobody_but_tests() -> None:
    assert [
        f"{module_of(path)}:{line} imports {name}"
        for path in python_files()
        for line, name in imports(path)
        if is_within(name, {"tests", "pytest", "hypothesis"})
    ] == []
