"""Finding the server: the one of `REDIS_URL`, or the master that the sentinels name just now.

Law of this file:
- Nothing is remembered as a place to go to: every new connection asks again.
- All sentinels are asked at once, each on a connection of its own, and the first majority that
  names one server ends the asking. Without one the answer of the newest configuration (the highest
  `config-epoch`) counts: a sentinel that was cut off, or has just come back, names an old master.
- An answer of a minority is believed only if its configuration is not older than the newest that
  this process has seen: else the one sentinel that can be reached might lead back to an old master
  that does not know better either.
- Whoever connects still has to ask the server itself whether it is a master (`handshake`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import trio
from redis.exceptions import RedisError

from config.limits import SENTINEL_TIMEOUT, SENTINEL_WATCH_INTERVAL
from storage.errors import StorageRefused, StorageUnavailable
from storage.redis.address import Address, RedisAddress, SentinelAddress
from storage.redis.connection import RedisConnection
from storage.redis.handshake import check_handshake, explain_failure, handshake_commands
from storage.redis.replies import Reply, pack
from storage.redis.sockets import CONNECTION_ERRORS, dial

_NAME: Final = "parley-sentinel"


@dataclass(frozen=True, slots=True)
class SentinelAnswer:
    """What one sentinel said: a master, or why it named none."""

    sentinel: RedisAddress
    master: RedisAddress | None = None
    config_epoch: int = 0
    problem: StorageUnavailable | StorageRefused | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A server to connect to."""

    server: RedisAddress
    config_epoch: int = 0
    is_majority: bool = True


class ServerFinder:
    """Finds the server of one address. One per process: it knows how new an answer has to be."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._newest_epoch = 0

    async def find(self) -> Found:
        """The server to connect to now.

        Raises StorageUnavailable if no sentinel names one, StorageRefused if that is for the
        operator to mend. Has a deadline of its own. Cancel-safe.
        """
        address = self.address
        if isinstance(address, RedisAddress):
            await trio.lowlevel.checkpoint()
            return Found(address)
        found = judge(address, await self._ask(address, is_enough=_has_majority))
        if not found.is_majority and found.config_epoch < self._newest_epoch:
            reason = f"the sentinels of {address} that answer name an older master"
            raise StorageUnavailable("redis", "not_done", reason)
        self._newest_epoch = max(self._newest_epoch, found.config_epoch)
        return found

    async def wait_replaced(self, found: Found) -> Found:
        """Wait until the sentinels name another server; that one. For ever without sentinels.

        A master that was cut off from them may go on accepting what is lost in the end.
        """
        if isinstance(self.address, RedisAddress):
            await trio.sleep_forever()
        while True:
            await trio.sleep(SENTINEL_WATCH_INTERVAL)
            try:
                now = await self.find()
            except (StorageUnavailable, StorageRefused):
                continue  # they say nothing against it
            is_newer = now.config_epoch > found.config_epoch
            if now.server != found.server and (now.is_majority or is_newer):
                return now

    async def ask_all(self) -> list[SentinelAnswer]:
        """What each sentinel says, in the order of the address; empty without sentinels."""
        if isinstance(self.address, RedisAddress):
            await trio.lowlevel.checkpoint()
            return []
        answers = await self._ask(self.address, is_enough=lambda _address, _answers: False)
        order = self.address.sentinels.index
        return sorted(answers, key=lambda answer: order(answer.sentinel))

    async def _ask(self, address: SentinelAddress, *, is_enough: Any) -> list[SentinelAnswer]:
        answers: list[SentinelAnswer] = []
        async with trio.open_nursery() as nursery:

            async def ask(sentinel: RedisAddress) -> None:
                answers.append(await _ask_one(address, sentinel))
                if is_enough(address, answers):
                    nursery.cancel_scope.cancel()

            for sentinel in address.sentinels:
                nursery.start_soon(ask, sentinel)
        return answers


def judge(address: SentinelAddress, answers: Sequence[SentinelAnswer]) -> Found:
    """The master by these answers. Raises what to tell if there is none."""
    votes: dict[RedisAddress, int] = {}
    epochs: dict[RedisAddress, int] = {}
    for answer in answers:
        if answer.master is not None:
            votes[answer.master] = votes.get(answer.master, 0) + 1
            epochs[answer.master] = max(epochs.get(answer.master, 0), answer.config_epoch)
    if not votes:
        raise _explain_none(address, answers)
    server = max(votes, key=lambda master: (epochs[master], votes[master]))
    return Found(server, epochs[server], 2 * votes[server] > len(address.sentinels))


def _has_majority(address: SentinelAddress, answers: Sequence[SentinelAnswer]) -> bool:
    masters = [answer.master for answer in answers if answer.master is not None]
    return any(2 * masters.count(master) > len(address.sentinels) for master in masters)


def _explain_none(
    address: SentinelAddress, answers: Sequence[SentinelAnswer]
) -> StorageUnavailable | StorageRefused:
    problems = [answer.problem for answer in answers if answer.problem is not None]
    for problem in problems:
        if isinstance(problem, StorageRefused):
            return problem
    said = "; ".join(sorted({problem.reason for problem in problems}))
    return StorageUnavailable("redis", "not_done", f"no sentinel of {address.service}: {said}")


async def _ask_one(address: SentinelAddress, sentinel: RedisAddress) -> SentinelAnswer:
    """One sentinel's answer; whatever goes wrong is in it."""
    try:
        with trio.fail_after(SENTINEL_TIMEOUT):
            replies = await _converse(address, sentinel)
        return _read_answer(address, sentinel, replies)
    except (
        *CONNECTION_ERRORS, trio.TooSlowError, RedisError, StorageUnavailable, StorageRefused,
    ) as error:  # fmt: skip
        return SentinelAnswer(sentinel, problem=explain_failure(sentinel, error))


async def _converse(address: SentinelAddress, sentinel: RedisAddress) -> list[Reply | Exception]:
    """Greet the sentinel and put the two questions; the replies to these."""
    greetings = handshake_commands(sentinel, _NAME)
    questions = [
        pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service),
        pack("SENTINEL", "MASTER", address.service),
    ]
    socket = await dial(sentinel)
    connection = RedisConnection(socket, command_timeout=SENTINEL_TIMEOUT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        try:
            replies = await connection.pipeline_packed([*greetings, *questions])
        finally:
            connection.lose("the sentinel has answered")
    check_handshake(sentinel, replies[: len(greetings)])
    return replies[len(greetings) :]


def _read_answer(
    address: SentinelAddress, sentinel: RedisAddress, replies: Sequence[Reply | Exception]
) -> SentinelAnswer:
    place, details = replies
    if isinstance(place, Exception):
        raise place
    if place is None:
        reason = f"REDIS_URL: the sentinel {sentinel} knows no service {address.service!r}"
        raise StorageRefused("redis", reason)
    host, port = cast("list[bytes]", place)
    # A user who may only ask for the address is welcome; then nobody is newer than the others.
    flat = details if isinstance(details, list) else []
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    epoch = int(fields.get(b"config-epoch", 0))
    return SentinelAnswer(sentinel, address.master_at(host.decode(), int(port)), epoch)
