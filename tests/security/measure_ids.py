"""Does the time of an answer tell that a room exists? `python -m tests.security.measure_ids`.

Asks alternately for rooms that exist (of the same project without being in it, and of another
project) and for ids that nobody has, over REST, and compares the times: medians, and how often one
is slower than the other (0.5: nothing can be told from one answer). A test would measure the
machine; this is a command, and its figures stand in docs/security.md.
"""

import http.client
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import trio

from tests.support.system import UpProcess
from tests.support.tokens import make_token

ROUNDS = 1500
ROOMS = 50


async def main() -> None:
    """Start a system, make the rooms, measure, print."""
    secret = "a secret of the measurement, long enough"
    with tempfile.TemporaryDirectory() as folder:
        up = UpProcess.start(Path(folder) / "up", "--ephemeral", env=_env(secret))
        try:
            await up.wait_ready()
            rooms = [uuid.uuid4().hex for _ in range(ROOMS)]
            for room in rooms:
                made = await up.request("POST", "/v1/rooms", {"id": room, "members": ["alice"]})
                assert made.status == 201
            url = up.env["API_URL"]
            for who, token in (
                ("an outsider of the project", make_token("mallory", secret=secret)),
                ("a user of another project", make_token("alice", secret=secret, project="other")),
            ):
                for path in ("/v1/rooms/{}", "/v1/rooms/{}/messages"):
                    _report(who, path, *_measure(url, path, rooms, token))
        finally:
            await up.stop()


def _env(secret: str) -> dict[str, str]:
    return {"JWT_SECRET": secret, "RATE_REQUESTS_PER_SECOND": "100000", "PATH": os.environ["PATH"]}


def _measure(url: str, path: str, rooms: list[str], token: str) -> tuple[list[float], list[float]]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    real: list[float] = []
    none: list[float] = []
    for turn in range(ROUNDS + 50):
        pairs = [(real, rooms[turn % ROOMS]), (none, uuid.uuid4().hex)]
        for times, room in pairs if turn % 2 else reversed(pairs):
            began = time.perf_counter()
            connection.request(
                "GET", path.format(room), headers={"Authorization": f"Bearer {token}"}
            )
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - began
            assert answer.status == 404
            if turn >= 50:
                times.append(took * 1000)
    connection.close()
    return real, none


def _report(who: str, path: str, real: list[float], none: list[float]) -> None:
    slower = sum(a > b for a, b in zip(real, none, strict=True)) / len(real)
    sys.stdout.write(
        f"{who}, GET {path}: median {statistics.median(real):.3f} ms where there is a room, "
        f"{statistics.median(none):.3f} ms where there is none; the first slower in {slower:.3f} "
        f"of {len(real)} pairs\n"
    )


if __name__ == "__main__":
    trio.run(main)
