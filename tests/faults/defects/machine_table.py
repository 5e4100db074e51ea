"""Defects that are about sequences, and which state machine is asked to find each.

Some stand in `table.py`, too, where a test that was written for them finds them; here it is a
random sequence that must. A patch holds like those of `table.py`.
"""

from typing import Final

from tests.faults.defects.table import DEFECTS, Defect, Patch

_SCRIPTS: Final = "storage/redis/scripts"
_HUB_ROOM: Final = "broker/hub_room.py"
NODE: Final = "node-machine"
ROOM: Final = "room-machine"
RESUME: Final = "resume-machine"

ONLY_HERE: Final = (
    Defect(
        "empty-room-kept",
        "a room that nobody subscribes to any more stays in the hub",
        Patch("broker/hub.py", "        if room.is_empty:\n", "        if False:\n"),
        (NODE,),
    ),
    Defect(
        "not-registered-ignored",
        "an audit that finds the node not registered for a room changes nothing",
        Patch(
            "broker/node.py",
            "            elif not state.registered:\n                self.request_repair(room)\n",
            "            elif not state.registered:\n                pass\n",
        ),
        (NODE,),
    ),
    Defect(
        "kept-through-a-new-life",
        "subscriptions go on although their partition has a new life",
        Patch(
            "broker/repairs.py",
            "            if room.keys.partition in changed and room.epoch is not None:\n"
            "                self.end_for_resync(room)\n",
            "            if room.keys.partition in changed and room.epoch is not None:\n"
            "                room.epoch = self._rooms.lives.ids[room.keys.partition]\n",
        ),
        (NODE,),
    ),
    Defect(
        "late-taken-for-live",
        "a subscription whose snapshot is ahead of the inbox gets what the snapshot covers",
        Patch(_HUB_ROOM, "        if reached > self.offset:\n", "        if False:\n"),
        (NODE,),
    ),
    Defect(
        "leave-not-sent-again",
        "a leave that Redis did not answer is forgotten",
        Patch(
            "broker/upkeep.py",
            "            except StorageUnavailable as error:\n"
            "                dirty.add(mark)\n"
            "                failures.append(error)\n",
            "            except StorageUnavailable as error:\n"
            "                failures.append(error)\n",
        ),
        (NODE,),
    ),
    Defect(
        "portion-left-out",
        "the last of a large room are left out when an event goes round",
        Patch(
            "broker/live_group.py",
            "_Round(self._place + size, frames,",
            "_Round(self._place + max(1, size - 1), frames,",
        ),
        (ROOM,),
    ),
    Defect(
        "rest-of-a-round-dropped",
        "a change of who receives ends what is on its way to a large room",
        Patch(
            "broker/live_group.py",
            "        while self._rounds:\n            self.spread(len(self._subscribers))\n",
            "        self._rounds = ()\n",
        ),
        (ROOM,),
    ),
    Defect(
        "kept-bytes-never-lowered",
        "what a slow socket has taken still counts as kept",
        Patch("broker/outbox.py", "        self._kept_bytes -= count\n", ""),
        (NODE,),
    ),
    Defect(
        "failed-repeat-forgets",
        "a repeated subscribe that fails loses what came meanwhile to the one that goes on",
        Patch(
            _HUB_ROOM,
            '        if kept:\n            subscriber.post(b"".join(kept))\n',
            "",
        ),
        (NODE,),
    ),
    Defect(
        "ended-while-subscribing",
        "a subscribe whose subscription has ended meanwhile is answered as if it had not",
        Patch(
            "broker/subscribing.py",
            "        if room.held.get(self._connection) is not hold:\n",
            "        if False:\n",
        ),
        (NODE,),
    ),
    Defect(
        "overflow-ignored",
        "a hold that was spoiled goes live as if nothing had been lost",
        Patch(
            _HUB_ROOM,
            "        if hold.has_overflowed or not {self.epoch, hold.epoch} <= {None, epoch}:\n",
            "        if not {self.epoch, hold.epoch} <= {None, epoch}:\n",
        ),
        (NODE,),
    ),
    Defect(
        "epoch-of-what-was-held-ignored",
        "what came of the next life before the reply of a first subscribe follows its snapshot",
        Patch(
            _HUB_ROOM,
            "        if hold.has_overflowed or not {self.epoch, hold.epoch} <= {None, epoch}:\n",
            "        if hold.has_overflowed or epoch != (self.epoch or epoch):\n",
        ),
        (NODE,),
    ),
    Defect(
        "too-much-recovered",
        "a resume gives more events than it may",
        Patch(
            f"{_SCRIPTS}/subscribe.lua",
            "  elseif offset - since > tonumber(ARGV[11]) then\n",
            "  elseif false then\n",
        ),
        (RESUME,),
    ),
    Defect(
        "too-large-recovered",
        "a resume gives more bytes than it may",
        Patch(
            f"{_SCRIPTS}/subscribe.lua",
            "      if bytes > tonumber(ARGV[12]) then\n",
            "      if false then\n",
        ),
        (RESUME,),
    ),
    Defect(
        "ahead-recovered",
        "a resume from beyond the newest event says recovered",
        Patch(
            f"{_SCRIPTS}/subscribe.lua",
            "  elseif since > offset then\n    reason = 'ahead'\n",
            "  elseif since > offset then\n    reason = ''\n",
        ),
        (RESUME,),
    ),
    Defect(
        "seeded-below-redis",
        "a seed lowers the numbers that Redis still has",
        Patch(
            f"{_SCRIPTS}/seed.lua",
            "if tonumber(room[2] or '0') > offset or tonumber(room[3] or '0') > seq then "
            "return 'AHEAD' end\n",
            "",
        ),
        (RESUME,),
    ),
    Defect(
        "seeded-below-the-log",
        "a seed does not look how far the log goes",
        Patch(f"{_SCRIPTS}/seed.lua", "if log_offset > offset then return 'AHEAD' end\n", ""),
        (RESUME,),
    ),
    Defect(
        "archived-beyond-the-newest",
        "an acknowledgement raises `archived` to whatever it says",
        Patch(
            f"{_SCRIPTS}/archived.lua",
            "math.min(tonumber(ARGV[i + 1]), offset))\n",
            "tonumber(ARGV[i + 1]))\n",
        ),
        (RESUME,),
    ),
    Defect(
        "trimmed-by-the-archiver",
        "the archiver trims all that is archived, and not only what is beyond the log's length",
        Patch(
            f"{_SCRIPTS}/archived.lua",
            "local floor = math.min(offset - log_length, archived)\n",
            "local floor = archived\n",
        ),
        (RESUME,),
    ),
)  # fmt: skip

_SHARED: Final = {
    ROOM: (),
    NODE: ("no-gap-repair", "outbox-reordering", "hold-dropped", "removal-not-heard"),
    RESUME: (
        "since-across-epochs", "recovered-over-a-hole", "trim-beyond-archived", "no-fencing",
        "publish-in-any-life", "mark-goes-back", "idempotency-forgotten", "write-before-refusals",
        "idempotency-not-seeded",
    ),
}  # fmt: skip

BY_MACHINE: Final = tuple(
    (machine, defect)
    for machine, shared in _SHARED.items()
    for defect in (*DEFECTS, *ONLY_HERE)
    if defect.name in shared or defect.tests == (machine,)
)
"""What each machine is asked for."""
