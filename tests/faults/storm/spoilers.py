"""Ways to spoil a good record, each of one kind: what the checker must find, and nothing else.

A spoiler changes the record and says whether it could. They take records of
`History(is_whole=True)`, where every event is known.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.faults.storm.checker import Kind
from tests.faults.storm.record import (
    Absence,
    Connection,
    DeadLetterRow,
    Ephemeral,
    Event,
    KeyOfRedis,
    MessageRow,
    Operation,
    Presence,
    Record,
    Subscribed,
    Unsubscribed,
    Window,
)

Spoiler = Callable[[Record, random.Random], bool]
LATER: Final = 1e6


def _choose(rng: random.Random, found: list[Any]) -> Any:
    return rng.choice(found) if found else None


def _live(record: Record) -> Iterator[tuple[Connection, int, Event]]:
    """Events that came live, where they stand."""
    for connection in record.connections:
        for place, frame in enumerate(connection.frames):
            if isinstance(frame, Event) and frame.event.startswith("message."):
                yield connection, place, frame


def _next_of_room(connection: Connection, place: int) -> int | None:
    room = connection.frames[place].room  # type: ignore[union-attr]
    for later in range(place + 1, len(connection.frames)):
        frame = connection.frames[later]
        if isinstance(frame, Event | Subscribed | Unsubscribed) and frame.room == room:
            return later
    return None


def _of(record: Record, kind: str) -> list[int]:
    """Places of operations of a kind that were answered."""
    return [
        place
        for place, one in enumerate(record.operations)
        if one.kind == kind and one.outcome == "ok"
    ]


def _same_request(record: Record, operation: Operation) -> list[int]:
    key = "client_id" if "client_id" in operation.asked else "content"
    return [
        place
        for place, one in enumerate(record.operations)
        if (one.kind, one.user, one.room, one.asked.get(key))
        == ("publish", operation.user, operation.room, operation.asked[key])
    ]


def _rows(record: Record) -> list[MessageRow]:
    assert record.archive is not None
    return record.archive.messages


def _untouched(record: Record) -> list[int]:
    """Places of rows that nothing but their creation is about, of answered publishes."""
    touched = {(o.room, o.asked["seq"]) for o in record.operations if "reaction" in o.asked}
    touched |= {(o.room, o.asked["seq"]) for o in record.operations if o.kind in ("edit", "delete")}
    answered = {record.operations[p].answer["message_id"] for p in _of(record, "publish")}
    return [
        place
        for place, row in enumerate(_rows(record))
        if (row.room, row.seq) not in touched and row.id in answered
    ]


# --- deliveries -----------------------------------------------------------------------------------


def deliver_twice(record: Record, rng: random.Random) -> bool:
    found = _choose(rng, list(_live(record)))
    if found:
        found[0].frames.insert(found[1] + 1, found[2])
    return bool(found)


def swap_events(record: Record, rng: random.Random) -> bool:
    pairs = []
    for connection, place, _ in _live(record):
        later = _next_of_room(connection, place)
        if later is not None and isinstance(connection.frames[later], Event):
            pairs.append((connection.frames, place, later))
    found = _choose(rng, pairs)
    if found:
        frames, a, b = found
        frames[a], frames[b] = frames[b], frames[a]
    return bool(found)


def skip_event(record: Record, rng: random.Random) -> bool:
    found = _choose(
        rng,
        [
            (connection, place)
            for connection, place, _ in _live(record)
            if (later := _next_of_room(connection, place)) is not None
            and isinstance(connection.frames[later], Event)
        ],
    )
    if found:
        del found[0].frames[found[1]]
    return bool(found)


def end_too_early(record: Record, rng: random.Random) -> bool:
    found = _choose(
        rng,
        [
            (connection, place)
            for connection, place, _ in _live(record)
            if connection.closed is None and _next_of_room(connection, place) is None
        ],
    )
    if found:
        del found[0].frames[found[1]]
    return bool(found)


def deliver_after_the_end(record: Record, rng: random.Random) -> bool:
    found = []
    for connection, place, event in _live(record):
        later = _next_of_room(connection, place)
        if later is not None and isinstance(connection.frames[later], Unsubscribed):
            found.append((connection, later, event))
    chosen = _choose(rng, found)
    if chosen:
        chosen[0].frames.insert(chosen[1] + 1, chosen[2])
    return bool(chosen)


def _replies(record: Record) -> list[tuple[Connection, int, Subscribed]]:
    return [
        (connection, place, frame)
        for connection in record.connections
        for place, frame in enumerate(connection.frames)
        if isinstance(frame, Subscribed)
    ]


def recover_less(record: Record, rng: random.Random) -> bool:
    found = _choose(rng, [one for one in _replies(record) if one[2].events])
    if found:
        connection, place, reply = found
        gone = rng.randrange(len(reply.events))
        events = reply.events[:gone] + reply.events[gone + 1 :]
        connection.frames[place] = reply._replace(events=events)
    return bool(found)


def recover_across_epochs(record: Record, rng: random.Random) -> bool:
    found = _choose(rng, [one for one in _replies(record) if one[2].recovered])
    if found:
        connection, place, reply = found
        connection.frames[place] = reply._replace(since=reply.since._replace(epoch="other"))
    return bool(found)


# --- places, answers, origins ---------------------------------------------------------------------


def tell_two_things(record: Record, rng: random.Random) -> bool:
    seen: set[tuple[str, int]] = set()
    again = []
    for connection, place, event in _live(record):
        if (event.room, event.offset) in seen:
            again.append((connection, place, event))
        seen.add((event.room, event.offset))
    earlier = {
        (event.room, event.offset) for _, _, reply in _replies(record) for event in reply.events
    }
    found = _choose(rng, [one for one in again if (one[2].room, one[2].offset) not in earlier])
    if found is None:
        return False
    connection, place, event = found
    connection.frames[place] = event._replace(data={**event.data, "content": "something else"})
    return True


def give_a_seq_twice(record: Record, rng: random.Random) -> bool:
    row = _choose(rng, _rows(record))
    if row:
        other = row._replace(
            id="other", client_id=None, content="other", is_edited=False, is_deleted=False
        )
        _rows(record).append(other)
        record.operations.append(
            Operation(
                "publish", row.sender, row.room, LATER, None, "unknown", asked={"content": "other"}
            )
        )
    return bool(row)


def repeat_into_two(record: Record, rng: random.Random) -> bool:
    row = _choose(rng, [row for row in _rows(record) if row.client_id and not row.is_edited])
    if row:
        seq = max(one.seq for one in _rows(record) if one.room == row.room) + 1
        _rows(record).append(row._replace(id="other", seq=seq))
    return bool(row)


def _alter_answer(record: Record, rng: random.Random, kind: str, **changes: Any) -> bool:
    places = [p for p in _of(record, kind) if record.operations[p].answer.get("offset")]
    place = _choose(rng, places)
    if place is None:
        return False
    operation = record.operations[place]
    answer = {**operation.answer}
    for name, value in changes.items():
        answer[name] = value if isinstance(value, str) else answer[name] + value
    record.operations[place] = operation._replace(answer=answer)
    return True


def answer_other_id(record: Record, rng: random.Random) -> bool:
    return _alter_answer(record, rng, "publish", message_id="other")


def answer_other_offset(record: Record, rng: random.Random) -> bool:
    return _alter_answer(record, rng, "publish", offset=1)


def answer_other_seq(record: Record, rng: random.Random) -> bool:
    return _alter_answer(record, rng, "publish", seq=1)


def forget_who_asked(record: Record, rng: random.Random) -> bool:
    place = _choose(rng, _of(record, "publish"))
    if place is not None:
        for same in reversed(_same_request(record, record.operations[place])):
            del record.operations[same]
    return place is not None


def forget_who_edited(record: Record, rng: random.Random) -> bool:
    places = [p for p in _of(record, "edit") if record.operations[p].answer["offset"]]
    place = _choose(rng, places)
    if place is not None:
        del record.operations[place]
    return place is not None


def refuse_what_happened(record: Record, rng: random.Random) -> bool:
    place = _choose(rng, _of(record, "publish"))
    if place is not None:
        for same in _same_request(record, record.operations[place]):
            operation = record.operations[same]
            record.operations[same] = operation._replace(
                outcome="failed", code="forbidden", answer={}
            )
    return place is not None


def _answer_for_nothing(record: Record, rng: random.Random, kind: str, **asked: Any) -> bool:
    row = _choose(rng, [row for row in _rows(record) if not row.is_deleted])
    if row:
        whole = {"seq": row.seq, **asked}
        record.operations.append(
            Operation(
                kind, row.sender, row.room, LATER, LATER + 1, "ok",
                asked=whole, answer={"offset": 100_000},
            )
        )  # fmt: skip
    return bool(row)


def answer_an_edit_for_nothing(record: Record, rng: random.Random) -> bool:
    return _answer_for_nothing(record, rng, "edit", content="never stored")


def answer_a_deletion_for_nothing(record: Record, rng: random.Random) -> bool:
    return _answer_for_nothing(record, rng, "delete")


def answer_a_reaction_for_nothing(record: Record, rng: random.Random) -> bool:
    return _answer_for_nothing(record, rng, "react", reaction="never stored")


# --- the archive ----------------------------------------------------------------------------------


def lose_a_row(record: Record, rng: random.Random) -> bool:
    place = _choose(rng, _untouched(record))
    if place is not None:
        del _rows(record)[place]
    return place is not None


def lose_a_row_outside_of_a_loss(record: Record, rng: random.Random) -> bool:
    record.circumstances.may_have_lost = [Window(LATER, LATER + 1)]
    return lose_a_row(record, rng)


def _alter_row(record: Record, rng: random.Random, **changes: Any) -> bool:
    place = _choose(rng, _untouched(record))
    if place is not None:
        _rows(record)[place] = _rows(record)[place]._replace(**changes)
    return place is not None


def store_other_content(record: Record, rng: random.Random) -> bool:
    return _alter_row(record, rng, content="something else")


def store_a_deletion(record: Record, rng: random.Random) -> bool:
    return _alter_row(record, rng, is_deleted=True)


def skip_the_last_edit(record: Record, rng: random.Random) -> bool:
    rows = _rows(record)
    places = [p for p, row in enumerate(rows) if row.is_edited and not row.is_deleted]
    place = _choose(rng, places)
    if place is not None:
        row = rows[place]
        rows[place] = row._replace(last_offset=row.event_offset, content="as it was")
    return place is not None


def drop_a_reaction(record: Record, rng: random.Random) -> bool:
    assert record.archive is not None
    deleted = {(row.room, row.seq) for row in _rows(record) if row.is_deleted}
    doubt = {(o.room, o.asked["seq"]) for o in record.operations
             if "reaction" in o.asked and o.outcome == "unknown"}  # fmt: skip
    row = _choose(
        rng, [r for r in record.archive.reactions if (r.room, r.seq) not in deleted | doubt]
    )
    if row:
        record.archive.reactions.remove(row)
    return bool(row)


def leave_a_dead_letter(record: Record, rng: random.Random) -> bool:
    assert record.archive is not None
    letter = DeadLetterRow("club", "e1", 1, 1, "message.edited", "unreadable")
    record.archive.dead_letters.append(letter)
    return True


def _bury(record: Record, rng: random.Random, *, unstorable: str) -> MessageRow | None:
    """Make a dead letter of a message without leaving anything in its place."""
    assert record.archive is not None
    record.circumstances.unstorable = unstorable
    place = _choose(rng, _untouched(record))
    if place is None:
        return None
    row = _rows(record).pop(place)
    data = {"id": row.id, "content": row.content}
    record.archive.dead_letters.append(
        DeadLetterRow(row.room, "e1", row.event_offset, row.seq, "message.created", "no", data)
    )
    return row


def bury_what_could_be_stored(record: Record, rng: random.Random) -> bool:
    row = _bury(record, rng, unstorable="what nobody says")
    if row is not None:
        _rows(record).append(
            row._replace(id="placeholder", sender=None, client_id=None, content=None,
                         is_deleted=True)
        )  # fmt: skip
    return row is not None


def bury_without_a_trace(record: Record, rng: random.Random) -> bool:
    return _bury(record, rng, unstorable="text") is not None


def stop_archiving(record: Record, rng: random.Random) -> bool:
    assert record.archive is not None
    row = record.archive.rooms[0]
    record.archive.rooms[0] = row._replace(archived_offset=row.archived_offset - 1)
    return row.archived_offset > 0


# --- members, presence, marks, reads --------------------------------------------------------------


def _private(record: Record) -> list[tuple[Connection, int, Event]]:
    added = {(o.room, o.asked["user"]) for o in record.operations if o.kind in ("add", "join")}
    members = record.circumstances.members
    return [
        (connection, place, event)
        for connection, place, event in _live(record)
        if event.room != "hall"
        and (event.room, connection.user) not in added
        and connection.user in members[event.room]
    ]


def show_outsiders(record: Record, rng: random.Random) -> bool:
    # Whoever came or went may have been a member from the beginning, for all that is known.
    moved = {
        (one.room, one.asked.get("user", one.user))
        for one in record.operations
        if one.kind in ("add", "join", "remove", "leave")
    }
    found = _choose(
        rng, [one for one in _private(record) if (one[2].room, one[0].user) not in moved]
    )
    if found:
        connection, _, event = found
        members = {room: dict(of) for room, of in record.circumstances.members.items()}
        del members[event.room][connection.user]
        record.circumstances.members = members
    return bool(found)


def show_the_removed(record: Record, rng: random.Random) -> bool:
    asked = {
        one.asked["content"]: one.begun for one in reversed(record.operations)
        if one.kind == "publish"
    }  # fmt: skip
    created = [one for one in _private(record) if one[2].event == "message.created"]
    found = _choose(rng, created)
    if found:
        connection, _, event = found
        before = asked[event.data["content"]] - 0.0001
        record.operations.append(
            Operation("remove", None, event.room, before, before, "ok",
                      asked={"user": connection.user})
        )  # fmt: skip
    return bool(found)


def _subscribed(record: Record) -> dict[str, set[str]]:
    """Room → users with a subscription that is live at the end."""
    live: dict[str, set[str]] = {room: set() for room in record.circumstances.members}
    for connection in record.connections:
        rooms = set()
        for frame in connection.frames:
            if isinstance(frame, Subscribed):
                rooms.add(frame.room)
            elif isinstance(frame, Unsubscribed):
                rooms.discard(frame.room)
        for room in rooms if connection.closed is None else ():
            live[room].add(connection.user)
    return live


def tell_a_ghost(record: Record, rng: random.Random) -> bool:
    users = frozenset(_subscribed(record)["club"] | {"zed"})
    record.presence.append(Presence("club", LATER, LATER + 1, users))
    return True


def hide_somebody(record: Record, rng: random.Random) -> bool:
    room, users = _choose(rng, list(_subscribed(record).items()))
    record.presence.append(Presence(room, LATER, LATER + 1, frozenset(sorted(users)[1:])))
    return bool(users)


def tell_of_a_quick_reconnect(record: Record, rng: random.Random) -> bool:
    connection = _choose(rng, [one for one in record.connections if one.frames])
    if connection:
        at = connection.frames[-1].at
        record.circumstances.absences = [Absence("zed", "hall", at - 0.1, at)]
        kind = rng.choice(("presence.left", "presence.joined"))
        connection.frames.append(Ephemeral(at, "hall", kind, {"user": "zed", "online": 1}))
    return bool(connection)


# --- memory ---------------------------------------------------------------------------------------


def keep_a_room_that_is_none(record: Record, rng: random.Random) -> bool:
    record.keys.append(KeyOfRedis(rng.choice(("log", "nodes", "reads")), "nowhere", 1, 60.0))
    return True


def never_trim(record: Record, rng: random.Random) -> bool:
    record.keys.append(KeyOfRedis("log", "club", 5000, 60.0))
    return True


def never_expire(record: Record, rng: random.Random) -> bool:
    record.keys.append(KeyOfRedis(rng.choice(("log", "sent", "inbox")), "club", 0, None))
    return True


def leave_in_the_archive_stream(record: Record, rng: random.Random) -> bool:
    record.keys.append(KeyOfRedis("archive", "", 1, None))
    return True


def keep_dead_nodes(record: Record, rng: random.Random) -> bool:
    record.keys += [KeyOfRedis("inbox", f"node{number}", 0, 3.0) for number in range(4)]
    return True


def remember_too_many(record: Record, rng: random.Random) -> bool:
    record.keys.append(KeyOfRedis("sent", "17:9", 100_000, 600.0))
    return True


def miscount_unread(record: Record, rng: random.Random) -> bool:
    doubt = {(o.room, o.asked["seq"]) for o in record.operations
             if o.kind == "delete" and o.outcome == "unknown"}  # fmt: skip
    found = _choose(
        rng,
        [one for one in _replies(record)
         if one[2].unread is not None and not any(room == one[2].room for room, _ in doubt)],
    )  # fmt: skip
    if found:
        connection, place, reply = found
        connection.frames[place] = reply._replace(unread=reply.unread + 1)
    return bool(found)


def forget_a_mark(record: Record, rng: random.Random) -> bool:
    pairs = []
    reads = [p for p in _of(record, "read") if record.operations[p].answer["seq"]]
    for number, first in enumerate(reads):
        a = record.operations[first]
        for second in reads[number + 1 :]:
            b = record.operations[second]
            if (a.user, a.room) == (b.user, b.room) and a.ended < b.begun:  # type: ignore[operator]
                pairs.append((a, second))
    found = _choose(rng, pairs)
    if found:
        before, place = found
        operation = record.operations[place]
        answer = {**operation.answer, "seq": before.answer["seq"] - 1}
        record.operations[place] = operation._replace(answer=answer)
    return bool(found)


def store_an_older_mark(record: Record, rng: random.Random) -> bool:
    assert record.archive is not None
    marks = {(o.user, o.room): o.answer["seq"] for p in _of(record, "read")
             if (o := record.operations[p]).answer["seq"]}  # fmt: skip
    rows = record.archive.members
    place = _choose(rng, [p for p, row in enumerate(rows) if (row.user, row.room) in marks])
    if place is not None:
        rows[place] = rows[place]._replace(read_seq=0)
    return place is not None


def hear_an_older_mark(record: Record, rng: random.Random) -> bool:
    found = _choose(
        rng,
        [(connection, frame) for connection in record.connections for frame in connection.frames
         if isinstance(frame, Ephemeral)],
    )  # fmt: skip
    if found:
        connection, frame = found
        connection.frames.append(frame._replace(data={**frame.data, "seq": 0}))
    return bool(found)


def _pages(record: Record, kind: str) -> list[tuple[int, int, Any]]:
    """History operations with a message that was touched so before they began."""
    done = {}
    for place in _of(record, kind):
        one = record.operations[place]
        seq = one.answer["seq"] if kind == "publish" else one.asked["seq"]
        if one.answer.get("offset"):
            done[one.room, seq] = one.ended
    return [
        (place, index, message)
        for place in _of(record, "history")
        for index, message in enumerate(record.operations[place].answer["messages"])
        if (ended := done.get((record.operations[place].room, message["seq"]))) is not None
        and ended <= record.operations[place].begun
    ]


def _replace_message(record: Record, found: Any, **changes: Any) -> bool:
    if found:
        place, index, message = found
        messages = list(record.operations[place].answer["messages"])
        messages[index : index + 1] = [{**message, **changes}] if changes else []
        answer = {**record.operations[place].answer, "messages": messages}
        record.operations[place] = record.operations[place]._replace(answer=answer)
    return bool(found)


def leave_out_of_a_page(record: Record, rng: random.Random) -> bool:
    inner = [
        one for one in _pages(record, "publish")
        if 0 < one[1] < len(record.operations[one[0]].answer["messages"]) - 1
    ]  # fmt: skip
    return _replace_message(record, _choose(rng, inner))


def show_what_was_deleted(record: Record, rng: random.Random) -> bool:
    return _replace_message(
        record, _choose(rng, _pages(record, "delete")), deleted_at=None, content="still here"
    )


def show_what_was_edited(record: Record, rng: random.Random) -> bool:
    pages = [one for one in _pages(record, "edit") if one[2]["deleted_at"] is None]
    return _replace_message(record, _choose(rng, pages), content="as it was")


def subscribe_into_the_past(record: Record, rng: random.Random) -> bool:
    answered: dict[str, list[tuple[float, int]]] = {}
    for place in _of(record, "publish"):
        one = record.operations[place]
        assert one.ended is not None
        answered.setdefault(one.room, []).append((one.ended, one.answer["offset"]))
    found = []
    for place in _of(record, "subscribe"):
        one = record.operations[place]
        offsets = [o for ended, o in answered.get(one.room, []) if ended < one.begun]
        if offsets:
            found.append((place, max(offsets)))
    chosen = _choose(rng, found)
    if chosen:
        place, offset = chosen
        operation = record.operations[place]
        answer = {**operation.answer, "offset": offset - 1}
        record.operations[place] = operation._replace(answer=answer)
    return bool(chosen)


SPOILERS: Final[tuple[tuple[Spoiler, Kind], ...]] = (
    (deliver_twice, Kind.DOUBLED),
    (swap_events, Kind.REORDERED),
    (skip_event, Kind.SILENT_HOLE),
    (end_too_early, Kind.UNSEEN),
    (deliver_after_the_end, Kind.UNASKED),
    (recover_less, Kind.FALSE_RECOVERY),
    (recover_across_epochs, Kind.FALSE_RECOVERY),
    (tell_two_things, Kind.SHARED_PLACE),
    (give_a_seq_twice, Kind.SHARED_PLACE),
    (repeat_into_two, Kind.DUPLICATED),
    (answer_other_id, Kind.WRONG_ANSWER),
    (answer_other_offset, Kind.WRONG_ANSWER),
    (answer_other_seq, Kind.WRONG_ANSWER),
    (forget_who_asked, Kind.INVENTED),
    (forget_who_edited, Kind.INVENTED),
    (refuse_what_happened, Kind.REFUSED_YET_DONE),
    (answer_an_edit_for_nothing, Kind.WITHOUT_EFFECT),
    (answer_a_deletion_for_nothing, Kind.WITHOUT_EFFECT),
    (answer_a_reaction_for_nothing, Kind.WITHOUT_EFFECT),
    (lose_a_row, Kind.LOST),
    (lose_a_row_outside_of_a_loss, Kind.LOST),
    (store_other_content, Kind.WRONG_ARCHIVE),
    (store_a_deletion, Kind.WRONG_ARCHIVE),
    (skip_the_last_edit, Kind.WRONG_ARCHIVE),
    (drop_a_reaction, Kind.WRONG_ARCHIVE),
    (leave_a_dead_letter, Kind.WRONG_ARCHIVE),
    (bury_what_could_be_stored, Kind.WRONG_ARCHIVE),
    (bury_without_a_trace, Kind.WRONG_ARCHIVE),
    (stop_archiving, Kind.WRONG_ARCHIVE),
    (show_outsiders, Kind.SEEN_BY_OUTSIDER),
    (show_the_removed, Kind.SEEN_BY_OUTSIDER),
    (tell_a_ghost, Kind.WRONG_PRESENCE),
    (hide_somebody, Kind.WRONG_PRESENCE),
    (tell_of_a_quick_reconnect, Kind.FLAPPED),
    (keep_a_room_that_is_none, Kind.UNBOUNDED),
    (never_trim, Kind.UNBOUNDED),
    (never_expire, Kind.UNBOUNDED),
    (leave_in_the_archive_stream, Kind.UNBOUNDED),
    (keep_dead_nodes, Kind.UNBOUNDED),
    (remember_too_many, Kind.UNBOUNDED),
    (miscount_unread, Kind.WRONG_UNREAD),
    (forget_a_mark, Kind.MARK_WENT_BACK),
    (store_an_older_mark, Kind.MARK_WENT_BACK),
    (hear_an_older_mark, Kind.MARK_WENT_BACK),
    (leave_out_of_a_page, Kind.STALE_READ),
    (show_what_was_deleted, Kind.STALE_READ),
    (show_what_was_edited, Kind.STALE_READ),
    (subscribe_into_the_past, Kind.STALE_READ),
)
