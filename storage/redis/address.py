"""Where Redis is and how to get in: what `REDIS_URL` says, parsed and checked once.

Law of this file: pure, no I/O except reading the certificate files when a TLS context is built.
redis-py parses the URL of a server; what it ignores in silence (a database that is no number, an
option that nobody knows) is refused here. A URL of sentinels is one of a server with several hosts
and the service's name in front of the database. No error text and no `repr` ever holds a password,
and since a malformed URL may have it anywhere, no error text quotes the URL.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from config.errors import ConfigError

DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379
# Sentinels themselves allow no others.
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]+")
_SENTINEL: Final = "+sentinel"
_SENTINEL_SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")
TLS_OPTIONS: Final = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_check_hostname",
        "ssl_certfile",
        "ssl_keyfile",
    }
)
CERT_REQS: Final[Mapping[str, ssl.VerifyMode]] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What `rediss://` asks for; the names are those of redis-py's URL options."""

    ca_certs: str | None = None
    ca_path: str | None = None
    cert_reqs: str = "required"
    check_hostname: bool = True
    certfile: str | None = None
    keyfile: str | None = None

    def build_context(self) -> ssl.SSLContext:
        """Read the certificate files. Raises OSError (ssl.SSLError included) if they are bad."""
        context = ssl.create_default_context(cafile=self.ca_certs, capath=self.ca_path)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname and self.cert_reqs != "none"
        context.verify_mode = CERT_REQS[self.cert_reqs]
        if self.certfile is not None:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis server: either `host` and `port`, or `path` of a unix socket."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: TlsOptions | None = None
    must_be_master: bool = False
    """Whether the server has to say that it is one: what sentinels tell may be old."""

    def __str__(self) -> str:
        """For logs and error texts: no user, no password."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """A service whose master is asked for, at every connection, from those who watch over it."""

    service: str
    sentinels: tuple[RedisAddress, ...]
    server: RedisAddress
    """How to get into whichever server is the master; its host and port mean nothing."""

    def __str__(self) -> str:
        """For logs and error texts."""
        return f"{self.service} by {', '.join(map(str, self.sentinels))}"

    def master_at(self, host: str, port: int) -> RedisAddress:
        """The address of the service's master, once it is known."""
        return replace(self.server, host=host, port=port, must_be_master=True)


Address = RedisAddress | SentinelAddress


def require_address(url: str) -> None:
    """Raise ConfigError if `REDIS_URL` can not be understood."""
    try:
        parse_address(url)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_address(url: str) -> Address:
    """Understand whatever `REDIS_URL` may be. Raises ValueError naming REDIS_URL."""
    scheme = url.partition("://")[0].lower()
    return _parse_sentinel_url(url) if scheme in _SENTINEL_SCHEMES else parse_redis_url(url)


def _parse_sentinel_url(url: str) -> SentinelAddress:
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("#")[0].partition("?")
    authority, _, path = rest.partition("/")
    account, at, hosts = authority.rpartition("@")
    service, _, database = path.partition("/")
    if not _SERVICE.fullmatch(service):
        raise ValueError(
            "REDIS_URL: the service's name behind the sentinels is missing or malformed"
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    username = options.pop("sentinel_username", None)
    password = options.pop("sentinel_password", None)
    if username is not None and password is None:
        raise ValueError("REDIS_URL: sentinel_username needs sentinel_password")
    plain = scheme.lower().removesuffix(_SENTINEL)
    # What is left is a server's URL, whose host nobody looks at.
    server = parse_redis_url(f"{plain}://{account}{at}master/{database}?{urlencode(options)}")
    sentinels = tuple(
        RedisAddress(*_parse_host(host), username=username, password=password, tls=server.tls)
        for host in hosts.split(",")
    )
    return SentinelAddress(service, sentinels, server)


def _parse_host(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0:
        raise ValueError("REDIS_URL: a sentinel's host or port is missing or malformed")
    return host, DEFAULT_SENTINEL_PORT if port is None else port


def parse_redis_url(url: str) -> RedisAddress:
    """Understand `redis://`, `rediss://` and `unix://`: one server. Raises ValueError likewise."""
    try:
        parts: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        # redis-py's own text is safe only where it names the schemes; others may quote the URL.
        if "schemes" in str(error):
            raise ValueError(
                "REDIS_URL: must begin with redis://, rediss://, unix://, "
                "redis+sentinel:// or rediss+sentinel://"
            ) from None
        raise ValueError("REDIS_URL: host, port or an option is malformed") from None
    connection_class = parts.pop("connection_class", None)
    is_unix = connection_class is UnixDomainSocketConnection
    tls = _take_tls(parts) if connection_class is SSLConnection else None
    address = RedisAddress(
        host=parts.pop("host", "localhost"),
        port=parts.pop("port", DEFAULT_PORT),
        path=parts.pop("path", "") if is_unix else None,
        username=parts.pop("username", None),
        password=parts.pop("password", None),
        database=parts.pop("db", 0),
        tls=tls,
    )
    if parts and "@" in unquote(url.partition("?")[2]):
        # A `?` of the password began the options: their names are a part of it.
        raise ValueError("REDIS_URL: host, port or an option is malformed")
    if parts:
        names = ", ".join(sorted(parts))
        raise ValueError(f"REDIS_URL: unknown option {names} (or one that is for rediss:// only)")
    if is_unix and not address.path:
        raise ValueError("REDIS_URL: unix:// needs the path of a socket")
    if address.database < 0 or not (is_unix or _has_plain_database(url)):
        raise ValueError("REDIS_URL: the database after the host must be a number from 0")
    return address


def _has_plain_database(url: str) -> bool:
    """Is the path after the host empty or a number? redis-py takes anything else for 0."""
    rest = url.split("://", 1)[1].split("?", 1)[0].split("#", 1)[0]
    path = rest.rpartition("@")[2].partition("/")[2]
    return path in {"", "/"} or path.strip("/").isdecimal()


def _take_tls(parts: dict[str, Any]) -> TlsOptions:
    options = {name.removeprefix("ssl_"): parts.pop(name) for name in TLS_OPTIONS & parts.keys()}
    if options.get("cert_reqs", "required") not in CERT_REQS:
        raise ValueError("REDIS_URL: ssl_cert_reqs must be none, optional or required")
    return TlsOptions(**options)
