"""Logs: one line an event, with fields, without secrets."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from config.logging import REDACTED, configure_logging, redact_secrets, redact_text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJlLW9mLXNvbWUta2luZA"
API_KEY = "parley_Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OWFiY2RlZmdoaWpr"


@pytest.fixture(autouse=True)
def former_configuration() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_json_is_one_object_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    with structlog.contextvars.bound_contextvars(node="n1"):
        structlog.get_logger().info("opened", connection="c1", count=3)
    structlog.get_logger().debug("not shown")
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "opened",
        "level": "info",
        "node": "n1",
        "connection": "c1",
        "count": 3,
    }


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    structlog.get_logger().warning("slow consumer", connection="c1", token=JWT)
    text = capsys.readouterr().err
    assert "slow consumer" in text
    assert "c1" in text
    assert "eyJ" not in text


def test_libraries_take_the_same_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    library = logging.getLogger("some.library")
    library.info("chatter")
    library.warning("lost %s", "redis://u:hunter2@host/0")
    (line,) = lines(capsys)
    assert line["event"] == f"lost redis://u:{REDACTED}@host/0"
    assert line["logger"] == "some.library"


def test_tracebacks_are_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    try:
        raise ValueError(f"can not read {JWT}")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: can not read" in line["exception"]
    assert "eyJ" not in line["exception"]


def test_a_reader_that_has_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _text: str) -> int:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    configure_logging("info", "json")
    monkeypatch.setattr("sys.stderr", Gone())
    structlog.get_logger().info("nobody reads this")
    logging.getLogger("some.library").error("nor this")


@pytest.mark.parametrize(
    "text",
    [
        f"GET /v1/connect?token={JWT} 101",
        f"Authorization: Bearer {JWT}",
        f"authorization: bearer {JWT}",
        "GET /v1/connect?token=hunter2hunter2&x=1",
        "X-API-Key: hunter2hunter2",
        f"key {API_KEY} refused",
        "redis://:hunter2hunter2@host:6379/0",
        "postgresql://user:hunter2hunter2@host/db",
        "password='hunter2hunter2'",
        '{"secret": "hunter2hunter2"}',
        "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_blanked(text: str) -> None:
    found = redact_text(text)
    assert REDACTED in found
    for secret in (JWT, "hunter2", API_KEY, "eyJ"):
        assert secret not in found


@pytest.mark.parametrize(
    "text",
    [
        "room default/general opened",
        "https://chat.example.org/v1/rooms?limit=50",
        "the token has expired",
        "connection c1 closed with 4401",
        "redis://host:6379/0",
        "user anna@example.org",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert redact_text(text) == text


def test_fields_with_telling_names_are_blanked_at_any_depth() -> None:
    event = {
        "event": "x",
        "token": "abc",
        "jwt_secret": b"abc",
        "headers": {"Authorization": "abc", "host": "h"},
        "list": [{"password": "abc"}],
        "api_key": None,
        "tokens_revoked": 3,
        "user": "anna",
    }
    found = redact_secrets(None, "info", dict(event))
    assert "abc" not in json.dumps(found)
    assert found["headers"]["host"] == "h"
    assert (found["api_key"], found["tokens_revoked"], found["user"]) == (None, 3, "anna")


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        ),
    ),
    st.text(),
)
def test_a_token_never_survives_wherever_it_stands(event: dict[str, Any], around: str) -> None:
    event["note"] = [{"deep": f"{around} {JWT} {around}"}]
    assert JWT not in json.dumps(redact_secrets(None, "info", event), default=str)


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_what_others_chose_is_one_line_that_no_terminal_obeys(
    capsys: pytest.CaptureFixture[str], fmt: str
) -> None:
    """Log injection: new lines, colours, 8-bit escapes, the other separators."""
    configure_logging("info", fmt)
    hostile = "a\r\n2026-01-01 [info] forged\x1b[2J\x9b31m\x00\x7f\u2028\u2029\u202ez"
    structlog.get_logger().warning(hostile, room=hostile, long="y" * 200_000)
    logging.getLogger("library").warning("%s", hostile)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "forged" in lines[0]
    assert not any(c.isprintable() is False for line in lines for c in line)
    assert len(lines[0]) < 20_000


def test_a_traceback_keeps_its_lines_in_text_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "text")
    try:
        raise ValueError("with\x1b[31m colour")
    except ValueError:
        structlog.get_logger().exception("failed")
    said = capsys.readouterr().err
    assert "\nTraceback (most recent call last):\n" in said
    assert "\x1b" not in said
    assert r"with\x1b[31m colour" in said
