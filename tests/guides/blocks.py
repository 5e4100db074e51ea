"""The programs that stand in a guide."""

import re

from tests.support.sources import ROOT


def block(page: str, language: str, number: int = 0) -> str:
    """The n-th block of a language in docs/guides/PAGE."""
    text = (ROOT / "docs" / "guides" / page).read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return found[number]
