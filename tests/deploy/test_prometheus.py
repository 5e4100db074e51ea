"""Alert rules and dashboard: taken by promtool, about metrics that exist, in the runbook."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from config.metrics import Metrics
from tests.deploy.balancers import DEPLOY, program
from tests.support.sources import ROOT

RULES = DEPLOY / "prometheus" / "alerts.yml"
RULES_TEST = DEPLOY / "prometheus" / "alerts_test.yml"
FOREIGN = {"up", "process_open_fds", "process_max_fds", "process_cpu_seconds_total",
           "process_resident_memory_bytes"}  # fmt: skip
_NAME = re.compile(r"\b(?:parley|process|python)_\w+|\bup\b")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def samples() -> set[str]:
    """The names that an expression may hold, as Prometheus stores them."""
    names = set(FOREIGN)
    for family in Metrics().registry.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        names |= {family.name + end for end in endings.get(family.type, ("",))}
    return names


def labels() -> dict[str, set[str]]:
    """The labels that each metric of ours has, beside those of the scrape."""
    return {
        str(found._name): set(found._labelnames)
        for found in vars(Metrics()).values()
        if hasattr(found, "_labelnames")
    }


def expressions() -> list[str]:
    """Of all rules and all panels."""
    board = json.loads((DEPLOY / "grafana" / "parley.json").read_text(encoding="utf-8"))
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(targets) > 30
    return [rule["expr"] for rule in rules()] + [target["expr"] for target in targets]


@pytest.mark.parametrize("command", [("check", RULES), ("test", RULES_TEST)], ids=["check", "test"])
def test_promtool_approves_the_rules(command: tuple[str, Any]) -> None:
    verb, file = command
    ended = subprocess.run(
        [program("promtool"), verb, "rules", file.name],
        cwd=file.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SUCCESS" in ended.stdout + ended.stderr


def test_each_alert_is_tested_with_samples_that_raise_it_and_with_others() -> None:
    tests = yaml.safe_load(RULES_TEST.read_text(encoding="utf-8"))["tests"]
    named = [test["name"] for test in tests]
    alerts = [rule["alert"] for rule in rules()]
    assert sorted(named) == sorted([*alerts, *(f"{alert}, quiet" for alert in alerts)])


def test_each_expression_is_about_metrics_that_exist() -> None:
    known = samples()
    unknown = {name for text in expressions() for name in _NAME.findall(text)} - known
    assert unknown == set()


def test_each_label_that_an_expression_selects_by_exists() -> None:
    found = labels()
    for text in expressions():
        for name, selector in re.findall(r"\b(parley_\w+)\{([^}]*)\}", text):
            family = re.sub(r"_(total|bucket|sum|count)$", "", name)
            allowed = found[family] | {"le", "instance", "job"}
            assert set(re.findall(r"(\w+)\s*[!=]~?", selector)) <= allowed, text


def test_each_alert_has_its_entry_in_the_runbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    entries = re.findall(r"^### (Parley\w+)$", page, re.MULTILINE)
    assert entries == [rule["alert"] for rule in rules()], "in the order of the rules"
    for rule in rules():
        anchor = f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == anchor
        assert rule["labels"]["severity"] in ("page", "ticket")
        entry = page.partition(f"### {rule['alert']}\n")[2].partition("\n##")[0]
        for part in ("**Means.**", "**Users feel.**", "**Look at.**", "**Do.**"):
            assert part in entry, f"{rule['alert']}: {part}"
