"""TCP ports on this machine: a free one, and whether a given one is free."""

import errno
import secrets
import socket

LOOPBACK = "127.0.0.1"
# Below the range from which systems give ports to outgoing connections: between finding a port and
# listening on it only somebody who looks for one in the same way could take it.
_FIRST = 20_000
_COUNT = 12_000
_TRIES = 100


def free_port() -> int:
    """A port that nobody listens on at this moment. Somebody may take it before we do."""
    for _ in range(_TRIES):
        candidate = _FIRST + secrets.randbelow(_COUNT)
        if port_problem(LOOPBACK, candidate) is None:
            return candidate
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def port_problem(host: str, port: int) -> str | None:
    """Why nobody could listen on (host, port) now, in a few words; None if it is possible."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        return f"host {host!r} is unknown ({error.strerror})"
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} is taken by another program"
            return f"can not listen on port {port}: {error.strerror}"
    return None
