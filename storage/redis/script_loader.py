"""The Lua scripts: read from their files once, sent by their digest.

Law of this file: a script is a file `scripts/<name>.lua` that begins with comment lines:

    -- What it is for, in a sentence or more.
    -- KEYS: room, log
    -- ARGV: life_id, then for each room: R, offset...
    -- RETURNS: what comes back
    -- include: clock

KEYS and ARGV name each argument in order. A name that ends in `...` may come any number of times;
from a name that begins with `then` on, nothing is counted. Text in parentheses alone means none.
An `include` line is replaced by `scripts/lib/<name>.lua`, so that shared Lua has one place.

Every new connection gets all scripts before it is offered (`ScriptSet.load_all`), so NOSCRIPT
means that somebody flushed them meanwhile. `run_script` then loads the script and calls it again;
that call is behind whatever was queued in between, so nothing may rely on the order of two scripts
in flight (hence the `gen` of joins and leaves).
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Final, Protocol, TypeAlias

from redis.exceptions import NoScriptError

from storage.redis.replies import Reply, pack

Argument: TypeAlias = bytes | str | int | float

_FIELD: Final = re.compile(r"^-- (KEYS|ARGV|RETURNS): (.*)$")
_INCLUDE: Final = re.compile(r"^-- include: ([a-z_]+)$")
_COUNTS: Final = tuple(str(count).encode() for count in range(512))


class ScriptCaller(Protocol):
    """What running a script needs of a client or connection."""

    async def execute_packed(self, packed: bytes, timeout: float | None = None) -> Reply:
        """Send one command; its reply, errors raised."""

    async def pipeline_packed(
        self, packed: Sequence[bytes], timeout: float | None = None
    ) -> list[Reply | Exception]:
        """Send all in one write; the replies in order, errors as values."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The names in a KEYS or ARGV line."""

    fixed: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    """What may follow any number of times; empty if nothing may."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text with includes spliced in, and the digest that Redis knows it by."""

    name: str
    text: str
    sha: str
    purpose: str
    keys: Parameters
    args: Parameters
    returns: str
    head: tuple[bytes, bytes]
    """The first two words of every call."""


class ScriptSet(Mapping[str, Script]):
    """Scripts by name; immutable."""

    def __init__(self, scripts: Iterable[Script]) -> None:
        self._scripts = {script.name: script for script in scripts}
        self._load_commands = [pack("SCRIPT", "LOAD", s.text) for s in self._scripts.values()]

    @classmethod
    def load(
        cls, names: Iterable[str] | None = None, folder: Traversable | None = None
    ) -> ScriptSet:
        """Read the named scripts (None: all) from `folder` (None: the product's own).

        Raises FileNotFoundError for a name without a file, ValueError for a bad header.
        """
        if folder is None:
            folder = importlib.resources.files("storage.redis") / "scripts"
        if names is None:
            names = sorted(
                entry.name.removesuffix(".lua")
                for entry in folder.iterdir()
                if entry.name.endswith(".lua")
            )
        return cls(read_script(folder, name) for name in names)

    def __getitem__(self, name: str) -> Script:
        return self._scripts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scripts)

    def __len__(self) -> int:
        return len(self._scripts)

    async def load_all(self, connection: ScriptCaller) -> None:
        """Make every script known to the server. Idempotent; raises the first error."""
        replies = await connection.pipeline_packed(self._load_commands)
        for script, reply in zip(self._scripts.values(), replies, strict=True):
            if isinstance(reply, Exception):
                reply.add_note(f"while loading the script {script.name}")
                raise reply
            if reply != script.sha.encode():
                raise ValueError(f"the server knows {script.name} by {reply!r}, not {script.sha}")


def read_script(folder: Traversable, name: str) -> Script:
    """Read one file, splice its includes, parse its header. Raises ValueError naming the file."""
    source = (folder / f"{name}.lua").read_text(encoding="utf-8")
    purpose: list[str] = []
    fields: dict[str, str] = {}
    lines = source.splitlines()
    for line in lines:
        if not line.startswith("--"):
            break
        if found := _FIELD.match(line):
            fields[found[1]] = found[2].strip()
        elif not fields and not _INCLUDE.match(line):
            purpose.append(line.removeprefix("--").strip())
    missing = {"KEYS", "ARGV", "RETURNS"} - fields.keys()
    if missing or not any(purpose):
        what = ", ".join(sorted(missing)) or "its purpose"
        raise ValueError(f"{name}.lua: the header lacks {what}")
    text = "\n".join(_splice(folder, lines, ())) + "\n"
    # Redis itself names scripts by this digest; it is no protection against anybody.
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(
        name=name,
        text=text,
        sha=sha,
        purpose=" ".join(purpose),
        keys=parse_parameters(fields["KEYS"]),
        args=parse_parameters(fields["ARGV"]),
        returns=fields["RETURNS"],
        head=(b"EVALSHA", sha.encode()),
    )


def parse_parameters(text: str) -> Parameters:
    """Understand the rest of a KEYS or ARGV line."""
    if text in {"", "-", "none"} or text.startswith("("):
        return Parameters(())
    names = [name.strip() for name in text.split(",")]
    for index, name in enumerate(names):
        if name.startswith("then ") or name.endswith("..."):
            return Parameters(tuple(names[:index]), tuple(names[index:]))
    return Parameters(tuple(names))


def _splice(folder: Traversable, lines: list[str], above: tuple[str, ...]) -> Iterator[str]:
    for line in lines:
        found = _INCLUDE.match(line)
        if found is None:
            yield line
            continue
        name = found[1]
        if name in above:
            raise ValueError(f"lib/{name}.lua includes itself")
        included = (folder / "lib" / f"{name}.lua").read_text(encoding="utf-8")
        yield from _splice(folder, included.splitlines(), (*above, name))


def pack_evalsha(script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> bytes:
    """The call of a script, ready to be submitted. About two microseconds."""
    return pack(*script.head, _COUNTS[len(keys)], *keys, *args)


async def run_script(
    client: ScriptCaller,
    script: Script,
    keys: Sequence[Argument],
    args: Sequence[Argument],
    timeout: float | None = None,
) -> Reply:
    """Call a script and return its raw reply, loading it first if the server has forgotten it.

    Raises StorageUnavailable and redis.exceptions.ResponseError. Cancelling abandons the answer:
    the script may have run.
    """
    call = pack_evalsha(script, keys, args)
    try:
        return await client.execute_packed(call, timeout)
    except NoScriptError:
        # A script that was not known did nothing, so calling again is safe.
        load = pack("SCRIPT", "LOAD", script.text)
    reply = (await client.pipeline_packed([load, call], timeout))[1]
    if isinstance(reply, Exception):
        raise reply
    return reply
