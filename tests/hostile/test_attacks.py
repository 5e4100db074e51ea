"""Every attack meets its bound, and an honest pair on the same broker gets everything, in order.

An attack meets exactly what `ATTACKS` says; there is no other right outcome. Attacks of a kind run
at the same time: most of their time is waiting.
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from tests.hostile.attacks import ATTACKS
from tests.hostile.force import Force
from tests.hostile.honest import honest_pair
from tests.hostile.target import Target
from tests.support.waiting import wait_until

# What both servers may have in memory beyond before, in all: the queues of so few attackers, and
# what an allocator keeps. One attack without its bound takes more within its second.
MEMORY_MAX = 96 * 1024 * 1024
# Connections to the storages that the pools may have opened meanwhile.
POOLED = 30
ATTACKERS = 3
PAUSE = 0.25
"""Of the honest pair: well within the rate of the broker under attack."""
SECONDS = 1.0
# Floods share the broker's time: together none of them is above its bound on a busy machine.
ONE_BY_ONE = "commands"

KINDS = {
    "slow": [
        "half-heads", "nothing-said", "no-token", "half-frames", "half-open",
        "api-half-heads", "api-nothing-said",
        "api-unfinished-bodies",
    ],
    "readers": ["pages-unread", "just-below", "api-answers-unread"],
    "sippers": ["one-byte-at-a-time"],
    "frames": [
        "huge-heads", "huge-length", "fragments-for-ever", "invalid-json", "unknown-types",
        "oversize", "control-frames", "fragments", "broken", "compression",
    ],
    "commands": [
        "pings-as-frames", "subscriptions", "rooms", "reactions", "typing", "signals", "reads",
        "history", "refreshes", "resumes-from-zero",
    ],
    "requests": [
        "smuggled", "wrong", "giant", "json-bombs", "api-header-floods", "api-endless-bodies",
        "api-odd-requests", "api-json-bombs",
    ],
}  # fmt: skip


@pytest.mark.timeout(280)
@pytest.mark.parametrize("kind", KINDS)
async def test_attacks_meet_their_bound_and_harm_nobody(
    kind: str, target: Target, calm_room: str
) -> None:
    """Promise 4; HAZARDS test 19 (`resumes-from-zero` among the commands)."""
    met: dict[str, Counter[str]] = {}
    memory, descriptors = target.memory(), target.descriptors()

    is_alone = kind == ONE_BY_ONE
    force = Force(1 if is_alone else ATTACKERS, SECONDS)
    turns = trio.CapacityLimiter(1 if is_alone else len(KINDS[kind]))

    async def attack(name: str) -> None:
        async with turns:
            met[name] = await ATTACKS[name].run(target, force)

    async with honest_pair(target.broker_url, calm_room, pause=PAUSE):
        with trio.fail_after(240):
            async with trio.open_nursery() as nursery:
                for name in KINDS[kind]:
                    nursery.start_soon(attack, name)
    for name, outcomes in met.items():
        assert outcomes.keys() <= ATTACKS[name].met, (name, outcomes)
    assert target.memory() - memory < MEMORY_MAX
    # Nobody of them holds a place any more.
    await wait_until(lambda: target.descriptors() < descriptors + POOLED, deadline=30)


def test_every_attack_runs_in_the_suite() -> None:
    assert sorted(ATTACKS) == sorted(name for names in KINDS.values() for name in names)
