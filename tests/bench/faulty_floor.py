"""A floor with one fault, for the tests of the generator: `python -m tests.bench.faulty_floor F`.

Every tenth event (from the fifth on) suffers at the room's last receiver only, which is the
hardest to see: everybody else, the sender too, receives what is right.
"""

import sys

from bench import floor, wire

FAULTS = ("lost", "doubled", "reordered", "changed", "unanswered", "wrong-answer", "closed")


class FaultyFloor(floor.Floor):
    """Does one thing wrong."""

    fault = ""
    held = b""

    def deliver(self, room: floor.FloorRoom, frame: bytes) -> None:
        """Deliver, with the fault at the last receiver."""
        is_faulty = room.offset % 10 == 5
        *others, last = room.members
        for member in others:
            member.send(frame)
        if self.held:
            frame, self.held = frame + self.held, b""
        elif is_faulty and self.fault == "lost":
            return
        elif is_faulty and self.fault == "doubled":
            frame += frame
        elif is_faulty and self.fault == "reordered":
            self.held = frame
            return
        elif is_faulty and self.fault == "changed":
            frame = frame.replace(b"a line of chat", b"a lime of chat")
        elif is_faulty and self.fault == "closed":
            frame = wire.server_frame((4508).to_bytes(2, "big") + b"too slow", wire.CLOSE)
        last.send(frame)

    def publish(self, member: floor.FloorMember, room: floor.FloorRoom, payload: bytes) -> None:
        """Answer, with the fault at every tenth publish."""
        if room.offset % 10 == 5 and self.fault == "unanswered":
            room.offset += 1
            self.deliver(room, room.event % (room.offset, room.offset))
        elif room.offset % 10 == 5 and self.fault == "wrong-answer":
            super().publish(member, room, payload)
            room.offset -= 1
        else:
            super().publish(member, room, payload)


if __name__ == "__main__":
    FaultyFloor.fault = sys.argv[1]
    floor.main(FaultyFloor)
