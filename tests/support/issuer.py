"""An identity provider of a test: publishes keys over HTTP on loopback and signs tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PATH: Final = "/.well-known/jwks.json"
_ALGORITHMS: Final[dict[str, Any]] = {
    "RS256": RSAAlgorithm,
    "ES256": ECAlgorithm,
    "EdDSA": OKPAlgorithm,
}


class Issuer:
    """The keys and what the address answers; both may be changed at any time."""

    def __init__(self) -> None:
        self.requests = 0
        self.entries: list[Any] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        """Instead of the key set."""
        self.let_answer = threading.Event()
        """Cleared: requests are taken and wait."""
        self.let_answer.set()
        self.url = ""
        self._private: dict[str | None, tuple[str, Any]] = {}

    def add_key(self, kid: str | None, algorithm: str = "RS256", **fields: Any) -> dict[str, Any]:
        """Publish a new key; the entry of the set, which `fields` add to."""
        entry = self.make_key(kid, algorithm, **fields)
        self.entries.append(entry)
        return entry

    def make_key(self, kid: str | None, algorithm: str = "RS256", **fields: Any) -> dict[str, Any]:
        """Make a key without publishing it."""
        key: Any
        if algorithm == "RS256":
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif algorithm == "ES256":
            key = ec.generate_private_key(ec.SECP256R1())
        else:
            key = ed25519.Ed25519PrivateKey.generate()
        self._private[kid] = (algorithm, key)
        entry: dict[str, Any] = json.loads(_ALGORITHMS[algorithm].to_jwk(key.public_key()))
        entry.pop("key_ops", None)
        if kid is not None:
            entry["kid"] = kid
        return entry | fields

    def token(self, user: str, kid: str | None, *, ttl: float = 600, **claims: Any) -> str:
        """A token signed with the key, whether that is published or not."""
        algorithm, key = self._private[kid]
        now = time.time()
        body = {"sub": user, "iat": now, "exp": now + ttl} | claims
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(body, key, algorithm=algorithm, headers=headers)

    def private_key(self, kid: str | None) -> Any:
        return self._private[kid][1]

    def answer(self) -> bytes:
        return json.dumps({"keys": self.entries}).encode() if self.body is None else self.body


@contextmanager
def open_issuer() -> Iterator[Issuer]:
    """A provider with no key yet."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.requests += 1
            issuer.let_answer.wait(30)
            body = issuer.answer() if self.path == PATH else b"not here"
            try:
                self.send_response(issuer.status if self.path == PATH else 404)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client has given up, which is its right

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    issuer.url = f"http://127.0.0.1:{server.server_port}{PATH}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        issuer.let_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()
