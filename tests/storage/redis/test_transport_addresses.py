"""REDIS_URL: what it may say, what is refused, and every way in (password, ACL, TLS, unix, ...)."""

import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.errors import ConfigError
from storage.errors import StorageRefused
from storage.redis.address import (
    RedisAddress,
    SentinelAddress,
    TlsOptions,
    parse_address,
    parse_redis_url,
    require_address,
)
from storage.redis.blocking import open_blocking
from storage.redis.client import RedisClient, open_redis
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

SECRET = "s3cr:t/@å"
SECRET_QUOTED = "s3cr%3At%2F%40%C3%A5"


@dataclass(frozen=True)
class Certificate:
    """A self-made certificate for `localhost`."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    result = Certificate(folder / "certificate.pem", folder / "key.pem")
    result.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    result.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return result


async def relay(stream: trio.abc.Stream, port: int) -> None:
    """Pass bytes between a client and the Redis on `port` until either ends."""

    async def pump(source: trio.abc.ReceiveStream, target: trio.abc.SendStream) -> None:
        try:
            while data := await source.receive_some(65536):
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # ended without a goodbye
        nursery.cancel_scope.cancel()

    try:
        server = await trio.open_tcp_stream("127.0.0.1", port)
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, stream, server)
            nursery.start_soon(pump, server, stream)
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_relay(listener: trio.abc.Listener[Any], port: int) -> AsyncIterator[None]:
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, lambda stream: relay(stream, port), [listener])
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_tls_relay(certificate: Certificate, port: int) -> AsyncIterator[int]:
    """Redis behind TLS; gives the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with open_relay(trio.SSLListener(listener, context), port):
        yield listener.socket.getsockname()[1]


async def connected(client: RedisClient) -> None:
    await client.wait_connected(trio.current_time() + 5)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", RedisAddress()),
        ("redis://h", RedisAddress(host="h")),
        ("redis://h:1/", RedisAddress(host="h", port=1)),
        ("redis://:p%40w@h:1/3", RedisAddress(host="h", port=1, password="p@w", database=3)),
        ("redis://u:p@[::1]:1?db=2", RedisAddress("::1", 1, None, "u", "p", 2)),
        (
            "unix://u:p@/run/r.sock?db=2",
            RedisAddress(path="/run/r.sock", username="u", password="p", database=2),
        ),
        ("rediss://h", RedisAddress(host="h", tls=TlsOptions())),
        (
            "rediss://h/1?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none&ssl_check_hostname=false",
            RedisAddress(
                host="h",
                database=1,
                tls=TlsOptions(ca_certs="/ca.pem", cert_reqs="none", check_hostname=False),
            ),
        ),
    ],
)
def test_what_a_url_says(url, address):
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"http://:{SECRET_QUOTED}@h", "must begin with redis://"),
        (f":{SECRET_QUOTED}@h", "must begin with redis://"),
        (f"redis://:{SECRET_QUOTED}@h:port", "malformed"),
        (f"redis://:{SECRET_QUOTED}@h:99999999", "malformed"),
        (f"redis://:{SECRET_QUOTED}@h/zero", "the database"),
        (f"redis://:{SECRET_QUOTED}@h/-1", "the database"),
        (f"redis://:{SECRET_QUOTED}@h?db=x", "malformed"),
        (f"redis://:{SECRET_QUOTED}@h?db=-1", "the database"),
        (f"redis://:{SECRET_QUOTED}@h?ssl_ca_certs=x", "unknown option ssl_ca_certs"),
        (f"redis://:{SECRET_QUOTED}@h?colour=red", "unknown option colour"),
        (f"redis://:half?{SECRET_QUOTED}=x@h", "malformed"),
        (f"rediss://:{SECRET_QUOTED}@h?ssl_cert_reqs=perhaps", "ssl_cert_reqs"),
        (f"unix://:{SECRET_QUOTED}@", "path of a socket"),
        (f"redis://:{SECRET}@h", "malformed"),
    ],
)
def test_a_bad_url_is_refused_without_telling_the_password(url, reason):
    with pytest.raises(ValueError, match=f"REDIS_URL: .*{reason}") as caught:
        parse_redis_url(url)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (
            "redis+sentinel://s1:1,s2,[::1]:3/chat",
            SentinelAddress(
                "chat",
                (RedisAddress("s1", 1), RedisAddress("s2", 26379), RedisAddress("::1", 3)),
                RedisAddress("master"),
            ),
        ),
        (
            f"redis+sentinel://bob:{SECRET_QUOTED}@s/a.b-c_D/3"
            "?sentinel_username=w&sentinel_password=p%40",
            SentinelAddress(
                "a.b-c_D",
                (RedisAddress("s", 26379, username="w", password="p@"),),
                RedisAddress("master", username="bob", password=SECRET, database=3),
            ),
        ),
        (
            "rediss+sentinel://s/chat/?ssl_ca_certs=/c+a.pem",
            SentinelAddress(
                "chat",
                (RedisAddress("s", 26379, tls=TlsOptions(ca_certs="/c a.pem")),),
                RedisAddress("master", tls=TlsOptions(ca_certs="/c a.pem")),
            ),
        ),
        ("redis://h", RedisAddress(host="h")),
    ],
)
def test_what_a_url_of_sentinels_says(url, address):
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("s1:1,s2:2", "the service's name"),
        ("s1:1/", "the service's name"),
        ("s1:1/no space", "the service's name"),
        ("/chat", "a sentinel's host"),
        ("s1,,s2/chat", "a sentinel's host"),
        ("s1:0/chat", "a sentinel's host"),
        ("s1:port/chat", "a sentinel's host"),
        ("s1:99999/chat", "a sentinel's host"),
        ("s1/chat/zero", "the database"),
        ("s1/chat?sentinel_username=bob", "sentinel_username needs sentinel_password"),
        ("s1/chat?colour=red", "unknown option colour"),
        (f"s1/chat?{SECRET_QUOTED}=x@h", "malformed"),
        ("s1/chat?ssl_ca_certs=x", "unknown option ssl_ca_certs"),
    ],
)
def test_a_bad_url_of_sentinels_is_refused_without_telling_the_password(rest, reason):
    with pytest.raises(ValueError, match=f"REDIS_URL: .*{reason}") as caught:
        parse_address(f"redis+sentinel://bob:{SECRET_QUOTED}@{rest}")
    assert "s3cr" not in str(caught.value)
    with pytest.raises(ConfigError, match=f"REDIS_URL: .*{reason}"):
        require_address(f"redis+sentinel://bob:{SECRET_QUOTED}@{rest}")


