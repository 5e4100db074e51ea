"""The configuration page and `.env.example` say what `config.settings` says."""

import re
from pathlib import Path

import pytest

from config.durations import format_duration
from config.rules import Duration, Switch
from config.settings import Settings, load_settings, variable_rules

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")


def default_text(name: str) -> str:
    rule, _ = variable_rules()[name]
    default = Settings.model_fields[name].default
    if default in (None, "", ()):
        return ""
    if isinstance(rule, Duration):
        return format_duration(default)
    return str(default).lower() if isinstance(rule, Switch) else str(default)


def page_row(name: str) -> str:
    """The line of the page's tables that belongs to a variable."""
    rule, reason = variable_rules()[name]
    default = f"`{default_text(name)}`" if default_text(name) else "none"
    unit = f" ({rule.unit})" if rule.unit else ""
    return f"| `{name.upper()}` | {default} | {rule.allowed}{unit} | {reason} |"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_variable_has_its_line_on_the_page(name: str) -> None:
    assert page_row(name) in PAGE.splitlines()


def test_the_page_has_no_variable_too_many() -> None:
    rows = re.findall(r"^\| `[A-Z_]+` \|", PAGE, re.MULTILINE)
    assert len(rows) == len(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_variable_is_in_the_example_with_its_default(name: str) -> None:
    assert f"#{name.upper()}={default_text(name)}" in EXAMPLE.splitlines()


def test_the_example_can_be_read_as_it_is_and_with_everything_switched_on(tmp_path: Path) -> None:
    assert load_settings(ROOT / ".env.example") == load_settings(None)
    everything = tmp_path / "env"
    lines = [line.removeprefix("#") for line in EXAMPLE.splitlines() if line.startswith("#")]
    everything.write_text("\n".join(line for line in lines if line[:1].isupper() and "=" in line))
    assert load_settings(everything) == load_settings(None)
