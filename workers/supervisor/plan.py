"""What `parley up` will start, worked out from settings and options before anything runs.

Nothing here awaits. Ports are checked here, because "address in use" in the middle of a child's
log is no answer to somebody who has just typed the command.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from config.limits import CHILD_STOP_EXTRA
from config.settings import LOOPBACK_NAMES, Settings
from workers.embedded.ports import LOOPBACK, free_port, port_problem
from workers.supervisor.demo import USERS

_BROKER_PORT: Final = 8765
_API_PORT: Final = 8080
_PORT_POLL: Final = 0.1
# On one machine there is no other node to go to, so draining longer only makes Ctrl-C slow.
_DRAIN_SECONDS: Final = 2
_ANY: Final = {"0.0.0.0": LOOPBACK, "::": "[::1]", "": LOOPBACK}
# Of one process, not of the system: what another one must not copy.
_PERSONAL: Final = frozenset(
    {"port", "host", "metrics_port", "chat_page", "broker_url", "demo_users"}
)


class UpFailed(Exception):
    """`parley up` can not do its work; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Addresses and variables of the children."""

    broker_url: str
    """Where clients connect (ws://…/v1/connect)."""
    broker_http_url: str
    api_url: str
    grace: float
    """Seconds a child has between SIGTERM and SIGKILL."""
    shared_variables: dict[str, str] = field(repr=False)
    """What every process of this system must have, as far as it is known beforehand."""
    own_variables: Mapping[str, dict[str, str]]
    """Variables of one child, by name."""


def make_plan(
    settings: Settings, *, broker_port: int | None, api_port: int | None, port_patience: float
) -> Plan:
    """Choose and check the ports. A taken one is waited for `port_patience` seconds.

    Raises UpFailed.
    """
    host = settings.host
    broker = _choose_port(host, broker_port, _BROKER_PORT, "--broker-port", port_patience)
    api = _choose_port(host, api_port, _API_PORT, "--api-port", port_patience)
    if broker == api:
        raise UpFailed(f"broker and api can not share port {api}: choose another with --api-port N")
    drain = _DRAIN_SECONDS
    if "drain_seconds" in settings.model_fields_set:
        drain = settings.drain_seconds
    address = _ANY.get(host, f"[{host}]" if ":" in host else host)
    broker_url = f"ws://{address}:{broker}/v1/connect"
    return Plan(
        broker_url=broker_url,
        broker_http_url=f"http://{address}:{broker}",
        api_url=f"http://{address}:{api}",
        grace=drain + CHILD_STOP_EXTRA,
        shared_variables=_shared_variables(settings),
        own_variables=_own_variables(settings, broker, api, drain, broker_url),
    )


def _choose_port(host: str, wanted: int | None, default: int, option: str, patience: float) -> int:
    if wanted == 0:
        return free_port()
    port = default if wanted is None else wanted
    deadline = time.monotonic() + patience
    while problem := port_problem(host, port):
        if time.monotonic() >= deadline:
            raise UpFailed(f"{problem}; choose another with {option} N (0: any free one)")
        time.sleep(_PORT_POLL)
    return port


def _shared_variables(settings: Settings) -> dict[str, str]:
    """Every variable that was set and is not one process's own, as text again."""
    found = {"ROOM_PARTITIONS": str(settings.room_partitions)}
    for name in sorted(settings.model_fields_set - _PERSONAL):
        value = getattr(settings, name)
        if value is not None:
            found[name.upper()] = _as_text(value)
    return found


def _as_text(value: object) -> str:
    """A setting in the form in which a variable holds it."""
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{round(value * 1000)}ms"
    return str(value).replace("\n", "\\n")


def _own_variables(
    settings: Settings, broker: int, api: int, drain: int, broker_url: str
) -> dict[str, dict[str, str]]:
    everyone = {"HOST": settings.host, "DRAIN_SECONDS": str(drain), "PYTHONUNBUFFERED": "1"}
    if "log_format" not in settings.model_fields_set:
        everyone["LOG_FORMAT"] = "text"  # a person is watching
    first = settings.metrics_port
    # The broker's own children use METRICS_PORT + n; the next two are free then.
    offsets = {"broker": 0, "api": settings.broker_processes, "archiver": settings.broker_processes}
    offsets["archiver"] += 1
    ports = {"broker": broker, "api": api, "archiver": broker}  # the archiver listens on none
    # The page offers the demo's users to this machine, never to a network (see api/page/routes.py).
    demo = ",".join(USERS) if settings.host in LOOPBACK_NAMES else ""
    page = {"BROKER_URL": broker_url, "DEMO_USERS": demo}
    return {
        name: everyone
        | (page if name == "api" else {"DEMO_USERS": ""})
        | {"PORT": str(ports[name]), "METRICS_PORT": str(first + offsets[name] if first else 0)}
        for name in ("archiver", "broker", "api")
    }


def working_directory_relative(path: str) -> str:
    """A path as one would type it here: relative if it lies below the working directory."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