def test_no_text_of_an_address_of_sentinels_holds_a_password():
    address = parse_address(
        f"redis+sentinel://bob:{SECRET_QUOTED}@s1:1,s2/chat?sentinel_password={SECRET_QUOTED}"
    )
    assert "s3cr" not in repr(address)
    assert str(address) == "chat by s1:1, s2:26379"


def test_no_text_of_an_address_holds_the_password():
    address = parse_redis_url(f"redis://bob:{SECRET_QUOTED}@[::1]:1/2")
    assert address.password == SECRET
    assert "s3cr" not in repr(address)
    assert str(address) == "[::1]:1"


async def test_password_user_and_database(private_redis: RedisServer):
    private_redis.command("ACL", "SETUSER", "bob", "on", f">{SECRET}", "~*", "+@all")
    private_redis.command("CONFIG", "SET", "requirepass", SECRET)
    place = f"127.0.0.1:{private_redis.port}"
    async with (
        open_redis(f"redis://:{SECRET_QUOTED}@{place}/3", name="one") as one,
        open_redis(f"redis://bob:{SECRET_QUOTED}@{place}?db=3", name="two") as two,
        open_redis(f"redis://bob:{SECRET_QUOTED}@{place}", name="three") as three,
        open_blocking(f"redis://bob:{SECRET_QUOTED}@{place}/3", name="four") as four,
    ):
        await connected(one)
        await connected(two)
        await connected(three)
        await one.execute("SET", "k", 1)
        assert await two.execute("GET", "k") == b"1"
        assert await four.execute("GET", "k") == b"1"
        assert await three.execute("GET", "k") is None
        assert await one.execute("ACL", "WHOAMI") == b"default"
        assert await two.execute("ACL", "WHOAMI") == b"bob"
        names = {client["name"] for client in await one.commands.client_list()}
        assert names >= {"one", "two", "three", "four"}


@pytest.mark.parametrize("account", ["", ":wr0ng@", "bob:wr0ng@"])
async def test_a_wrong_password_names_the_variable_and_is_tried_on(
    private_redis: RedisServer, account: str, capsys: pytest.CaptureFixture[str]
):
    private_redis.command("CONFIG", "SET", "requirepass", SECRET)
    url = f"redis://{account}127.0.0.1:{private_redis.port}"
    place = f"REDIS_URL: 127.0.0.1:{private_redis.port} did not accept"
    async with open_redis(url) as client:
        with trio.fail_after(4), pytest.raises(StorageRefused, match=place) as caught:
            await client.wait_connected(trio.current_time() + 5)
        await wait_until(lambda: client.statistics().failures >= 3)
        with pytest.raises(StorageRefused, match=place):
            async with open_blocking(url):
                pass
    written = capsys.readouterr()
    assert "wr0ng" not in str(caught.value) + written.out + written.err


