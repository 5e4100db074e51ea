"""What is said first on every new connection, how the answers are judged, and what went wrong.

Law of this file: no I/O; the connection sends and receives. RESP2 is every server's default, so no
HELLO is needed. The password leaves only inside AUTH; no error text repeats it.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import trio
from redis.exceptions import AuthenticationError, NoPermissionError

from storage.errors import StorageRefused, StorageUnavailable
from storage.redis.address import Address, RedisAddress
from storage.redis.replies import Reply, pack
from storage.redis.sockets import describe


def handshake_commands(address: RedisAddress, name: str) -> list[bytes]:
    """AUTH, SELECT, ROLE as far as the address needs them, and CLIENT SETNAME."""
    commands = []
    if address.password is not None:
        user = (address.username,) if address.username is not None else ()
        commands.append(pack("AUTH", *user, address.password))
    if address.database:
        commands.append(pack("SELECT", address.database))
    if address.must_be_master:
        commands.append(pack("ROLE"))
    # Last and always: a server that wants a password refuses it to those who gave none.
    commands.append(pack("CLIENT", "SETNAME", name))
    return commands


def check_handshake(address: RedisAddress, replies: Sequence[Reply | Exception]) -> None:
    """Raise the first error that matters: StorageRefused for what only the operator can mend."""
    for reply in replies[:-1]:
        if isinstance(reply, Exception):
            raise _explain(address, reply) from None
    if address.must_be_master:
        role = replies[-2]
        if not isinstance(role, list) or role[0] != b"master":
            reason = f"{address} is no master, although the sentinels name it"
            raise StorageUnavailable("redis", "not_done", reason)
    last = replies[-1]
    # A user without the right to name its connection is fine; one without any right is not.
    if isinstance(last, Exception) and not isinstance(last, NoPermissionError):
        raise _explain(address, last) from None


def _explain(address: RedisAddress, error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, AuthenticationError) or "AUTH" in text:
        said = "the user or password" if address.password is not None else "us without a password"
        return StorageRefused("redis", f"REDIS_URL: {address} did not accept {said}")
    if "DB index" in text:
        reason = f"REDIS_URL: {address} has no database {address.database}"
        return StorageRefused("redis", reason)
    return error


def explain_failure(address: Address, error: Exception) -> StorageUnavailable | StorageRefused:
    """Why no connection came about, with what a reader needs: which server, which variable."""
    if isinstance(error, (StorageRefused, StorageUnavailable)):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"REDIS_URL: the certificate of {address} is not trusted: {error.verify_message}"
        return StorageRefused("redis", text)
    text = "no answer in time" if isinstance(error, trio.TooSlowError) else describe(error)
    return StorageUnavailable("redis", "not_done", f"{address}: {text}")
