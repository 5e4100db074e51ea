"""What a scenario needs to know of a server, whichever it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running server. Figures are compared between targets that took turns in one run."""

    name: str
    host: str
    port: int
    process: int  # root of the process tree whose CPU and memory are counted
    token: Callable[[str], str]
    prepare_rooms: Callable[[Mapping[str, Sequence[str]]], None]  # room -> members
    redis_url: str | None = None
    checks_content: bool = True  # False: sends a prepared frame whatever was published
    server_core: int | None = None  # None: not pinned, so its core can not be judged
    generator_core: int | None = None
