"""What is published through a server that passes on what its clients write.

Parley, `ws` and Socket.IO are sent the content and make the event; Nchan, NATS and Centrifugo are
sent the whole event. It has all that Parley's has but the order numbers, so that every server sends
frames of one size (tests/bench/test_peers.py holds it).
"""

from typing import Final

from bench.dialect import content_of

_UUID: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
_TIME: Final = "2026-01-02T03:04:05.678Z"


def event_of(number: int, room: str, sender: str, run: str) -> bytes:
    """The event of publish `number` of `sender`, as JSON."""
    return (
        f'{{"type":"event","event":"message.created","room":"{room}","time":"{_TIME}",'
        f'"data":{{"id":"{_UUID}","room":"{room}","sender":"{sender}","kind":"text",'
        f'"content":"{content_of(sender, number)}","metadata":{{}},"attachments":[],'
        f'"mentions":[],"reply_to":null,"reply_count":0,"forwarded_from":null,'
        f'"client_id":"{run}-{sender}-{number}","created_at":"{_TIME}","edited_at":null,'
        f'"deleted_at":null,"deleted_by":null,"reactions":{{}}}}}}'
    ).encode()
