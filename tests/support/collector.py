"""A collector of traces that speaks OTLP over HTTP, as far as our processes do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector(ThreadingHTTPServer):
    """Takes traces on loopback; `spans` are (service, span)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, body: bytes) -> None:
        for found in json.loads(body)["resourceSpans"]:
            service = values(found["resource"]["attributes"])["service.name"]
            self.spans += [
                (service, span) for scope in found["scopeSpans"] for span in scope["spans"]
            ]

    def named(self, service: str, name: str) -> list[dict[str, Any]]:
        """The spans of a service with this name."""
        return [span for where, span in self.spans if (where, span["name"]) == (service, name)]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        assert self.headers["Content-Type"] == "application/json"
        self.server.keys.add(self.headers["X-Key"])
        self.server.take(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def values(attributes: list[dict[str, Any]]) -> dict[str, str]:
    """Attributes as a dictionary; numbers are text."""
    return {pair["key"]: str(*pair["value"].values()) for pair in attributes}


@contextmanager
def open_collector() -> Iterator[Collector]:
    """One that runs for the block."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, name="collector")
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
