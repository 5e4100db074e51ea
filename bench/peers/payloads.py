"""What is published through a server that passes on what its clients write.

Parley, `ws` and Socket.IO are sent the content and make the event; Nchan and NATS are sent the
whole event, Centrifugo the message, around which it puts about as much as an event has around it.
There is all that Parley's has but the order numbers, so that every server sends frames of one size
(tests/bench/test_peers.py holds it for the event, `python -m bench.peers check` for all).
"""

from typing import Final

from bench.dialect import content_of

_UUID: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
_TIME: Final = "2026-01-02T03:04:05.678Z"


def event_of(number: int, room: str, sender: str, run: str) -> bytes:
    """The event of publish `number` of `sender`, as JSON."""
    message = message_of(number, room, sender, run)
    head = f'{{"type":"event","event":"message.created","room":"{room}","time":"{_TIME}","data":'
    return head.encode() + message + b"}"


def message_of(number: int, room: str, sender: str, run: str) -> bytes:
    """The message alone, for a server that puts it into an envelope of its own."""
    return (
        f'{{"id":"{_UUID}","room":"{room}","sender":"{sender}","kind":"text",'
        f'"content":"{content_of(sender, number)}","metadata":{{}},"attachments":[],'
        f'"mentions":[],"reply_to":null,"reply_count":0,"forwarded_from":null,'
        f'"client_id":"{run}-{sender}-{number}","created_at":"{_TIME}","edited_at":null,'
        f'"deleted_at":null,"deleted_by":null,"reactions":{{}}}}'
    ).encode()
