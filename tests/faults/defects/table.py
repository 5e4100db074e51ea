"""The defects: what is broken, where, and which tests must turn red.

A patch is text: `old` stands exactly once in the file. `tests/faults/defects/test_table.py` holds
that every patch still applies to the tree, so a change of the product that moves such a line
moves the defect with it. To add one: a row here and, if nothing finds it, a test.
"""

from typing import Final, NamedTuple

_SCRIPTS = "storage/redis/scripts"
_REDIS = "tests/storage/redis"


class Patch(NamedTuple):
    """Text that is replaced in one file."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The broken text; ValueError if the patch does not fit any more."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {text.count(self.old)} places instead of one")
        return text.replace(self.old, self.new)


class Defect(NamedTuple):
    """One way to build it wrong."""

    name: str
    what: str
    patch: Patch
    tests: tuple[str, ...]
    """What must find it, the quickest first; the run ends at the first failure."""


DEFECTS: Final = (
    Defect(
        "acknowledge-before-commit",
        "the archiver deletes a batch from Redis before PostgreSQL has committed it",
        Patch(
            "workers/archiver/archiver.py",
            "            result = await transaction.run(lambda c: write_batch(c, events))\n",
            "            await self._acknowledge(partition, [item.id for item in batch], 0, [])\n"
            "            result = await transaction.run(lambda c: write_batch(c, events))\n",
        ),
        ("tests/workers/test_archiver_faults.py",),
    ),
    Defect(
        "no-partition-lock",
        "two archivers write one partition at once",
        Patch(
            "storage/postgres/archive.py",
            "    return bool(await connection.fetchval("
            "_LOCK_PARTITION, _ARCHIVE_LOCK, partition))\n",
            "    return True\n",
        ),
        (
            "tests/storage/postgres/test_archive.py::test_a_partition_has_one_writer",
            "tests/faults/test_archive_order.py",
        ),
    ),
    Defect(
        "edits-beyond-deletion",
        "an edit counts although the message was deleted or changed by a newer event",
        Patch(
            "storage/postgres/archive_rows.py",
            "    AND m.deleted_at IS NULL AND m.last_offset < v.last_offset\n",
            "",
        ),
        (
            "tests/storage/postgres/test_archive.py",
            "tests/storage/postgres/test_archive_model.py",
        ),
    ),
    Defect(
        "archive-any-life",
        "the archiver takes events of a life that lost its place",
        Patch(
            "storage/postgres/archive.py",
            "    if entry.epoch != room.epoch and entry.offset > room.base_offset:\n",
            "    if False:\n",
        ),
        (
            "tests/storage/postgres/test_archive.py::test_an_event_of_an_ended_life_is_put_aside",
            "tests/faults/test_failover.py",
        ),
    ),
    Defect(
        "leave-without-generation",
        "a leave that is late takes the node off a room that it has joined again",
        Patch(
            f"{_SCRIPTS}/leave.lua",
            "if known > tonumber(ARGV[3]) then return 0 end\n",
            "",
        ),
        (
            f"{_REDIS}/test_scripts_nodes.py::test_a_join_that_is_newer_survives_a_late_leave",
            "tests/faults/test_subscribing.py",
        ),
    ),
    Defect(
        "no-gap-repair",
        "the hub delivers on over a gap",
        Patch(
            "broker/hub_room.py",
            "        if entry.offset != self.offset + 1:\n",
            "        if False:\n",
        ),
        ("tests/broker/test_hub_room.py", "tests/faults/test_lost_inboxes.py"),
    ),
    Defect(
        "no-audit",
        "nodes are never told that they are behind or not registered",
        Patch(
            f"{_SCRIPTS}/audit.lua",
            "  if registered == 0 or moved then\n",
            "  if false then\n",
        ),
        (
            f"{_REDIS}/test_scripts_nodes.py::test_the_audit_finds_what_differs",
            "tests/faults/test_lost_inboxes.py",
        ),
    ),
    Defect(
        "no-fencing",
        "a server that may have lost writes goes on under the old life",
        Patch(
            f"{_SCRIPTS}/lib/life.lua",
            "  return life[1] == life_id and life[2] == own_replid()\n",
            "  return life[1] == life_id\n",
        ),
        (
            f"{_REDIS}/test_scripts_publish.py::test_an_announcement_looks_at_the_server_itself",
            "tests/faults/test_failover.py",
        ),
    ),
    Defect(
        "publish-in-any-life",
        "publish does not look at the life that its connection was verified for",
        Patch(
            f"{_SCRIPTS}/publish.lua",
            "  if not partition.holds then return 'FENCED' end\n",
            "",
        ),
        (f"{_REDIS}/test_scripts_publish.py::test_a_refused_publish_writes_nothing",),
    ),
    Defect(
        "role-version-not-checked",
        "a publish under way outlives the removal of its sender",
        Patch(
            f"{_SCRIPTS}/publish.lua",
            "  if version ~= room[5] and tonumber(version) < tonumber(room[5]) then "
            "return 'STALE ' .. room[5] end\n",
            "",
        ),
        (
            f"{_REDIS}/test_scripts_publish.py::test_a_stale_publisher_is_told_the_version",
            "tests/faults/test_changes.py",
        ),
    ),
    Defect(
        "write-before-refusals",
        "publish moves a counter before it has checked everything",
        Patch(
            f"{_SCRIPTS}/publish.lua",
            "  if room[1] ~= partition.id then return 'COLD' end\n",
            "  if room[1] ~= partition.id then return 'COLD' end\n"
            "  redis.call('HINCRBY', room_key, 'seq', step)\n",
        ),
        (f"{_REDIS}/test_scripts_publish.py::test_a_refused_publish_writes_nothing",),
    ),
    Defect(
        "idempotency-forgotten",
        "publish does not look for the client_id",
        Patch(
            f"{_SCRIPTS}/lib/sent.lua",
            "    if before then return before end\n",
            "",
        ),
        (
            f"{_REDIS}/test_scripts_publish.py::test_a_repeat_gets_the_first_answer",
            "tests/integration/test_same_client_id.py",
        ),
    ),
    Defect(
        "idempotency-not-seeded",
        "a room that is warmed again forgets the client_ids of the last ten minutes",
        Patch(
            f"{_SCRIPTS}/seed.lua",
            "for i = 10, #ARGV, 3 do\n",
            "for i = #ARGV + 1, #ARGV, 3 do\n",
        ),
        (
            f"{_REDIS}/test_scripts_archive.py::test_a_seed_gives_idempotency_keys_back",
            "tests/faults/test_failover.py",
        ),
    ),
    Defect(
        "seed-below-what-was-seen",
        "a new life numbers on from the archive, whatever nodes and Redis have seen",
        Patch(
            "storage/postgres/seeds.py",
            "            offset, seq = max(offset, redis_offset), max(seq, redis_seq)\n",
            "",
        ),
        (
            "tests/storage/postgres/test_seeds.py::test_another_life_goes_on_above_whatever_anybody_knows",
            "tests/integration/test_redis_emptied.py",
        ),
    ),
    Defect(
        "publish-retried-without-key",
        "a publish whose outcome is unknown is sent again, with a client_id or not",
        Patch(
            "broker/domain/publishing.py",
            "            outcome = await self._rooms.publish(key, event)\n",
            "            try:\n"
            "                outcome = await self._rooms.publish(key, event)\n"
            "            except StorageUnavailable:\n"
            "                outcome = await self._rooms.publish(key, event)\n",
        ),
        ("tests/faults/test_unknown_outcomes.py",),
    ),
    Defect(
        "trim-beyond-archived",
        "the room log is trimmed to its length, archived or not",
        Patch(
            f"{_SCRIPTS}/lib/append.lua",
            "    if archived < floor then floor = archived end\n",
            "",
        ),
        (
            f"{_REDIS}/test_scripts_publish.py::test_the_log_keeps_everything_that_is_not_archived",
            "tests/faults/test_whole_history.py",
        ),
    ),
    Defect(
        "outbox-reordering",
        "what a slow socket did not take goes behind what came later",
        Patch(
            "broker/outbox.py",
            "        self._kept.append(frame)\n        self._kept_bytes += len(frame) - sent\n",
            "        self._kept.appendleft(frame)\n        self._kept_bytes += len(frame) - sent\n",
        ),
        ("tests/broker/test_outbox.py",),
    ),
    Defect(
        "hold-dropped",
        "events between a subscribe's snapshot and its reply are dropped",
        Patch(
            "broker/hub_room.py",
            '            subscriber.post(b"".join(frame for _at, frame in kept))\n',
            "            pass\n",
        ),
        ("tests/broker/test_hub_room.py", "tests/faults/test_subscribing.py"),
    ),
    Defect(
        "since-across-epochs",
        "a resume takes the offset of another epoch for one of this",
        Patch(
            f"{_SCRIPTS}/subscribe.lua",
            "  if ARGV[8] ~= room[1] then\n",
            "  if false then\n",
        ),
        (f"{_REDIS}/test_scripts_nodes.py::test_a_resume_that_is_impossible_says_why",),
    ),
    Defect(
        "recovered-over-a-hole",
        "a resume says recovered although entries are missing from the log",
        Patch(
            f"{_SCRIPTS}/subscribe.lua",
            "      elseif #tail ~= to - since then\n",
            "      elseif false then\n",
        ),
        (f"{_REDIS}/test_scripts_nodes.py::test_a_resume_over_a_hole_is_not_recovered",),
    ),
    Defect(
        "removal-not-heard",
        "nodes do not end the subscriptions of who was removed",
        Patch(
            "broker/delivery.py",
            '        if entry.event in ("member.removed", "member.updated", "member.added"):\n',
            '        if entry.event == "member.updated":\n',
        ),
        (
            "tests/broker/test_delivery.py",
            "tests/integration/test_removed_member.py",
        ),
    ),
    Defect(
        "announcement-not-replayed",
        "a committed change whose process died is never announced",
        Patch(
            "broker/domain/announcing.py",
            "        for room, announcements in by_room.items():\n",
            "        for room, announcements in list(by_room.items())[:0]:\n",
        ),
        (
            "tests/workers/test_archiver_process.py::test_it_announces_what_others_left_behind",
            "tests/faults/test_changes.py",
        ),
    ),
    Defect(
        "lease-not-checked",
        "a node reaps another whose lease has not ended",
        Patch(
            f"{_SCRIPTS}/reap.lua",
            "if lease > ms and ARGV[6] ~= '1' then return -1 end\n",
            "",
        ),
        (
            f"{_REDIS}/test_scripts_nodes.py::test_a_living_node_is_not_reaped",
            "tests/faults/test_presence.py",
        ),
    ),
    Defect(
        "inbox-made-again",
        "a node that lost its inbox makes another and goes on as if nothing had been lost",
        Patch(
            f"{_SCRIPTS}/heartbeat.lua",
            "if redis.call('EXISTS', KEYS[1]) == 0 then return {'LOST'} end\n",
            "if redis.call('EXISTS', KEYS[1]) == 0 then "
            "redis.call('XADD', KEYS[1], '*', 'e', '') end\n",
        ),
        (
            f"{_REDIS}/test_scripts_nodes.py::test_a_lost_inbox_is_reported_and_never_made_again",
            "tests/faults/test_lost_inboxes.py",
        ),
    ),
    Defect(
        "presence-counted",
        "presence adds connections up instead of setting how many there are",
        Patch(
            f"{_SCRIPTS}/lib/presence.lua",
            "    nodes[node] = {connections, gen, mine and mine[3] or ms, 0}\n",
            "    nodes[node] = {(mine and mine[1] or 0) + 1, gen, mine and mine[3] or ms, 0}\n",
        ),
        (
            f"{_REDIS}/test_scripts_nodes.py::test_counts_are_absolute_and_repeats_change_nothing",
            f"{_REDIS}/test_scripts_live.py",
        ),
    ),
    Defect(
        "mark-goes-back",
        "a read mark is set to what is asked for, older or not",
        Patch(
            f"{_SCRIPTS}/mark.lua",
            "local reads = new_read > read\n",
            "local reads = new_read > 0\n",
        ),
        (
            f"{_REDIS}/test_scripts_marks.py::test_a_mark_moves_forward_only_and_never_beyond_the_newest_message",
        ),
    ),
)
