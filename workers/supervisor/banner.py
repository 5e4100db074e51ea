"""What is told once everything is ready: the banner for people, the env file for programs."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from config.errors import ConfigError
from workers.embedded.folder import write_private
from workers.supervisor.demo import Demo
from workers.supervisor.plan import Plan, working_directory_relative


def banner(plan: Plan, demo: Demo, folder: Path, ephemeral: bool) -> str:
    """Addresses, credentials, and a first message to copy."""
    alice, bob = demo.tokens
    data = "in a temporary folder, removed at the end" if ephemeral else f"{folder}/"
    lines = [
        "",
        "Parley is ready.",
        "",
        f"  chat page  {plan.api_url}/",
        f"  WebSocket  {plan.broker_url}",
        f"  REST API   {plan.api_url}/v1   (reference: {plan.api_url}/docs)",
        f"  API key    {demo.api_key}",
        f"  room       {demo.room}   (members: {alice} and {bob})",
        f"  data       {data}",
        "",
        f"  token of {alice}:",
        f"{demo.tokens[alice]}",
        f"  token of {bob}:",
        f"{demo.tokens[bob]}",
        "",
        f"Open {plan.api_url}/ in two windows and be {alice} in one and {bob} in the other.",
        "Or type the protocol yourself: open two more terminals here, one for each user,",
        "",
        _connect_command(plan, demo.tokens[alice]),
        "",
        _connect_command(plan, demo.tokens[bob]),
        "",
        "then type into both, and into one:",
        "",
        f'{{"type":"subscribe","id":1,"room":"{demo.room}"}}',
        f'{{"type":"publish","id":2,"room":"{demo.room}","content":"Hello!"}}',
        "",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


def _connect_command(plan: Plan, token: str) -> str:
    """A command line that opens an interactive WebSocket."""
    program = Path(sys.executable).with_name("websockets")
    command = (
        working_directory_relative(str(program))
        if program.exists()
        else f"{working_directory_relative(sys.executable)} -m websockets"
    )
    return f'{command} "{plan.broker_url}?token={token}"'


def clear_env_file(path: Path) -> None:
    """Remove the file of another run, which must not mislead; ConfigError if none can be there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError("--env-file", f"can not write {path} ({error.strerror})") from None
    try:
        # Really tried: what `os.access` answers need not be what a write does.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        problem = f"{path.parent} is no folder that can be written to ({error.strerror})"
        raise ConfigError("--env-file", problem) from None


def write_env_file(path: Path, plan: Plan, demo: Demo, shared: Mapping[str, str]) -> None:
    """Write everything that a program, or a further process of the system, needs.

    The file is private, and appears whole or not at all.
    """
    variables = {
        "BROKER_URL": plan.broker_url,
        "API_URL": plan.api_url,
        "API_KEY": demo.api_key,
        "ROOM": demo.room,
        **{f"{user.upper()}_TOKEN": token for user, token in demo.tokens.items()},
        **shared,
    }
    write_private(path, "".join(f"{name}={value}\n" for name, value in variables.items()))
