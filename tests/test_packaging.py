"""What is installed, and with what: packages, data files, dependencies, lock, entry points."""

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from parley.cli import cli
from tests.support.sources import FOREIGN, PACKAGES, ROOT, all_files, name_of, python_files
from tests.test_imports import imports, is_within

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# Parts of the product that come with the extra `embedded` and not without it.
DEVELOPMENT = {"bench", "workers.embedded", "workers.supervisor"}
# Needed though nothing of ours imports it: the parser of redis-py, the loop under anyio's portal,
# the engine under alembic.
INDIRECT = {"hiredis", "uvloop", "sqlalchemy"}
# Imported without being declared: parts of pyjwt[crypto], pydantic-settings, quart-trio and trio
# that those show in their own interfaces.
BROUGHT_ALONG = {"cryptography", "pydantic", "pydantic-core", "quart", "werkzeug", "outcome"}


def names_of(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[<>=~! ;]", item)[0]) for item in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


RUN_TIME = names_of(PROJECT["project"]["dependencies"])
EXTRAS = {
    name: names_of(items) - {"parley"}
    for name, items in PROJECT["project"]["optional-dependencies"].items()
}


def data_files() -> list[Path]:
    return [
        path
        for path in all_files()
        if path.relative_to(ROOT).parts[0] in PACKAGES and path not in python_files()
    ]


def test_every_package_is_named_and_no_other() -> None:
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in python_files()
        if path.name == "__init__.py"
    }
    assert sorted(found) == PROJECT["tool"]["setuptools"]["packages"]


def test_the_wheel_holds_every_file_of_the_product_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in all_files():
        if path.relative_to(ROOT).parts[0] != "docs":
            copy = source / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    ended = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {name_of(path) for path in [*python_files(), *data_files()]}


def test_data_files_are_of_known_kinds() -> None:
    known = ["*.lua", "*.sql", "*.mako", "*.json", "*.html", "*.js", "*.css", "*.svg", "py.typed"]
    known += ["*.c", "*.h", "README.md"]  # of the bench
    assert [
        name_of(path)
        for path in data_files()
        if not name_of(path).startswith(FOREIGN)
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in known)
    ] == []


def imported_distributions(*, within: set[str] | None, outside: set[str]) -> set[str]:
    """The distributions that part of the product imports."""
    distributions = packages_distributions()
    found: set[str] = set()
    for path in python_files():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if is_within(module, outside) or (within is not None and not is_within(module, within)):
            continue
        for _, name in imports(path):
            top = name.partition(".")[0]
            if top in PACKAGES or top in sys.stdlib_module_names:
                continue
            assert top in distributions, f"{module} imports {top}, which is not installed"
            found |= {normal(item) for item in distributions[top]}
    return found


def test_the_product_imports_what_it_declares_and_declares_what_it_imports() -> None:
    imported = imported_distributions(within=None, outside=DEVELOPMENT)
    assert imported - BROUGHT_ALONG <= RUN_TIME
    assert RUN_TIME - imported <= INDIRECT


def test_development_parts_need_no_more_than_their_extra() -> None:
    imported = imported_distributions(within=DEVELOPMENT, outside=set())
    assert imported <= RUN_TIME | EXTRAS["embedded"]


def test_every_dependency_is_locked_with_hashes() -> None:
    entries = [entry for entry in re.split(r"\n(?=\S)", LOCK) if not entry.startswith("#")]
    pinned = {normal(re.split(r"==", entry)[0]) for entry in entries}
    assert set().union(RUN_TIME, *EXTRAS.values()) <= pinned
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^\s;]+( ; [^\n]+)? \\\n    --hash=sha256:", entry), entry


def test_the_lock_names_no_host_and_no_folder() -> None:
    assert re.findall(r"\w+://|--(?:index|extra|find|trusted)[\w-]*|(?<!\w)/\w+", LOCK) == []


def test_the_procfile_runs_commands_that_exist() -> None:
    lines = dict(
        line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line
    )
    assert lines == {
        "release": "parley migrate",
        "broker": "parley broker",
        "api": "parley api",
        "archiver": "parley archiver",
    }
    assert {line.split()[1] for line in lines.values()} <= set(cli.commands)
    assert PROJECT["project"]["scripts"] == {"parley": "parley.cli:main"}


def test_ci_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and line[0] not in "# "]
    assert lines[0] == "set -euo pipefail"
    assert "make install" in lines
    assert any("make test" in line for line in lines[lines.index("make install") :])


@pytest.mark.parametrize("target", ["up", "install", "test", "lint", "bench", "help"])
def test_make_knows_its_targets_and_tells_of_them(target: str) -> None:
    ended = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert re.search(rf"^  make {target} +\S", ended.stdout, re.MULTILINE)
