"""The tables of codes: unique, complete, in order."""

from __future__ import annotations

from broker.protocol import errors
from broker.protocol.errors import CLOSES, ERRORS, ProtocolError, close_reason, precedence
from broker.protocol.text import utf8_length

ORDER_OF_THE_CONTRACT = {
    "unauthenticated": 401,
    "token_expired": 401,
    "unknown_type": 400,
    "bad_request": 400,
    "too_large": 413,
    "room_not_found": 404,
    "not_found": 404,
    "not_a_member": 403,
    "forbidden": 403,
    "message_not_found": 404,
    "conflict": 409,
    "limit_reached": 409,
    "rate_limited": 429,
    "overloaded": 503,
    "unavailable": 503,
    "internal": 500,
}


def test_error_codes_are_unique_and_in_the_order_of_the_contract():
    codes = [row.code for row in ERRORS]
    assert len(set(codes)) == len(codes)
    assert [(row.code, row.status) for row in ERRORS] == list(ORDER_OF_THE_CONTRACT.items())
    assert sorted(codes, key=precedence) == codes


def test_close_codes_are_unique_and_each_reason_fits_into_a_close_frame():
    codes = [row.code for row in CLOSES]
    names = [row.name for row in CLOSES]
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)
    assert all(utf8_length(row.reason) <= errors.CLOSE_REASON_BYTES_MAX for row in CLOSES)
    assert close_reason(errors.TOO_SLOW)
    assert close_reason(3999) == ""


def test_every_sentence_is_a_sentence():
    sentences = [row.sentence for row in ERRORS] + [row.reason for row in CLOSES]
    assert all(text[0].isupper() and text.endswith(".") for text in sentences)


def test_an_error_without_a_message_takes_the_sentence_of_its_code():
    error = ProtocolError("rate_limited", retry_after=1.5)
    assert error.message == "Too many requests; wait before the next."
    assert error.status == 429
    assert error.retry_after == 1.5
    assert error.field is None
