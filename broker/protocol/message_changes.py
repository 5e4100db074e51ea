"""What may be asked to be changed of a message: its fields, and the reactions to it.

The same over the WebSocket (`edit`, `react`, `unreact`) and over REST. A field that is given
replaces, an absent one (or null) stays; an empty content, `{}` or `[]` takes away what was there.
Whether something is left of the message only the domain knows. Form is judged before size.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from broker.protocol.errors import ProtocolError
from broker.protocol.forms import text_form
from broker.protocol.message_draft import (
    Attachments,
    Content,
    Metadata,
    check_attachments,
    check_content,
    check_metadata_form,
    check_metadata_size,
    has_escaped_nul,
)
from broker.protocol.refusal import body_fault
from broker.protocol.text import fits_utf8, has_control, has_forbidden

REACTION_BYTES_MAX: Final = 64

Reaction = Annotated[
    str,
    text_form(
        "Stored as it is and compared byte by byte.",
        bytes_min=1,
        bytes_max=REACTION_BYTES_MAX,
        pattern=r"^[^/\u0000-\u001f\u007f-\u009f]+$",
    ),
]


class MessageEdit(msgspec.Struct, kw_only=True, gc=False):
    """The fields to replace; None: as it is."""

    content: Content | None = None
    metadata: Metadata | None = None
    attachments: Attachments | None = None


_DECODER: Final = msgspec.json.Decoder(MessageEdit)


def parse_message_edit(text: str | bytes) -> MessageEdit:
    """A checked edit out of a JSON body; raises ProtocolError and nothing else."""
    try:
        edit = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError) as fault:
        raise body_fault(text, fault) or ProtocolError("bad_request") from None
    if has_escaped_nul(text):
        error = body_fault(text, None)
        if error is not None:
            raise error
    check_edit(edit)
    return edit


def check_edit(edit: MessageEdit) -> None:
    """Raise ProtocolError unless the edit asks for something within the limits."""
    if edit.content is None and edit.metadata is None and edit.attachments is None:
        raise ProtocolError(
            "bad_request", "Give `content`, `metadata` or `attachments`.", "content"
        )
    if edit.metadata is not None:
        check_metadata_form(edit.metadata)
    if edit.attachments:
        check_attachments(edit.attachments)
    if edit.content is not None:
        check_content(edit.content)
    if edit.metadata is not None:
        check_metadata_size(edit.metadata)


def check_reaction(reaction: str) -> None:
    """Refuse what can be no reaction. It is stored as it is and compared byte by byte."""
    if (
        not reaction
        or "/" in reaction
        or has_control(reaction)
        or has_forbidden(reaction)
        or not fits_utf8(reaction, REACTION_BYTES_MAX)
    ):
        raise ProtocolError(
            "bad_request",
            f"A reaction has 1 to {REACTION_BYTES_MAX} bytes, no control character and no `/`.",
            "reaction",
        )
