"""The life of each partition, as this process last verified it (mechanism: life and fence).

A partition's life is one run of numbering on one Redis that lost nothing. Every new connection is
verified before anybody may use it: a stored replication id that is not the server's own begins a
new life, and every room is cold. A process that meets another life than it knew must not trust any
position it holds; the listener given here is how a node learns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import structlog
from uuid_utils import uuid7

from storage.redis.keys import Keys
from storage.redis.script_loader import ScriptCaller, ScriptSet, pack_evalsha

LifeListener = Callable[[int, str, str], None]
"""Called with (partition, life known before or "", new life); synchronous."""


class Lives:
    """Life id and beginning of every partition."""

    def __init__(self, keys: Keys, scripts: ScriptSet) -> None:
        self._keys = keys
        self._scripts = scripts
        self.ids: list[str] = [""] * keys.partitions
        self._listeners: list[LifeListener] = []
        self._log = structlog.get_logger("storage.redis.lives")

    def add_listener(self, listener: LifeListener) -> None:
        """Call `listener` at every change from a known life to another."""
        self._listeners.append(listener)

    def fence_commands(self, partitions: Sequence[int]) -> list[bytes]:
        """One `fence` call a partition, packed."""
        script = self._scripts["fence"]
        return [pack_evalsha(script, (self._keys.life(p),), (uuid7().hex,)) for p in partitions]

    async def verify(self, connection: ScriptCaller, partitions: Sequence[int]) -> None:
        """Make sure that these partitions' lives belong to the connected server, and learn them."""
        replies = await connection.pipeline_packed(self.fence_commands(partitions))
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        for partition, reply in zip(partitions, replies, strict=True):
            life_id, _age, began = cast("tuple[bytes, int, int]", reply)
            self.learn(partition, life_id.decode(), began=bool(began))

    def learn(self, partition: int, life_id: str, *, began: bool = False) -> None:
        """Take over the partition's present life; tells the listeners if it is another."""
        known = self.ids[partition]
        if known == life_id:
            return
        self.ids[partition] = life_id
        if known:
            self._log.warning("partition has a new life", partition=partition, began_here=began)
            for listener in self._listeners:
                listener(partition, known, life_id)
