"""The page at `/docs`: its files, their headers, and what its policy lets it do."""

from __future__ import annotations

import re

import pytest

from tests.api.conftest import open_api
from tests.support.sources import ROOT

FOLDER = ROOT / "api" / "docs"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".css", ".js"))


async def test_the_policy_allows_the_pages_own_files_and_this_api_alone(api):
    answer = await api.as_nobody().send("GET", "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert {
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    } <= set(policy)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_whatever_the_page_and_its_scripts_name_is_served(api):
    """Addresses are relative, so that the API may stand below a path."""
    page = (await api.as_nobody().send("GET", "/docs")).body.decode()
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    assert {"openapi.json", "asyncapi.yaml", "./", "docs/main.js", "docs/style.css"} <= named
    for name in FILES:
        imported = re.findall(r'from "\./([^"]+)"', (FOLDER / name).read_text(encoding="utf-8"))
        named |= {f"docs/{other}" for other in imported}
    assert named >= {f"docs/{name}" for name in FILES}, "a file that nothing loads"
    for path in named:
        answer = await api.as_nobody().send("GET", f"/{path.removeprefix('./')}")
        assert answer.status == 200, path
        if path.startswith("docs/"):
            again = await api.as_nobody().send(
                "GET", f"/{path}", If_None_Match=answer.headers["etag"]
            )
            assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2Fapp.py", "__init__.py", "index.html", "rest.js"]
)
async def test_nothing_but_the_files_of_the_page_is_served(api, name):
    assert (await api.as_nobody().send("GET", f"/docs/{name}")).status == 404


@pytest.mark.parametrize("path", [FOLDER / "index.html", *(FOLDER / name for name in FILES)])
def test_the_page_needs_nobody_else_stores_nothing_and_parses_no_html(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for word in ("http://", "https://", "Storage", "cookie", "indexedDB", "HTML(", "innerHTML"):
        assert word not in text
    assert "style=" not in text
    assert re.findall(r"<script(?! type=\"module\" src=)", text) == []


async def test_without_a_chat_page_nothing_points_at_one(api, redis_url, database_url, nursery):
    assert b"Chat page" in (await api.as_nobody().send("GET", "/docs")).body
    async with open_api(redis_url, database_url, nursery, chat_page=False) as alone:
        answer = await alone.as_nobody().send("GET", "/docs")
        assert (answer.status, b"Chat page" in answer.body) == (200, False)
        assert (await alone.as_nobody().send("GET", "/docs/dom.js")).status == 200
