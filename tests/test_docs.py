"""What the pages say, against what is there: links, metrics, codes, scripts, commands, paths."""

import re
from pathlib import Path

import click
import pytest

from broker.protocol.commands import COMMANDS
from broker.protocol.errors import CLOSES, ERRORS
from broker.protocol.schemas.asyncapi import asyncapi_text
from config.metrics import Metrics
from config.settings import Settings
from parley.cli import cli
from tests.support.sources import PACKAGES, ROOT, all_files, name_of, python_files

PAGES = [path for path in all_files() if path.suffix == ".md"]
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_CODE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_METRIC = re.compile(r"^\| `(parley_\w+)`", re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors_of(page: Path) -> set[str]:
    """The anchors that a page's headings get, as the usual hosts make them."""
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            links = _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))
            targets = [(page.parent / link.partition("#")[0]).resolve() for link in links]
            waiting += [target for target in targets if target.suffix == ".md"]
    assert [name_of(page) for page in PAGES if page not in reached] == []


def test_every_metric_is_documented_and_no_other() -> None:
    families = Metrics().registry.collect()
    exposed = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in families
        if family.name.startswith("parley_")
    }
    table = read("docs/operations.md").partition("## Metrics")[2].partition("\n## ")[0]
    documented = _METRIC.findall(table)
    assert sorted(documented) == sorted(exposed)


def test_every_metric_is_filled_by_somebody() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in python_files())
    names = vars(Metrics()).keys() - {"registry"}
    assert [name for name in names if not re.search(rf"metrics\.{name}\b", sources)] == []


def test_every_error_code_is_in_the_protocol_page_with_its_status() -> None:
    page = read("docs/protocol.md")
    assert [row.code for row in ERRORS if f"\n| `{row.code}` | {row.status} |" not in page] == []


def test_every_close_code_is_in_the_protocol_page() -> None:
    page = read("docs/protocol.md")
    assert [row.code for row in CLOSES if f"\n| {row.code} |" not in page] == []


def test_every_client_frame_is_in_the_protocol_page_and_none_is_still_reserved() -> None:
    page, _, reserved = read("docs/protocol.md").partition("## Reserved for later")
    commands = page.partition("## Commands")[2].partition("### subscribe")[0]
    frames = reserved.partition("Client frames")[2].partition("Events:")[0]
    assert [name for name in COMMANDS if f"`{name}`" not in commands] == []
    assert [name for name in COMMANDS if f"`{name}`" in frames] == []


def test_the_asyncapi_document_is_what_the_code_says() -> None:
    assert read("docs/asyncapi.yaml") == asyncapi_text(), (
        "run: .venv/bin/python -m broker.protocol.schemas > docs/asyncapi.yaml"
    )


def test_every_script_is_in_the_architecture_page_and_no_other() -> None:
    page = read("docs/architecture.md")
    table = page.partition("### Scripts")[2].partition("\n## ")[0]
    scripts = sorted(path.stem for path in (ROOT / "storage/redis/scripts").glob("*.lua"))
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == scripts


@pytest.mark.parametrize(("page", "count"), [("docs/promises.md", 60), ("docs/hazards.md", 26)])
def test_every_promise_and_hazard_names_tests_that_exist(page: str, count: int) -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", read(page), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, count + 1))
    missing = []
    for number, _promise, proof in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
        assert tests, f"row {number} names no test"
        for file, test in tests:
            path = ROOT / file
            if not path.exists() or f"def {test}(" not in path.read_text(encoding="utf-8"):
                missing.append(f"{number}: {file}::{test}")
    assert missing == []


def test_every_item_of_the_security_page_names_a_test_that_exists_or_says_whose_it_is() -> None:
    page = read("docs/security.md").partition("## Proof, item by item")[2]
    rows = re.findall(r"^\| (.+?) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) > 60
    wrong = []
    for item, _done, proof in rows:
        if item == "item" or proof in ("yours", "does not apply"):
            continue
        tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", proof)
        wrong += [item] if not tests else []
        for file, test in tests:
            path = ROOT / file
            if not path.exists() or (test and f"def {test}(" not in path.read_text("utf-8")):
                wrong.append(f"{item}: {file}::{test}")
    assert wrong == []


def test_every_command_is_mentioned() -> None:
    pages = read("README.md") + read("docs/operations.md")
    names = []
    for name, command in cli.commands.items():
        inner = command.commands if isinstance(command, click.Group) else {}
        names += [f"parley {name} {sub}" for sub in inner] or [f"parley {name}"]
    assert [name for name in names if name not in pages] == []


def test_every_variable_named_in_the_pages_exists() -> None:
    known = {name.upper() for name in Settings.model_fields}
    prefixes = {name.partition("_")[0] for name in known if "_" in name}
    assert [
        f"{name_of(page)}: {word}"
        for page in PAGES
        for word in re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", page.read_text())
        if word.partition("_")[0] in prefixes and word not in known
    ] == []


def test_every_file_named_in_the_pages_exists() -> None:
    folders = "|".join((*PACKAGES, "tests", "docs"))
    path = re.compile(rf"`((?:{folders})/[\w./-]*)`")
    assert [
        f"{name_of(page)}: {name}"
        for page in PAGES
        for name in path.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ] == []
