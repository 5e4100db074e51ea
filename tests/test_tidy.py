"""The house rules that a machine can hold: lengths, names, state, paths, words.

An exception is listed with its present size, so that it can only shrink.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import ROOT, all_files, name_of, python_files, tree

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60
# File → its length today. Shrink them; add none.
LONG_FILES: dict[str, int] = {}
# "file:function" → its length today. Shrink them; add none.
LONG_FUNCTIONS: dict[str, int] = {}

BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager"}
TEXT_SUFFIXES = {
    "", ".py", ".md", ".toml", ".lock", ".lua", ".sql", ".mako", ".json", ".html", ".js", ".css",
    ".svg", ".yaml", ".yml", ".txt", ".example", ".ini", ".cfg", ".sh",
}  # fmt: skip
MUTATING = {
    "append", "add", "extend", "insert", "update", "setdefault", "pop", "popitem", "remove",
    "discard", "clear", "appendleft", "popleft", "sort", "reverse",
}  # fmt: skip
SLEEPERS = {("time", "sleep"), ("trio", "sleep"), ("asyncio", "sleep"), ("anyio", "sleep")}
# Where a test may sleep: the one polling loop, a server that is slow on purpose, a loop that is
# blocked on purpose.
MAY_SLEEP = {
    "tests/support/waiting.py",
    "tests/support/proxy.py",
    "tests/storage/redis/test_transport_faults.py",
    "tests/faults/durability.py",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def length(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_files_are_short() -> None:
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files("api", "broker", "config", "parley", "storage", "workers")
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX}
    assert too_long.items() <= LONG_FILES.items(), too_long
    assert too_long.keys() == LONG_FILES.keys(), "take what has shrunk off the list"


def test_functions_are_short() -> None:
    lengths = {
        f"{name_of(path)}:{node.name}": length(node)
        for path in python_files()
        for node in functions(path)
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX}
    assert too_long.items() <= LONG_FUNCTIONS.items(), too_long
    assert too_long.keys() == LONG_FUNCTIONS.keys(), "take what has shrunk off the list"


def test_no_file_is_named_after_nothing() -> None:
    assert [
        name_of(path)
        for path in python_files(*_top_folders())
        if BANNED_NAMES & {*path.relative_to(ROOT).parent.parts, path.stem}
    ] == []


def test_every_module_says_what_it_is() -> None:
    assert [name_of(path) for path in python_files() if not ast.get_docstring(tree(path))] == []


def test_nothing_changes_a_global() -> None:
    assert [
        f"{name_of(path)}:{node.lineno}"
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Global)
    ] == []


def test_no_module_keeps_mutable_state() -> None:
    """A table at module level is a constant: it is named like one and nothing changes it."""
    found = []
    for path in python_files():
        names = dict(_tables(tree(path)))
        found += [
            f"{name_of(path)}:{line}: {name} is not named like a constant"
            for name, line in names.items()
            if name.strip("_") != name.strip("_").upper() and name != "__all__"
        ]
        found += [
            f"{name_of(path)}:{node.lineno}: {name} is changed"
            for node, name in _changes(tree(path))
            if name in names
        ]
    assert found == []


def _tables(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Names bound at module level to a list, dict or set, with their lines."""
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    makers = {"list", "dict", "set", "defaultdict", "deque", "OrderedDict", "Counter"}
    for node in module.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        is_made = isinstance(value, ast.Call) and getattr(value.func, "id", "") in makers
        if isinstance(value, displays) or is_made:
            yield from ((item.id, node.lineno) for item in targets if isinstance(item, ast.Name))


def _changes(module: ast.Module) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Statements and calls that change what a name holds, with that name."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign):
            targets = [node.target]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in MUTATING
            and isinstance(node.func.value, ast.Name)
        ):
            yield node, node.func.value.id
            continue
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                yield node, target.value.id


@pytest.mark.parametrize(
    "name",
    [
        *("limits", "api_limits", "archive_limits", "page_limits"),
        *("process_limits", "spreading_limits", "wire_limits"),
    ],
)
def test_every_limit_is_used_and_has_its_reason(name: str) -> None:
    limits = ROOT / "config" / f"{name}.py"
    lines = limits.read_text(encoding="utf-8").splitlines()
    names = {
        node.target.id: node.lineno
        for node in tree(limits).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    used = "\n".join(path.read_text(encoding="utf-8") for path in python_files() if path != limits)
    assert [name for name in names if not re.search(rf"\b{name}\b", used)] == []
    is_explained = re.compile(r"#|[A-Z_]+: Final").match
    assert [name for name, line in names.items() if not is_explained(lines[line - 2])] == []


def test_tests_wait_for_conditions_and_not_for_seconds() -> None:
    assert [
        f"{name_of(path)}:{node.lineno}"
        for path in python_files("tests")
        if name_of(path) not in MAY_SLEEP
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in SLEEPERS
        and not (isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ] == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    words = {"skip", "skipif", "xfail", "importorskip"}
    assert [
        f"{name_of(path)}:{node.lineno}"
        for path in python_files("tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in words
        and ast.unparse(node.value) in ("pytest", "pytest.mark")
    ] == []


@pytest.mark.parametrize(
    "pattern",
    [
        # Written in pieces, or this file would find itself.
        r"(?<![\w.:/-])/" + r"(?:root|home|work|opt|Users|mnt|srv)/\w",
        r"/tmp" + r"/(?:spike|brief|bash)",
        r"(?:pypi|test\.pypi)\." + r"org",
        r"files\.python" + r"hosted",
        r"PIP_" + r"(?:FIND_LINKS|INDEX_URL|EXTRA_INDEX_URL)",
        r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b",
        r"^<{7} |^={7}$|^>{7} ",
    ],
)
def test_no_file_names_a_machine_or_is_unfinished(pattern: str) -> None:
    found = re.compile(pattern, re.MULTILINE)
    assert [
        f"{name_of(path)}: {hit.group()!r}"
        for path in all_files()
        if path.suffix in TEXT_SUFFIXES
        if (hit := found.search(path.read_text(encoding="utf-8")))
    ] == []


def test_text_files_end_with_one_newline_and_have_no_stray_spaces() -> None:
    found = []
    for path in all_files():
        if path.suffix not in TEXT_SUFFIXES or path.stat().st_size == 0:
            continue
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n") or text.endswith("\n\n"):
            found.append(f"{name_of(path)}: its end")
        found += [
            f"{name_of(path)}:{number}"
            for number, line in enumerate(text.splitlines(), 1)
            if line != line.rstrip() or ("\t" in line and path.name != "Makefile")
        ]
    assert found == []


def _top_folders() -> set[str]:
    return {path.relative_to(ROOT).parts[0] for path in all_files()}
