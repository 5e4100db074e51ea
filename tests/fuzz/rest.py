"""Requests made of the OpenAPI document against a running API: `python -m tests.fuzz.rest`.

Schemathesis reads the document, sends what it allows and what it does not, follows what answers
refer to (stateful), and compares: no 5xx, no status, header, media type or body that the document
does not name, nothing taken that it forbids, no door open without a credential.

Two checks are left out. `positive_data_acceptance`: JSON Schema can not say bytes of UTF-8, or that
a direct room has two members, so some requests that fit the schema are refused for good reasons.
`negative_data_rejection`: it takes 413 for no refusal, and a filter longer than any name wrong,
though the answer is an empty list. `tests/api/test_bad_requests.py` holds what is refused, and how.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from broker.domain.api_keys import create_api_key
from storage.postgres.pool import open_database
from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer
from tests.support.tokens import make_token

PROJECT = "fuzz"
USER = "fuzz-alice"
EXCLUDED_CHECKS = "positive_data_acceptance,negative_data_rejection"
# Bodies of a loaded machine; what hangs for longer is a fault.
REQUEST_SECONDS = "30"
_SPARE_SECONDS = 240
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


async def prepare(deployment: Deployment) -> str:
    """A key of a project that nobody else uses, with something in it."""
    async with open_database(deployment.database_url, pool_size=1) as db:
        _, key = await create_api_key(db, PROJECT)
    return key


def credentials(key: str) -> dict[str, str]:
    """The header of each kind of caller."""
    token = make_token(USER, project=PROJECT)
    return {"key": f"X-API-Key: {key}", "token": f"Authorization: Bearer {token}"}


def attack(url: str, header: str, folder: Path, *, seconds: int, seed: int) -> tuple[int, str]:
    """One run of schemathesis; its exit status and what it printed."""
    command = [
        str(Path(sys.executable).with_name("st")),
        "run", f"{url}/openapi.json", "--url", url, "--header", header,
        "--max-time", str(seconds), "--seed", str(seed), "--request-timeout", REQUEST_SECONDS,
        "--checks", "all", "--exclude-checks", EXCLUDED_CHECKS,
        "--suppress-health-check", "all", "--warnings", "off", "--no-color",
        "--continue-on-failure",
    ]  # fmt: skip
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    ended = subprocess.run(
        command,
        cwd=folder,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + _SPARE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout


def main() -> None:
    """Attack a deployment of its own for some minutes, as a key and as a token in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
        processes = Processes(folder / "processes", {})
        redis.start()
        postgres.start()
        try:
            deployment = trio.run(start_deployment, processes, redis, postgres.create_database())
            assert deployment.api is not None
            key = trio.run(prepare, deployment)
            statuses = []
            for caller, header in credentials(key).items():
                status, output = attack(
                    deployment.api.base_url,
                    header,
                    folder,
                    seconds=round(30 * chosen.minutes),
                    seed=chosen.seed,
                )
                print(f"--- {caller} ---\n{output}")
                statuses.append(status)
            if "Traceback" in deployment.api.output():
                print(deployment.api.output())
                statuses.append(1)
        finally:
            processes.kill_all()
            postgres.stop()
            redis.stop()
    sys.exit(max(statuses))


if __name__ == "__main__":
    main()
