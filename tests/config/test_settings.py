"""Settings: where values come from, and that every mistake is one clear line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from config.rules import Duration, Rule, Whole
from config.settings import ConfigError, Process, Settings, load_settings, variable_rules

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def line_of(**overrides: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, **overrides)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(caught.value.variable + ": ")
    return line


def test_the_defaults_are_those_of_the_contract() -> None:
    found = load_settings(None)
    expected = {
        "port": None, "host": "127.0.0.1", "log_format": "json", "metrics_port": 0,
        "broker_processes": 1, "room_partitions": 16, "room_log_length": 1000,
        "room_log_ttl": 86_400.0, "max_frame_bytes": 65_536, "send_queue_bytes": 1_048_576,
        "rate_messages_per_second": 50, "rate_requests_per_second": 50,
        "max_subscriptions": 1000, "quiet_room_users": 200, "idempotency_window": 600.0,
        "ping_interval": 25.0, "pong_timeout": 8.0, "auth_timeout": 10.0, "node_lease": 15.0,
        "presence_grace": 3.0, "drain_seconds": 20, "archive_batch": 500,
        "archive_interval": 0.1, "archive_backlog_limit": 1_000_000,
        "auto_create_users": True, "token_creates_rooms": True, "jwt_user_claim": "sub",
    }  # fmt: skip
    assert {name: getattr(found, name) for name in expected} == expected


def test_every_default_is_within_its_own_limits() -> None:
    for name, (rule, reason) in variable_rules().items():
        default = Settings.model_fields[name].default
        if default is not None:
            assert rule.parse(default) == default, name
        assert reason.endswith("."), name


def test_the_environment_beats_the_file_and_an_override_beats_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(
        "# a comment\nPORT=1000\nHOST=file.test\nPING_INTERVAL=5s # seconds\n"
        f"JWT_SECRET='{SECRET}'\nSOMETHING_ELSE=of another program\n"
    )
    monkeypatch.setenv("HOST", "environment.test")
    monkeypatch.setenv("PING_INTERVAL", "30s")
    found = load_settings(env_file, ping_interval=40.0)
    assert (found.port, found.host, found.ping_interval) == (1000, "environment.test", 40.0)
    assert found.jwt_secret == SecretStr(SECRET)


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("JWT_SECRET", "")
    found = load_settings(None)
    assert found.port is None
    assert found.jwt_secret is None


def test_a_missing_file_is_no_mistake_and_an_unreadable_one_is(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "absent").port is None
    (tmp_path / ".env").write_bytes(b"HOST=\xff\xfe")
    with pytest.raises(ConfigError, match="can not be read"):
        load_settings(tmp_path / ".env")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"port": "eighty"}, "PORT: 'eighty' is not a whole number"),
        ({"port": "65536"}, "PORT: 65536 is too large; allowed: a whole number from 0 to 65535"),
        ({"port": "8_0"}, "PORT: '8_0'"),
        ({"port": "80.5"}, "PORT: '80.5'"),
        ({"broker_processes": "0"}, "BROKER_PROCESSES: 0 is too small"),
        ({"ping_interval": "5"}, "PING_INTERVAL: '5' has no unit"),
        ({"ping_interval": "5x"}, "PING_INTERVAL: '5x' has the unknown unit 'x'"),
        ({"ping_interval": "5ms"}, "PING_INTERVAL: 5ms is too short; allowed: 100ms to 10m"),
        ({"node_lease": "1h"}, "NODE_LEASE: 1h is too long; allowed: 1s to 5m"),
        ({"drain_seconds": "20s"}, "DRAIN_SECONDS: '20s' is not a whole number"),
        ({"log_level": "loud"}, "allowed: debug, info, warning or error"),
        ({"log_format": "xml"}, "allowed: json or text"),
        ({"auto_create_users": "maybe"}, "AUTO_CREATE_USERS: 'maybe'"),
        ({"host": "a b"}, "HOST: "),
        ({"redis_url": "localhost:6379"}, "REDIS_URL: it has no scheme"),
        ({"redis_url": "redis+cluster://a"}, "REDIS_URL: it has the scheme 'redis+cluster'"),
        ({"redis_url": "redis://"}, "REDIS_URL: it names no host"),
        ({"redis_url": "redis://a:port"}, "REDIS_URL: its host or port"),
        ({"database_url": "mysql://a/b"}, "DATABASE_URL: it has the scheme 'mysql'"),
        ({"allowed_origins": "https://a.test, b.test"}, "ALLOWED_ORIGINS: 'b.test'"),
        ({"jwt_secret": "short"}, "JWT_SECRET: it is 5 bytes long; allowed: at least 32 bytes"),
        ({"jwt_secret": "-----BEGIN PUBLIC KEY-----" + "A" * 40}, "JWT_SECRET: this is a key in"),
        ({"jwt_secret_previous": SECRET}, "JWT_SECRET_PREVIOUS: it is set without JWT_SECRET"),
        ({"jwt_public_key": "-----BEGIN PRIVATE KEY-----"}, "JWT_PUBLIC_KEY: this is a private"),
        ({"pong_timeout": "30s"}, "PONG_TIMEOUT: it is longer than PING_INTERVAL"),
        ({"presence_grace": "20s"}, "PRESENCE_GRACE: it is not shorter than NODE_LEASE"),
        ({"archive_backlog_limit": "3"}, "ARCHIVE_BACKLOG_LIMIT: it is shared"),
        ({"send_queue_bytes": "100000"}, "SEND_QUEUE_BYTES: 100000 is too small"),
        ({"metrics_port": "99", "port": "99"}, "METRICS_PORT: it is the same as PORT"),
        ({"broker_processes": "2", "port": "0"}, "PORT: 0 gives each"),
        ({"metrics_port": "65535", "broker_processes": "2"}, "METRICS_PORT: METRICS_PORT plus"),
    ],
)
def test_a_mistake_is_one_line_with_name_problem_and_what_is_allowed(
    overrides: dict[str, Any], words: str
) -> None:
    line = line_of(**overrides)
    assert words in line
    assert "allowed: " in line or "same as" in line


def test_several_mistakes_name_each_other() -> None:
    line = line_of(port="x", ping_interval="y", jwt_secret="z")
    assert line.startswith("PORT: ")
    assert line.endswith("(also wrong: JWT_SECRET, PING_INTERVAL)")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "http://user:hunter2@host"),
        ("database_url", "postgres://u:hunter2@host:port/x"),
        ("jwt_secret", "hunter2"),
        ("jwt_public_key", "-----BEGIN PRIVATE KEY-----hunter2"),
    ],
)
def test_no_line_quotes_a_secret(name: str, value: str) -> None:
    assert "hunter2" not in line_of(**{name: value})


def test_no_text_form_of_the_settings_holds_a_secret() -> None:
    found = load_settings(
        None,
        jwt_secret="hunter2" * 8,
        redis_url="redis://u:hunter2@r",
        database_url="postgresql://u:hunter2@p/d",
    )
    assert "hunter2" not in repr(found)
    assert "hunter2" not in str(found)


def test_settings_are_frozen_and_unknown_overrides_are_a_bug() -> None:
    found = load_settings(None)
    with pytest.raises(ValidationError):
        found.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="no such setting: prot"):
        load_settings(None, prot=1)


def test_good_values_of_every_kind() -> None:
    found = load_settings(
        None,
        redis_url="unix:///run/redis.sock?db=2",
        database_url="postgres://u:p@[::1]:5432/d",
        allowed_origins="https://Chat.example.org/, https://*.example.net,http://localhost:3000,*",
        auto_create_users="off",
        log_level="WARNING",
        room_log_ttl="7d",
        jwt_public_key="-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----",
    )
    assert found.allowed_origins == (
        "https://chat.example.org", "https://*.example.net", "http://localhost:3000", "*",
    )  # fmt: skip
    assert found.auto_create_users is False
    assert found.log_level == "warning"
    assert found.room_log_ttl == 7 * 86_400.0
    assert found.jwt_public_key is not None
    assert found.jwt_public_key.count("\n") == 2


@pytest.mark.parametrize(
    ("process", "given_variables", "missing"),
    [
        ("broker", {}, "REDIS_URL"),
        ("broker", {"redis_url": "redis://r"}, "DATABASE_URL"),
        ("broker", {"redis_url": "redis://r", "database_url": "postgresql://p/d"}, "JWT_SECRET"),
        ("api", {"redis_url": "redis://r", "database_url": "postgresql://p/d"}, "JWT_SECRET"),
        ("archiver", {"redis_url": "redis://r"}, "DATABASE_URL"),
        ("migrate", {}, "DATABASE_URL"),
        ("apikey", {}, "DATABASE_URL"),
        ("token", {"jwt_public_key": "key.pem"}, "JWT_SECRET"),
        ("check", {}, "REDIS_URL"),
    ],
)
def test_what_a_process_can_not_do_without(
    process: Process, given_variables: dict[str, str], missing: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, **given_variables).require_for(process)
    assert caught.value.variable == missing
    assert "allowed: " in str(caught.value)


def test_a_broker_without_any_key_is_told_of_all_three() -> None:
    urls = {"redis_url": "redis://r", "database_url": "postgresql://p/d"}
    with pytest.raises(ConfigError, match=r"JWT_SECRET.*JWT_PUBLIC_KEY.*JWT_JWKS_URL"):
        load_settings(None, **urls).require_for("broker")
    load_settings(None, **urls, jwt_secret=SECRET).require_for("broker")
    load_settings(None, **urls, jwt_public_key="key.pem").require_for("api")
    load_settings(None, **urls).require_for("archiver")


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(Settings.model_fields)), st.text())
def test_any_text_is_a_value_or_one_line_that_names_the_variable(name: str, text: str) -> None:
    try:
        load_settings(None, **{name: text})
    except ConfigError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(name.upper() + ": ")


@settings(deadline=None)
@given(st.integers(-10, 10**7) | st.floats(allow_nan=True) | st.booleans() | st.none())
def test_rules_keep_their_limits_for_values_that_are_no_text(value: Any) -> None:
    rules: list[Rule] = [Whole(3, 1000), Duration(0.5, 60.0)]
    for rule in rules:
        try:
            parsed = rule.parse(value)
        except ValueError:
            continue
        assert parsed is None or 0.5 <= parsed <= 1000
