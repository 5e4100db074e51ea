"""The life of each partition, as this process last verified it (mechanism: life and fence).

A partition's life is one run of numbering on one Redis that lost nothing. Every new connection is
verified before anybody may use it: a stored replication id that is not the server's own begins a
new life, and every room is cold, unless the server can prove that it lost nothing. A process that
meets another life than it knew must not trust any position it holds; the listener given here is how
a node learns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

import structlog
from uuid_utils import uuid7

from storage.redis.client import RedisClient
from storage.redis.keys import LEASES_KEY, Keys
from storage.redis.script_loader import ScriptCaller, ScriptSet, pack_evalsha, run_script

_BEGAN: Final = 1
_TOOK_OVER: Final = 2

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
        return [
            pack_evalsha(script, (self._keys.life(p),), (uuid7().hex, LEASES_KEY))
            for p in partitions
        ]

    async def verify(self, connection: ScriptCaller, partitions: Sequence[int]) -> None:
        """Make sure that these partitions' lives belong to the connected server, and learn them."""
        replies = await connection.pipeline_packed(self.fence_commands(partitions))
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        for partition, reply in zip(partitions, replies, strict=True):
            life_id, _age, began = cast("tuple[bytes, int, int]", reply)
            if began == _TOOK_OVER:
                self._log.info("partition keeps its life", partition=partition)
            self.learn(partition, life_id.decode(), began=began == _BEGAN)

    async def begin_again(self, client: RedisClient) -> None:
        """Begin a new life of every partition; every process finds out within a second."""
        for partition in range(self._keys.partitions):
            # A life that belongs to no server holds for nobody.
            await client.execute("HDEL", self._keys.life(partition), "replid")
        await self.verify(client, range(self._keys.partitions))

    async def check(self, caller: ScriptCaller) -> None:
        """Learn which partitions have another life by now; cheap while none has."""
        keys = [self._keys.life(p) for p in range(self._keys.partitions)]
        reply = await run_script(caller, self._scripts["lives"], keys, self.ids)
        stale = [position - 1 for position in cast("list[int]", reply)]
        if stale:
            await self.verify(caller, stale)

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
