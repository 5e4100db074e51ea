"""What somebody sends is never part of a statement: neither of SQL nor of Lua. Held by reading the
code, since no number of tried texts would prove it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.sources import ROOT, name_of, python_files, tree

STATEMENT_METHODS = {
    "fetch", "fetchrow", "fetchval", "execute", "executemany", "prepare", "cursor",
    "exec_driver_sql", "copy_from_query", "copy_to_table", "copy_records_to_table",
}  # fmt: skip
# Where a statement comes by a plain name: the pool hands on what it was called with; the search
# takes one of its table.
HANDED_ON = {"storage/postgres/pool.py": {"sql"}, "storage/postgres/search.py": {"statement"}}
# `migrate.py` and `migrations/`: the files' own statements, in a session that sees no user's value.
MIGRATION = "storage/postgres/migrat"
# What puts statements together from pieces of the package's own. Called where a module is loaded,
# when there is no request yet, or by one another.
COMPOSERS = {
    "conditions", "counted_parts", "time_text", "with_times", "_filtered", "_skip_statement",
    "_statement",
    "_with_fields",
}  # fmt: skip


def calls(module: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module) if isinstance(node, ast.Call))


def is_fixed(node: ast.expr) -> bool:
    """A literal, a constant of a module, or an entry of a table that is one."""
    if isinstance(node, ast.Subscript):
        return is_fixed(node.value)
    if isinstance(node, ast.Name):
        return node.id == node.id.upper()
    return isinstance(node, ast.Constant)


def packages() -> list[Path]:
    return list(python_files("api", "broker", "config", "parley", "storage", "workers"))


def test_no_statement_of_sql_is_made_of_what_somebody_sent() -> None:
    found = []
    for path in packages():
        name = name_of(path)
        if name.startswith((MIGRATION, "storage/redis/")):
            continue
        for call in calls(tree(path)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in STATEMENT_METHODS:
                given = [*call.args, *(word.value for word in call.keywords)]
                found += [
                    f"{name}:{call.lineno}: {ast.unparse(statement)}"
                    for statement in given[:1]
                    if getattr(statement, "id", "") not in HANDED_ON.get(name, set())
                    and not is_fixed(statement)
                ]
    assert found == []


def test_statements_are_put_together_before_there_is_a_request() -> None:
    """Each composer is called at module level, or inside another composer."""
    found = []
    for path in packages():
        module = tree(path)
        for function in ast.walk(module):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if function.name in COMPOSERS:
                continue
            found += [
                f"{name_of(path)}:{call.lineno}: {ast.unparse(call.func)}"
                for call in calls(ast.Module(list(function.body), []))
                if getattr(call.func, "id", "") in COMPOSERS
            ]
    assert found == []


def test_only_composers_and_migrations_know_pieces_of_sql() -> None:
    """No f-string, `format`, `%` or `+` around words of SQL in any other function."""
    words = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|WHERE|ORDER BY|VALUES)\b")
    found = []
    for path in packages():
        if name_of(path).startswith(MIGRATION):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found += [
                    f"{name_of(path)}:{piece.lineno}"
                    for piece in _built_texts(node)
                    if node.name not in COMPOSERS and words.search(ast.unparse(piece))
                ]
    assert found == []


def _built_texts(function: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        is_format = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("format", "format_map", "join")
        )
        is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod)
        if isinstance(node, ast.JoinedStr) or is_format or is_sum:
            assert isinstance(node, ast.expr)
            yield node


def test_lua_is_a_file_and_values_are_its_arguments() -> None:
    """Scripts are loaded as their files are; nothing sends EVAL; no script runs text as Lua."""
    for path in packages():
        texts = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
        assert texts.isdisjoint({"EVAL", "EVAL_RO", "FCALL", "FUNCTION"}), path
        loads = [call for call in calls(tree(path)) if "SCRIPT" in map(_value, call.args[:1])]
        for call in loads:
            assert ast.unparse(call.args[2]) in ("s.text", "script.text"), path
    for path in (ROOT / "storage" / "redis" / "scripts").rglob("*.lua"):
        lua = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(loadstring|load|dofile|setfenv|getfenv)\s*\(", lua), path


def _value(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def test_no_shell_and_no_code_is_made_of_text() -> None:
    """`eval`, `exec`, pickle, YAML of unknown tags, a shell: none of them is anywhere."""
    found = []
    for path in packages():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                found += [f"{path}: {n}" for n in names & {"pickle", "marshal", "yaml", "shelve"}]
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                is_shell = any(
                    word.arg == "shell" and _value(word.value) is not False
                    for word in node.keywords
                )
                if called in ("eval", "exec", "compile", "os.system", "os.popen") or is_shell:
                    found.append(f"{name_of(path)}:{node.lineno}: {called}")
    assert found == []
