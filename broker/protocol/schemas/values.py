"""Types of fields that the server sends: times, ids, counters, with what the documents say of them.

Nothing is decoded into these; see the package.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from broker.protocol.refusal import INTEGER_MAX

Time = Annotated[
    str,
    msgspec.Meta(
        description="UTC, always with milliseconds.",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
    ),
]
MessageId = Annotated[
    str,
    msgspec.Meta(
        description="A UUID of version 7.",
        pattern="^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    ),
]
Offset = Annotated[
    int,
    msgspec.Meta(description="Place among the room's durable events.", ge=1, le=INTEGER_MAX),
]
NewestOffset = Annotated[
    int, msgspec.Meta(description="The room's newest offset; 0: none yet.", ge=0, le=INTEGER_MAX)
]
Seq = Annotated[
    int, msgspec.Meta(description="Number of a message in its room.", ge=1, le=INTEGER_MAX)
]
NewestSeq = Annotated[
    int, msgspec.Meta(description="Number of a message, or 0: none.", ge=0, le=INTEGER_MAX)
]
Number = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
Unread = Annotated[
    int, msgspec.Meta(description="Unread messages; counted up to 1000.", ge=0, le=1000)
]
Epoch = Annotated[
    str, msgspec.Meta(description="One life of the offsets; opaque.", min_length=1, max_length=64)
]
Role = Literal["reader", "member", "admin", "owner"]
By = Annotated[str | None, msgspec.Meta(description="Who acted; null for the project.")]
