"""redis-py's command methods over our transport.

Law of this file: redis-py decides how a command looks and what its reply means (its serializer,
its response callbacks for RESP2, bytes undecoded); we only carry it. Convenient and slow (tens of
microseconds): for start-up, health and tools. The hot paths pack scripts and take raw replies.
Not for commands that take over the connection (SUBSCRIBE, MONITOR) or block (XREAD BLOCK), nor
for redis-py's own pipelines and script objects.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import redis
from redis.client import EMPTY_RESPONSE
from redis.commands import AsyncCoreCommands
from redis.connection import HiredisRespSerializer
from redis.exceptions import ResponseError

from storage.redis.replies import Reply


class RedisCommands(AsyncCoreCommands):
    """`await client.commands.info("replication")` and all the other methods of redis-py.

    Raises what `execute` raises. Cancel-safe like it.
    """

    # By this mark redis-py's types know that the methods are to be awaited.
    _is_async_client: Literal[True] = True
    # redis-py's type of a client asks for it; none of the methods uses it.
    _event_dispatcher: Any = None

    def __init__(self, execute_packed: Callable[[bytes], Awaitable[Reply]]) -> None:
        self._execute_packed = execute_packed
        self._serializer = HiredisRespSerializer()
        # A client object that never connects: the public way to redis-py's table of callbacks.
        self.response_callbacks = redis.Redis(protocol=2).response_callbacks

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Every method of redis-py ends here; `options` are for the response callback."""
        packed = b"".join(self._serializer.pack(*args))
        try:
            reply: Any = await self._execute_packed(packed)
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        options.pop(EMPTY_RESPONSE, None)
        options.pop("keys", None)
        options.pop("NEVER_DECODE", None)
        callback = self.response_callbacks.get(args[0])  # type: ignore[no-untyped-call]
        if callback is None:
            return reply
        result = callback(reply, **options)
        return await result if inspect.isawaitable(result) else result