async def test_a_password_that_is_mended_later(private_redis: RedisServer):
    private_redis.command("ACL", "SETUSER", "bob", "on", ">other", "~*", "+@all")
    url = f"redis://bob:{SECRET_QUOTED}@127.0.0.1:{private_redis.port}"
    async with open_redis(url) as client:
        with pytest.raises(StorageRefused):
            await connected(client)
        private_redis.command("ACL", "SETUSER", "bob", f">{SECRET}")
        await wait_until(lambda: client.is_connected)
        assert await client.execute("PING") == b"PONG"


async def test_a_user_who_may_not_name_its_connection_is_welcome(private_redis: RedisServer):
    private_redis.command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+ping")
    async with open_redis(f"redis://bob:pw@127.0.0.1:{private_redis.port}") as client:
        await connected(client)
        assert await client.execute("PING") == b"PONG"


async def test_a_database_that_does_not_exist(redis_url):
    async with open_redis(redis_url.removesuffix("/0") + "/9999") as client:
        with pytest.raises(StorageRefused, match=r"REDIS_URL: .* has no database 9999"):
            await connected(client)


async def test_a_unix_socket(private_redis: RedisServer, tmp_path: Path):
    path = tmp_path / "r.sock"
    listening = trio.socket.socket(socket.AF_UNIX)
    await listening.bind(str(path))
    listening.listen()
    async with open_relay(trio.SocketListener(listening), private_redis.port):
        async with open_redis(f"unix://{path}?db=1") as client:
            await connected(client)
            await client.execute("SET", "k", b"x" * 1_000_000)
            assert await client.execute("STRLEN", "k") == 1_000_000
        async with open_blocking(f"unix://{path}?db=1") as blocking:
            assert await blocking.execute("STRLEN", "k") == 1_000_000


async def test_ipv6(private_redis: RedisServer):
    try:
        listeners = await trio.open_tcp_listeners(0, host="::1")
    except OSError:
        # A machine without IPv6 can still tell whether the address is understood.
        assert parse_redis_url("redis://[::1]:1").host == str(ipaddress.ip_address("::1"))
        return
    async with open_relay(listeners[0], private_redis.port):
        port = listeners[0].socket.getsockname()[1]
        async with open_redis(f"redis://[::1]:{port}") as client:
            await connected(client)
            assert await client.execute("PING") == b"PONG"


async def test_tls(private_redis: RedisServer, certificate: Certificate):
    async with open_tls_relay(certificate, private_redis.port) as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={certificate.certificate}"
        async with open_redis(url) as client:
            await connected(client)
            await client.execute("SET", "k", b"x" * 3_000_000)
            big, *small = await client.pipeline([("GET", "k"), *[("PING",)] * 1000])
            assert big == b"x" * 3_000_000
            assert small == [b"PONG"] * 1000
            private_redis.command("CLIENT", "KILL", "TYPE", "normal")
            await wait_until(lambda: client.connection_number == 2)
            assert await client.execute("PING") == b"PONG"
        async with open_blocking(url) as blocking:
            assert await blocking.execute("STRLEN", "k") == 3_000_000


@pytest.mark.parametrize(
    ("host", "options", "is_good"),
    [
        ("localhost", "", False),
        ("localhost", "?ssl_cert_reqs=none", True),
        ("127.0.0.1", "?ssl_ca_certs={}", False),
        ("127.0.0.1", "?ssl_ca_certs={}&ssl_check_hostname=false", True),
        ("localhost", "?ssl_ca_certs={}&ssl_cert_reqs=required", True),
    ],
)
async def test_which_certificates_are_trusted(
    private_redis: RedisServer, certificate: Certificate, host: str, options: str, is_good: bool
):
    async with open_tls_relay(certificate, private_redis.port) as port:
        url = f"rediss://{host}:{port}" + options.format(certificate.certificate)
        async with open_redis(url) as client:
            if is_good:
                await connected(client)
                assert await client.execute("PING") == b"PONG"
            else:
                with pytest.raises(StorageRefused, match=r"REDIS_URL: the certificate of .*"):
                    await connected(client)


async def test_tls_to_a_port_that_speaks_plain_redis(redis_url):
    url = redis_url.replace("redis://", "rediss://")
    async with open_redis(url, connect_timeout=0.2) as client:
        await wait_until(lambda: client.statistics().failures >= 2)
        assert not client.is_connected
