"""The OTEL_* variables that Parley knows, with the meaning that OpenTelemetry gives them.

They are not among `Settings`: they are OpenTelemetry's, and read from the real environment as every
program does that knows them. https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from config.errors import ConfigError

_SAMPLERS: Final = {
    "always_on": 1.0,
    "always_off": 0.0,
    "traceidratio": None,
}
_PARENT: Final = "parentbased_"
_DELAY_MS: Final = 5_000
_TIMEOUT_MS: Final = 10_000
_QUEUE: Final = 2_048
_MILLISECONDS_MAX: Final = 600_000
_QUEUE_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanOptions:
    """Where spans go, which ones, and when. Durations in seconds."""

    url: str
    headers: dict[str, str]
    resource: dict[str, str]
    ratio: float
    follows_parent: bool
    delay: float
    timeout: float
    queue_max: int


def read_span_options(process: str, environment: Mapping[str, str]) -> SpanOptions | None:
    """The options, None if no collector is named or traces are switched off.

    Raises ConfigError naming the variable that is wrong.
    """
    url = _read_url(environment)
    if (
        url is None
        or environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    ):
        return None
    ratio, follows_parent = _read_sampler(environment)
    resource = {"service.name": f"parley-{process}"}
    resource |= _read_pairs("OTEL_RESOURCE_ATTRIBUTES", environment)
    if name := environment.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = name
    return SpanOptions(
        url=url,
        headers=_read_pairs("OTEL_EXPORTER_OTLP_HEADERS", environment)
        | _read_pairs("OTEL_EXPORTER_OTLP_TRACES_HEADERS", environment),
        resource=resource,
        ratio=ratio,
        follows_parent=follows_parent,
        delay=_read_whole("OTEL_BSP_SCHEDULE_DELAY", environment, _DELAY_MS, _MILLISECONDS_MAX)
        / 1000,
        timeout=_read_whole(
            "OTEL_EXPORTER_OTLP_TIMEOUT", environment, _TIMEOUT_MS, _MILLISECONDS_MAX
        )
        / 1000,
        queue_max=_read_whole("OTEL_BSP_MAX_QUEUE_SIZE", environment, _QUEUE, _QUEUE_MAX),
    )


def _read_url(environment: Mapping[str, str]) -> str | None:
    for name, path in (
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces"),
    ):
        if url := environment.get(name):
            if not _is_address(url):
                raise ConfigError(name, "it is no address; allowed: http:// or https:// and a host")
            return url.rstrip("/") + path if path else url
    return None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _read_sampler(environment: Mapping[str, str]) -> tuple[float, bool]:
    name = environment.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    own = name.removeprefix(_PARENT)
    if own not in _SAMPLERS:
        allowed = ", ".join(part + known for part in ("", _PARENT) for known in _SAMPLERS)
        raise ConfigError("OTEL_TRACES_SAMPLER", f"{name!r} is not known; allowed: {allowed}")
    ratio = _SAMPLERS[own]
    if ratio is None:
        text = environment.get("OTEL_TRACES_SAMPLER_ARG") or "1"
        try:
            ratio = float(text)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise ConfigError(
                "OTEL_TRACES_SAMPLER_ARG", f"{text!r} is no share; allowed: a number from 0 to 1"
            )
    return ratio, name.startswith(_PARENT)


def _read_pairs(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, environment.get(name, "").split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            # Headers hold keys to the collector: the value is not repeated.
            raise ConfigError(name, "it is no list; allowed: name=value, separated by commas")
        pairs[key.strip()] = unquote(value.strip())
    return pairs


def _read_whole(name: str, environment: Mapping[str, str], default: int, maximum: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= maximum):
        raise ConfigError(
            name, f"{text!r} can not be used; allowed: a whole number from 1 to {maximum}"
        )
    return int(text)
