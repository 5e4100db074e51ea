"""What a sender writes: the fields of a message before it has an id, and their limits.

The same over the WebSocket (`publish`) and over REST. The kind `system` passes here: who may send
it depends on the credential, which the domain knows. Faults of form (`bad_request`) are found
before faults of size (`too_large`), as the table of errors orders them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from broker.protocol.errors import ProtocolError
from broker.protocol.forms import json_form, list_form, text_form
from broker.protocol.ids import UserId, is_user_id
from broker.protocol.refusal import INTEGER_MAX, body_fault, free_json_fault
from broker.protocol.text import fits_utf8, has_control

CONTENT_BYTES_MAX: Final = 32768
METADATA_BYTES_MAX: Final = 8192
ATTACHMENTS_MAX: Final = 16
ATTACHMENT_BYTES_MAX: Final = 4096
NAME_BYTES_MAX: Final = 256
MENTIONS_MAX: Final = 20
CLIENT_ID_BYTES_MAX: Final = 64

Integer = Annotated[int, msgspec.Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]

_KIND: Final = re.compile(r"[a-z0-9_.\-]{1,32}").fullmatch
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(\S+)").fullmatch
_REFUSED_SCHEMES: Final = frozenset({"javascript", "data", "vbscript"})
_WEB_SCHEMES: Final = frozenset({"http", "https", "ws", "wss", "ftp"})
_encode: Final = msgspec.json.Encoder().encode


Content = Annotated[str, text_form("Text.", bytes_max=CONTENT_BYTES_MAX)]
Kind = Annotated[
    str, text_form("What it is.", bytes_min=1, bytes_max=32, pattern=r"^[a-z0-9_.\-]+$")
]
Metadata = Annotated[
    dict[str, Any],
    json_form("The application's own data, nested at most 32 deep.", bytes_max=METADATA_BYTES_MAX),
]
ClientId = Annotated[
    str, text_form("The idempotency key.", bytes_min=1, bytes_max=CLIENT_ID_BYTES_MAX)
]
Url = Annotated[
    str,
    text_form(
        "Absolute; not `javascript:`, `data:` or `vbscript:`; no white space.",
        bytes_min=1,
        bytes_max=ATTACHMENT_BYTES_MAX,
        pattern=r"^[A-Za-z][A-Za-z0-9+.\-]*:\S+$",
    ),
]
Name = Annotated[str, text_form("A name.", bytes_max=NAME_BYTES_MAX)]


class Attachment(msgspec.Struct, kw_only=True, gc=False):
    """A file or link of a message; keys other than these are dropped."""

    url: Url
    mime: Name | None = None
    size: Count | None = None
    name: Name | None = None
    metadata: dict[str, Any] | None = None


Attachments = Annotated[
    list[Attachment],
    list_form(
        f"Files and links, each at most {ATTACHMENT_BYTES_MAX} bytes as JSON.",
        items_max=ATTACHMENTS_MAX,
    ),
]
Mentions = Annotated[list[UserId], list_form("Users it is about.", items_max=MENTIONS_MAX)]


class MessageDraft(msgspec.Struct, kw_only=True, gc=False):
    """The sender's part of a message. After `check_draft` an empty `content` is None."""

    content: Content | None = None
    attachments: Attachments | None = None
    kind: Kind = "text"
    metadata: Metadata | None = None
    mentions: Mentions | None = None
    reply_to: Integer | None = None
    client_id: ClientId | None = None


_DECODER: Final = msgspec.json.Decoder(MessageDraft)


def parse_message_draft(text: str | bytes) -> MessageDraft:
    """A checked draft out of a JSON body; raises ProtocolError and nothing else.

    Keys that do not belong to a draft are ignored: the caller reads its own ones.
    """
    try:
        draft = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError) as fault:
        raise body_fault(text, fault) or ProtocolError("bad_request") from None
    if has_escaped_nul(text):
        error = body_fault(text, None)
        if error is not None:
            raise error
    check_draft(draft)
    return draft


def has_escaped_nul(text: str | bytes) -> bool:
    """Cheap scan of JSON text: whether it may hold NUL.

    True is no proof (an escaped backslash before "u0000" is harmless): look at what it means.
    """
    return "\\u0000" in text if isinstance(text, str) else b"\\u0000" in text


