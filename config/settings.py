"""Every variable of the environment, with its unit, limit and reason: `Settings`.

Law of this file: an attribute is the lower-case name of its variable; durations are seconds
(float), sizes are what the reason says (int). The value is frozen and passed down; nobody below
a composition root reads the environment. The real environment beats `.env`, an override (tests,
command-line options) beats both, and a variable that is set to nothing counts as not set.
Constants that no operator needs to touch are in `limits`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config import limits
from config.errors import ConfigError
from config.rules import (
    Choice,
    Duration,
    KeyText,
    Names,
    Origins,
    Secret,
    Switch,
    Text,
    Url,
    Whole,
)
from config.rules import Rule as Rule

__all__ = ["ConfigError", "Process", "Settings", "load_settings", "variable_rules"]

Process = Literal["broker", "api", "archiver", "migrate", "token", "apikey", "check"]

_PORT: Final = Whole(0, 65_535)
_REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})
"""What the own machine is called, in HOST and in the Host header of a request."""


class Settings(BaseSettings):
    """The configuration of one process. Build it with `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    # --- where ---
    port: Annotated[int | None, _PORT] = Field(
        None, description="What the process serves on; empty: broker 8765, api 8080; 0: any free."
    )
    host: Annotated[str, Text("a host name or address")] = Field(
        "127.0.0.1", description="The address served on. 0.0.0.0 opens it to the network."
    )
    redis_url: Annotated[str, Url(_REDIS_SCHEMES)] = Field(
        "", repr=False, description="Redis 6.2+ or Valkey 7.2+, with maxmemory-policy noeviction."
    )
    database_url: Annotated[str, Url(("postgresql", "postgres"))] = Field(
        "", repr=False, description="PostgreSQL 14 or newer."
    )

    # --- who ---
    jwt_secret: Annotated[SecretStr | None, Secret(limits.JWT_SECRET_BYTES_MIN)] = Field(
        None, description="Signs and verifies user tokens (HS256). Shorter ones can be guessed."
    )
    jwt_secret_previous: Annotated[SecretStr | None, Secret(limits.JWT_SECRET_BYTES_MIN)] = Field(
        None, description="Still verifies while JWT_SECRET is being changed; never signs."
    )
    jwt_public_key: Annotated[str | None, KeyText()] = Field(
        None, description="Verifies tokens of your own identity provider (RS256, ES256, EdDSA)."
    )
    jwt_jwks_url: Annotated[str | None, Url(("https", "http"))] = Field(
        None, description="Where that provider publishes its keys, if it changes them."
    )
    jwt_issuer: Annotated[str | None, Text("the exact iss claim")] = Field(
        None, description="If set, the iss claim of every token must be this."
    )
    jwt_audience: Annotated[str | None, Text("one of the aud claims")] = Field(
        None, description="If set, the aud claim of every token must be or contain this."
    )
    jwt_user_claim: Annotated[str, Text("the name of a claim")] = Field(
        "sub", description="The claim that holds the user's id."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode, Origins()] = Field(
        (),
        description="Web pages that may connect. Empty: only pages of the host they connect to, "
        "and clients that are no browsers.",
    )
    auto_create_users: Annotated[bool, Switch()] = Field(
        True, description="A valid token of an unknown user creates the user."
    )
    token_creates_rooms: Annotated[bool, Switch()] = Field(
        True, description="User tokens may create direct and group rooms over REST."
    )

    # --- the chat page ---
    chat_page: Annotated[bool, Switch()] = Field(
        True, description="The API serves the chat page at /."
    )
    broker_url: Annotated[str, Url(("wss", "ws"))] = Field(
        "", description="Where the page reaches the broker, such as "
        "wss://chat.example.org/v1/connect; empty: /v1/connect at the page's own host."
    )  # fmt: skip
    demo_users: Annotated[tuple[str, ...], NoDecode, Names("user ids")] = Field(
        (), description="Set by parley up alone: who anybody on this machine may be on the page."
    )

    # --- logs and metrics ---
    log_level: Annotated[str, Choice(("debug", "info", "warning", "error"))] = Field(
        "info", description="The least severity that is logged."
    )
    log_format: Annotated[str, Choice(("json", "text"))] = Field(
        "json", description="json for machines, text for people."
    )
    metrics_port: Annotated[int, _PORT] = Field(
        0, description="Serves GET /metrics for Prometheus on HOST; 0: off. Child n of several "
        "broker processes uses METRICS_PORT + n, counted from 0."
    )  # fmt: skip
    broker_processes: Annotated[int, Whole(1, 64)] = Field(
        1, description="Broker processes that share PORT: one a core that the broker may use."
    )

    # --- rooms ---
    room_partitions: Annotated[int, Whole(1, 1024)] = Field(
        16, description="Groups of rooms in Redis. Fixed for the life of a deployment."
    )
    room_log_length: Annotated[int, Whole(1, 100_000, "events")] = Field(
        1000, description="Archived events kept in Redis per room: how far back a resume reaches."
    )
    room_log_ttl: Annotated[float, Duration(1.0, 30 * _DAY)] = Field(
        24 * _HOUR, description="How long a quiet, archived room stays in Redis."
    )
    quiet_room_users: Annotated[int, Whole(1, 100_000, "users")] = Field(
        200, description="Above so many online users a room sends counts, not names."
    )
    idempotency_window: Annotated[float, Duration(1.0, 10 * _MINUTE)] = Field(
        10 * _MINUTE, description="How long a repeated client_id gives the first answer."
    )

    # --- connections ---
    max_frame_bytes: Annotated[int, Whole(1024, 1024 * 1024, "bytes")] = Field(
        65_536, description="The largest frame a client may send; larger ones close with 1009."
    )
    send_queue_bytes: Annotated[
        int, Whole(limits.SERVER_FRAME_BYTES_MAX + 65_536, 64 * 1024 * 1024, "bytes")
    ] = Field(
        1024 * 1024,
        description="Kept for a slow client before it is closed with 4508; it must hold the "
        "largest server frame.",
    )
    rate_messages_per_second: Annotated[int, Whole(1, 1_000_000, "a second")] = Field(
        50, description="Messages of one connection (burst: twice); other frames ten times that."
    )
    rate_requests_per_second: Annotated[int, Whole(1, 1_000_000, "a second")] = Field(
        50, description="REST requests of one token; API keys are not limited."
    )
    max_subscriptions: Annotated[int, Whole(1, 100_000, "rooms")] = Field(
        1000, description="Subscriptions of one connection: bounds its memory and its resume."
    )
    ping_interval: Annotated[float, Duration(0.1, 10 * _MINUTE)] = Field(
        25.0, description="Pause between pings; below the idle timeout of proxies (often 60 s)."
    )
    pong_timeout: Annotated[float, Duration(0.1, _MINUTE)] = Field(
        8.0, description="A peer silent for so long after a ping is lost."
    )
    auth_timeout: Annotated[float, Duration(0.1, 2 * _MINUTE)] = Field(
        10.0, description="How long a connection may stay without a token."
    )

    # --- nodes ---
    node_lease: Annotated[float, Duration(1.0, 5 * _MINUTE)] = Field(
        15.0, description="A node silent for so long is dead; its presence is removed then."
    )
    presence_grace: Annotated[float, Duration(0.0, _MINUTE)] = Field(
        3.0, description="A user who is back within this never left."
    )
    drain_seconds: Annotated[int, Whole(0, 600, "seconds")] = Field(
        20, description="How long a stopping process lets its clients and requests leave."
    )

    # --- the archive ---
    archive_batch: Annotated[int, Whole(1, 10_000, "events")] = Field(
        500,
        description="Events of a batch. Up to four batches that wait are one transaction, "
        "fewer once they are 4 MiB together.",
    )
    archive_interval: Annotated[float, Duration(0.001, _MINUTE)] = Field(
        0.1,
        description="How long the archiver collects a batch that is not full; three times as long "
        "while a partition is busy.",
    )
    archive_backlog_limit: Annotated[int, Whole(1, 1_000_000_000, "events")] = Field(
        1_000_000, description="Unarchived events before publishing answers overloaded: about "
        "1 KiB of Redis memory each."
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        for variable, is_wrong, problem in (
            ("PONG_TIMEOUT", self.pong_timeout > self.ping_interval,
             "it is longer than PING_INTERVAL; allowed: at most PING_INTERVAL"),
            ("PRESENCE_GRACE", self.presence_grace >= self.node_lease,
             "it is not shorter than NODE_LEASE; allowed: less than NODE_LEASE"),
            ("ARCHIVE_BACKLOG_LIMIT", self.archive_backlog_limit < self.room_partitions,
             "it is shared among the partitions; allowed: at least ROOM_PARTITIONS"),
            ("JWT_SECRET_PREVIOUS",
             self.jwt_secret_previous is not None and self.jwt_secret is None,
             "it is set without JWT_SECRET; allowed: both, or JWT_SECRET alone"),
            ("METRICS_PORT", self.metrics_port != 0 and self.metrics_port == self.port,
             "it is the same as PORT; allowed: another port, or 0 for off"),
            ("METRICS_PORT", self.metrics_port + self.broker_processes > 65_536,
             "METRICS_PORT plus BROKER_PROCESSES is above 65535; allowed: a smaller port"),
            ("DEMO_USERS", bool(self.demo_users) and self.host not in LOOPBACK_NAMES,
             "it gives tokens to everybody who can reach HOST; allowed: only with HOST=127.0.0.1"),
            ("DEMO_USERS", bool(self.demo_users) and self.jwt_secret is None,
             "it is set without JWT_SECRET; allowed: both, or neither"),
            ("PORT", self.broker_processes > 1 and self.port == 0,
             "0 gives each of several broker processes another port; allowed: 1 to 65535"),
        ):  # fmt: skip
            if is_wrong:
                raise ValueError(variable, problem)
        return self

    def require_for(self, process: Process) -> None:
        """Raise ConfigError if a variable that `process` can not do without is missing."""
        if process not in ("migrate", "apikey", "token") and not self.redis_url:
            raise ConfigError(f"REDIS_URL: it is missing; allowed: {_allowed('redis_url')}")
        if process != "token" and not self.database_url:
            raise ConfigError(f"DATABASE_URL: it is missing; allowed: {_allowed('database_url')}")
        if process == "token" and self.jwt_secret is None:
            raise ConfigError(
                "JWT_SECRET: it is missing and tokens are signed with it; "
                f"allowed: {_allowed('jwt_secret')}"
            )
        if process in ("broker", "api", "check") and not (
            self.jwt_secret or self.jwt_public_key or self.jwt_jwks_url
        ):
            raise ConfigError(
                "JWT_SECRET: no key is set to verify user tokens with; allowed: at least one "
                "of JWT_SECRET (HS256), JWT_PUBLIC_KEY or JWT_JWKS_URL (RS256, ES256, EdDSA)"
            )


def variable_rules() -> dict[str, tuple[Rule, str]]:
    """Return attribute name → (rule, reason) of every variable, for the configuration page."""
    return {
        name: (
            next(item for item in field.metadata if isinstance(item, Rule)),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    }


def load_settings(env_file: Path | None = Path(".env"), **overrides: Any) -> Settings:
    """Return the settings of the environment, `env_file` (if it exists) and `overrides`.

    Raises ConfigError with one line for the first wrong variable.
    """
    unknown = overrides.keys() - Settings.model_fields.keys()
    if unknown:
        raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
    try:
        return Settings(_env_file=env_file, _env_file_encoding="utf-8", **overrides)
    except ValidationError as error:
        raise _first_error(error) from None
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{env_file}: it can not be read: {error}") from None


def _first_error(error: ValidationError) -> ConfigError:
    found = error.errors(include_url=False, include_input=False)
    first = found[0]
    reason = first.get("ctx", {}).get("error")
    if not first["loc"] and isinstance(reason, ValueError) and len(reason.args) == 2:
        return ConfigError(*reason.args)
    names = list(dict.fromkeys(str(item["loc"][0]).upper() for item in found if item["loc"]))
    problem = str(reason) if isinstance(reason, ValueError) else first["msg"]
    if len(names) > 1:
        problem += f" (also wrong: {', '.join(names[1:])})"
    return ConfigError(f"{names[0]}: {problem}")


def _allowed(name: str) -> str:
    return variable_rules()[name][0].allowed
