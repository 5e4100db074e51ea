"""What a variable's text may be: one small rule class for each kind of value.

A rule stands in a field's annotation (`Annotated[int, Whole(1, 64)]`). It turns text into the
value or raises ValueError whose message says what is wrong and what is allowed, without the
variable's name (`settings` puts it in front) and without ever quoting a secret. Values that are
no text (overrides in tests) pass through the same limits. `allowed` is the sentence that the
configuration page prints.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, core_schema

from config.durations import DURATION_HELP, format_duration, parse_duration

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_ORIGIN: Final = re.compile(r"https?://(\*\.)?[A-Za-z0-9.\-\[\]:]+")
_NAME: Final = re.compile(r"[\x21-\x7e]{1,255}")


class Rule(ABC):
    """Base of all rules: subclasses give `allowed`, `unit` and `parse`."""

    unit: str = ""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What is allowed, as the end of a sentence."""

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """Return the value that `value` (text, or already the right type) means, or ValueError."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number between two limits, both included."""

    low: int
    high: int
    unit: str = ""

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def parse(self, value: Any) -> int | None:
        if value is None:
            return None
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
            raise ValueError(f"{value!r} is not a whole number; allowed: {self.allowed}")
        number = int(text)
        if not self.low <= number <= self.high:
            problem = "too small" if number < self.low else "too large"
            raise ValueError(f"{number} is {problem}; allowed: {self.allowed}")
        return number


@dataclass(frozen=True)
class Duration(Rule):
    """A duration between two limits, both included; the value is seconds."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"{format_duration(self.low)} to {format_duration(self.high)}"

    def parse(self, value: Any) -> float:
        if isinstance(value, str):
            seconds = parse_duration(value)
            shown = value.strip()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
            shown = f"{seconds:g}s"
        else:
            raise ValueError(  # noqa: TRY004 - pydantic turns ValueError, and only that, around
                f"{value!r} is not a duration; allowed: {DURATION_HELP}"
            )
        if not self.low <= seconds <= self.high:
            problem = "too short" if seconds < self.low else "too long"
            raise ValueError(f"{shown} is {problem}; allowed: {self.allowed}")
        return seconds


@dataclass(frozen=True)
class Switch(Rule):
    """On or off."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def parse(self, value: Any) -> bool:
        text = str(value).strip().lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise ValueError(f"{value!r} is neither; allowed: {self.allowed}")


@dataclass(frozen=True)
class Choice(Rule):
    """One of a few words, in lower case."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return " or ".join([", ".join(self.words[:-1]), self.words[-1]])

    def parse(self, value: Any) -> str:
        text = str(value).strip().lower()
        if text not in self.words:
            raise ValueError(f"{value!r} is not known; allowed: {self.allowed}")
        return text


@dataclass(frozen=True)
class Text(Rule):
    """One line of printable characters without spaces, such as a host or the name of a claim."""

    meaning: str

    @property
    def allowed(self) -> str:
        return self.meaning

    def parse(self, value: Any) -> str | None:
        if value is None:
            return None
        text = str(value).strip()
        if not _NAME.fullmatch(text):
            raise ValueError(
                f"it must be 1 to 255 printable characters without spaces; allowed: {self.allowed}"
            )
        return text


@dataclass(frozen=True)
class Secret(Rule):
    """A shared secret of a minimum length. Its value is never quoted."""

    bytes_min: int

    @property
    def allowed(self) -> str:
        return f"at least {self.bytes_min} bytes of text"

    def parse(self, value: Any) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        length = len(text.encode("utf-8", "surrogatepass"))
        if text.lstrip().startswith("-----BEGIN"):
            raise ValueError(
                "this is a key in PEM form, not a shared secret; "
                f"allowed: {self.allowed}; public keys belong into JWT_PUBLIC_KEY"
            )
        if length < self.bytes_min:
            raise ValueError(f"it is {length} bytes long; allowed: {self.allowed}")
        return SecretStr(text)


@dataclass(frozen=True)
class Url(Rule):
    """An address with one of a few schemes. It may hold a password and is never quoted."""

    schemes: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "an address that begins with " + " or ".join(f"{s}://" for s in self.schemes)

    def parse(self, value: Any) -> str | None:
        if value is None or value == "":
            return None if value is None else ""
        text = str(value).strip()
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() not in self.schemes:
            found = f"the scheme {scheme!r}" if separator else "no scheme"
            raise ValueError(f"it has {found}; allowed: {self.allowed}")
        try:
            # An address of sentinels has several hosts.
            for host in urlsplit(text).netloc.rpartition("@")[2].split(","):
                _ = urlsplit(f"//{host}").port
        except ValueError:
            raise ValueError(f"its host or port is malformed; allowed: {self.allowed}") from None
        if not rest.strip("/") or any(character.isspace() for character in text):
            raise ValueError(f"it names no host or holds a space; allowed: {self.allowed}")
        return text


@dataclass(frozen=True)
class Origins(Rule):
    """A comma-separated list of origins of web pages."""

    @property
    def allowed(self) -> str:
        return (
            "a comma-separated list of origins such as https://chat.example.org "
            "or https://*.example.org, or * for any"
        )

    def parse(self, value: Any) -> tuple[str, ...]:
        given = value.split(",") if isinstance(value, str) else list(value)
        origins = tuple(item.strip().rstrip("/").lower() for item in given if item.strip())
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; allowed: {self.allowed}")
        return origins


@dataclass(frozen=True)
class Names(Rule):
    """A comma-separated list of ids."""

    meaning: str

    @property
    def allowed(self) -> str:
        return f"a comma-separated list of {self.meaning}"

    def parse(self, value: Any) -> tuple[str, ...]:
        given = value.split(",") if isinstance(value, str) else list(value)
        names = tuple(item.strip() for item in given if item.strip())
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not an id; allowed: {self.allowed}")
        return names


@dataclass(frozen=True)
class KeyText(Rule):
    """A public key: PEM text (line breaks may be written as \\n) or the path of such a file.

    Only the form is judged here; who builds the verifier reads and parses the key.
    """

    @property
    def allowed(self) -> str:
        return "a public key in PEM form, or the path of a file that holds one"

    def parse(self, value: Any) -> str | None:
        if value is None:
            return None
        text = str(value).strip().replace("\\n", "\n")
        if "PRIVATE KEY" in text:
            raise ValueError(f"this is a private key; allowed: {self.allowed}")
        return text