def check_draft(draft: MessageDraft) -> None:
    """Raise ProtocolError unless the draft keeps every rule of form and every limit."""
    if draft.content == "":
        draft.content = None
    if not is_kind(draft.kind):
        raise ProtocolError("bad_request", "A kind is 1 to 32 of `a-z 0-9 _ . -`.", "kind")
    check_client_id(draft.client_id)
    if draft.mentions is not None:
        check_mentions(draft.mentions)
    if draft.metadata is not None:
        check_metadata_form(draft.metadata)
    if draft.attachments:
        check_attachments(draft.attachments)
    elif draft.content is None:
        raise ProtocolError("bad_request", "A message has content or attachments.", "content")
    if draft.content is not None:
        check_content(draft.content)
    if draft.metadata is not None:
        check_metadata_size(draft.metadata)


def check_client_id(client_id: str | None) -> None:
    """Refuse what can be no idempotency key; None is none."""
    if client_id is not None and not (client_id and fits_utf8(client_id, CLIENT_ID_BYTES_MAX)):
        raise ProtocolError("bad_request", "A client_id has 1 to 64 bytes.", "client_id")


def is_kind(text: str) -> bool:
    """Whether `text` may be a message's kind."""
    return text == "text" or _KIND(text) is not None


def check_content(content: str) -> None:
    """Refuse content over the limit."""
    if not fits_utf8(content, CONTENT_BYTES_MAX):
        raise ProtocolError(
            "too_large", f"Content has at most {CONTENT_BYTES_MAX} bytes of UTF-8.", "content"
        )


def check_mentions(mentions: Sequence[str]) -> None:
    """Refuse too many mentions and what can be no user's id."""
    if len(mentions) > MENTIONS_MAX:
        raise ProtocolError("bad_request", f"At most {MENTIONS_MAX} mentions.", "mentions")
    if not all(map(is_user_id, mentions)):
        raise ProtocolError("bad_request", "A mention is a user's id.", "mentions")


def check_metadata_form(metadata: dict[str, Any], field: str = "metadata") -> None:
    """Refuse free JSON that can not be stored."""
    sentence = free_json_fault(metadata)
    if sentence is not None:
        raise ProtocolError("bad_request", sentence, field)


def check_metadata_size(metadata: dict[str, Any]) -> None:
    """Refuse metadata over the limit, measured as compact JSON."""
    if len(_encode(metadata)) > METADATA_BYTES_MAX:
        raise ProtocolError(
            "too_large", f"Metadata has at most {METADATA_BYTES_MAX} bytes.", "metadata"
        )


def check_attachments(attachments: Sequence[Attachment]) -> None:
    """Refuse bad urls and fields first, then too many or too large attachments."""
    for attachment in attachments:
        if not is_attachment_url(attachment.url):
            raise ProtocolError(
                "bad_request", "An attachment's url is absolute and no script.", "attachments"
            )
        for text in (attachment.name, attachment.mime):
            if text is not None and not fits_utf8(text, NAME_BYTES_MAX):
                raise ProtocolError(
                    "bad_request", f"Names have at most {NAME_BYTES_MAX} bytes.", "attachments"
                )
        if attachment.metadata is not None:
            check_metadata_form(attachment.metadata, "attachments")
    if len(attachments) > ATTACHMENTS_MAX:
        raise ProtocolError("too_large", f"At most {ATTACHMENTS_MAX} attachments.", "attachments")
    if any(len(_encode(attachment)) > ATTACHMENT_BYTES_MAX for attachment in attachments):
        raise ProtocolError(
            "too_large", f"An attachment has at most {ATTACHMENT_BYTES_MAX} bytes.", "attachments"
        )


def is_attachment_url(url: str) -> bool:
    """Whether `url` is an absolute URI that no client would run as a script.

    White space and control characters are refused anywhere: browsers drop them, so that
    `java<newline>script:` would run.
    """
    parts = _URL(url)
    if parts is None or has_control(url):
        return False
    scheme = parts[1].lower()
    if scheme in _REFUSED_SCHEMES:
        return False
    if scheme in _WEB_SCHEMES:
        return parts[2].startswith("//") and parts[2][2:3] not in ("", "/", "?", "#")
    return True
