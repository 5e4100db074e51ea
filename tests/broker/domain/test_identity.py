"""Identity: what is believed, what is refused, and that nothing else can come out."""

from __future__ import annotations

import base64
import hmac
import json
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.domain.identity import (
    Identity,
    TokenExpired,
    TokenInvalid,
    TokenVerifier,
    mint_token,
)
from config.settings import ConfigError, Settings, load_settings

SECRET = "s3cret-of-the-tests-with-enough-bytes-in-it"
OLD_SECRET = "an-older-secret-of-the-tests-with-enough-bytes"
NOW = 1_800_000_000.0


def settings_with(**overrides: Any) -> Settings:
    return load_settings(None, **{"jwt_secret": SECRET, **overrides})


def verifier(**overrides: Any) -> TokenVerifier:
    return TokenVerifier.from_settings(settings_with(**overrides))


def public_pem(key: Any) -> str:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem: bytes = key.public_key().public_bytes(*form)
    return pem.decode()


def token_of(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode({"sub": "anna", "exp": NOW + 60, **claims}, key, algorithm=algorithm)


def raw_token(header: object, payload: object, secret: bytes | None = SECRET.encode()) -> str:
    """A token built by hand: whatever header and payload, signed with HMAC or not at all."""
    parts = [header, payload]
    texts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    signed = b".".join(base64.urlsafe_b64encode(text).rstrip(b"=") for text in texts)
    signature = b"" if secret is None else hmac.digest(secret, signed, sha256)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def reason_of(token: str, **overrides: Any) -> str:
    with pytest.raises(TokenInvalid) as caught:
        verifier(**overrides).verify(token, now=NOW)
    assert len(caught.value.reason.encode()) <= 123
    return caught.value.reason


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def test_a_minted_token_says_who_one_is() -> None:
    settings = settings_with()
    token, expires_at = mint_token(
        settings, user="anna", project="shop", ttl=60, rooms={"r": ["publish", "join"]}, name="Anna"
    )
    identity = TokenVerifier.from_settings(settings).verify(token)
    assert identity.user == "anna"
    assert identity.project == "shop"
    assert identity.name == "Anna"
    assert identity.rooms == {"r": frozenset({"join", "publish"})}
    assert identity.expires_at == expires_at.timestamp()
    assert abs(identity.expires_at - time.time() - 60) < 5
    assert expires_at.tzinfo is UTC


def test_minted_tokens_keep_the_fraction_of_iat_and_have_a_jti() -> None:
    first, _ = mint_token(settings_with(), user="anna", now=NOW + 0.25)
    second, _ = mint_token(settings_with(), user="anna", now=NOW + 0.25)
    assert first != second
    assert verifier().verify(first, now=NOW).issued_at == NOW + 0.25
    assert jwt.decode(first, options={"verify_signature": False})["jti"]


def test_minting_obeys_issuer_audience_and_the_user_claim() -> None:
    overrides = {"jwt_issuer": "me", "jwt_audience": "you", "jwt_user_claim": "uid"}
    token, _ = mint_token(settings_with(**overrides), user="anna")
    assert verifier(**overrides).verify(token).user == "anna"
    with pytest.raises(TokenInvalid, match="sub"):
        verifier().verify(token)


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "a/b"},
        {"user": ""},
        {"user": "anna", "project": "a b"},
        {"user": "anna", "ttl": 0},
        {"user": "anna", "ttl": -1},
        {"user": "anna", "ttl": 1e12},
        {"user": "anna", "ttl": float("nan")},
        {"user": "anna", "rooms": {"r": ["rule"]}},
        {"user": "anna", "rooms": {"user:x": ["join"]}},
        {"user": "anna", "name": "a\x00b"},
    ],
)
def test_minting_refuses_what_no_verifier_would_accept(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence will do
        mint_token(settings_with(), **wrong)


def test_minting_needs_the_secret() -> None:
    with pytest.raises(ConfigError, match="JWT_SECRET"):
        mint_token(load_settings(None, jwt_public_key=public_pem(RSA_KEY)), user="anna")


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")],
    ids=["RS256", "ES256", "EdDSA"],
)
def test_public_keys_verify_their_own_algorithm(key: Any, algorithm: str, tmp_path: Path) -> None:
    token = token_of({}, key, algorithm)
    pem = public_pem(key)
    path = tmp_path / "key.pem"
    path.write_text(pem)
    for given_key in (pem, pem.replace("\n", "\\n"), str(path)):
        found = verifier(jwt_secret=None, jwt_public_key=given_key).verify(token, now=NOW)
        assert found.user == "anna"
    other = ec.generate_private_key(ec.SECP256R1())
    assert "alg" in reason_of(token) or "signature" in reason_of(token)
    if algorithm == "ES256":
        assert "signature" in reason_of(token, jwt_public_key=public_pem(other))
    else:
        assert "alg" in reason_of(token, jwt_public_key=public_pem(other))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_only_the_pinned_algorithm_of_a_key_is_accepted(algorithm: str) -> None:
    token = token_of({}, RSA_KEY, algorithm)
    assert "alg" in reason_of(token, jwt_public_key=public_pem(RSA_KEY))


def test_hs256_signed_with_the_text_of_the_public_key_is_refused() -> None:
    pem = public_pem(RSA_KEY)
    confused = raw_token({"alg": "HS256"}, {"sub": "anna", "exp": NOW + 60}, pem.encode())
    assert "alg" in reason_of(confused, jwt_secret=None, jwt_public_key=pem)
    assert "signature" in reason_of(confused, jwt_public_key=pem)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 5, ["HS256"], {}])
@pytest.mark.parametrize("secret", [None, SECRET.encode()])
def test_alg_none_and_nonsense_are_refused(name: object, secret: bytes | None) -> None:
    reason_of(raw_token({"alg": name}, {"sub": "anna", "exp": NOW + 60}, secret))


@pytest.mark.parametrize("name", ["HS384", "HS512"])
def test_other_hmacs_are_refused(name: str) -> None:
    assert "alg" in reason_of(token_of({}, SECRET * 2, name), jwt_secret=SECRET * 2)


def test_the_previous_secret_still_verifies_and_does_not_sign() -> None:
    old = token_of({}, OLD_SECRET)
    assert "signature" in reason_of(old)
    both = settings_with(jwt_secret_previous=OLD_SECRET)
    assert TokenVerifier.from_settings(both).verify(old, now=NOW).user == "anna"
    token, _ = mint_token(both, user="anna", now=NOW)
    assert verifier().verify(token, now=NOW).user == "anna"
    assert "signature" in reason_of(token_of({}, "x" * 40), jwt_secret_previous=OLD_SECRET)


def test_unknown_critical_extensions_are_refused() -> None:
    header = {"alg": "HS256", "crit": ["exp"], "exp": 1}
    assert reason_of(raw_token(header, {"sub": "anna", "exp": NOW + 60}))


@pytest.mark.parametrize(
    ("age", "is_valid"), [(-60.0, True), (0.0, True), (4.999, True), (5.0, False), (60.0, False)]
)
def test_exp_has_a_leeway_of_five_seconds(age: float, is_valid: bool) -> None:
    token = token_of({"exp": NOW})
    if is_valid:
        assert verifier().verify(token, now=NOW + age).expires_at == NOW
    else:
        with pytest.raises(TokenExpired):
            verifier().verify(token, now=NOW + age)


def test_expired_means_that_everything_else_was_right() -> None:
    assert "aud" in reason_of(token_of({"exp": NOW - 60}), jwt_audience="chat")
    assert "signature" in reason_of(token_of({"exp": NOW - 60}, "x" * 40))
    assert "room id" in reason_of(token_of({"exp": NOW - 60, "rooms": {"a/b": []}}))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_times_in_the_future_are_refused_beyond_the_leeway(claim: str) -> None:
    assert verifier().verify(token_of({claim: NOW + 4.5}), now=NOW)
    assert claim in reason_of(token_of({claim: NOW + 5.5}))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iss": "me"}, True),
        ({"iss": "you"}, False),
        ({"iss": ["me"]}, False),
        ({}, False),
    ],
)
def test_the_issuer_must_be_the_configured_one(claims: dict[str, Any], expected: bool) -> None:
    token = raw_token({"alg": "HS256"}, {"sub": "anna", "exp": NOW + 60, **claims})
    if expected:
        assert verifier(jwt_issuer="me").verify(token, now=NOW)
    else:
        assert "iss" in reason_of(token, jwt_issuer="me")
    assert verifier().verify(token, now=NOW)


@pytest.mark.parametrize(
    ("audience", "expected"),
    [("chat", True), (["x", "chat"], True), (["x"], False), ("chatter", False), (None, False),
     ([["chat"]], False), ({"chat": 1}, False)],
)  # fmt: skip
def test_the_audience_must_hold_the_configured_one(audience: object, expected: bool) -> None:
    token = raw_token({"alg": "HS256"}, {"sub": "anna", "exp": NOW + 60, "aud": audience})
    if expected:
        assert verifier(jwt_audience="chat").verify(token, now=NOW)
    else:
        assert "aud" in reason_of(token, jwt_audience="chat")


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 5}, "sub"),
        ({"sub": "a/b"}, "sub"),
        ({"sub": "x" * 129}, "sub"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": -1}, "exp"),
        ({"exp": 1e300}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"iat": "now"}, "iat"),
        ({"nbf": []}, "nbf"),
        ({"project": None}, "project"),
        ({"project": "a/b"}, "project"),
        ({"project": 5}, "project"),
        ({"name": 5}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"name": "\ud800"}, "JSON"),
        ({"rooms": []}, "rooms"),
        ({"rooms": {"a/b": []}}, "rooms"),
        ({"rooms": {"user:a": ["join"]}}, "rooms"),
        ({"rooms": {"ä" * 200: ["join"]}}, "rooms"),
        ({"rooms": {"a": "join"}}, "rooms"),
        ({"rooms": {"a": ["own"]}}, "rooms"),
        ({"rooms": {"a": [["join"]]}}, "rooms"),
        ({"rooms": {"a": None}}, "rooms"),
        ({"rooms": {f"r{n}": [] for n in range(1001)}}, "rooms"),
    ],
)
def test_wrong_claims_are_named(claims: dict[str, Any], word: str) -> None:
    payload = {"sub": "anna", "exp": NOW + 60, **claims}
    assert word in reason_of(raw_token({"alg": "HS256"}, payload))


def test_defaults_of_optional_claims() -> None:
    found = verifier().verify(token_of({}), now=NOW)
    assert found == Identity("anna", "default", None, NOW + 60, None, {})


def test_long_names_are_cut_at_a_character() -> None:
    found = verifier().verify(token_of({"name": "ä" * 200}), now=NOW)
    assert found.name == "ä" * 128


@pytest.mark.parametrize(
    "payload", [b"[]", b"5", b"null", b"", b"{", b'{"sub":NaN}', b"[" * 9000, b"\xff"]
)
def test_payloads_that_are_no_objects(payload: bytes) -> None:
    assert "claims" in reason_of(raw_token({"alg": "HS256"}, payload))


def test_endless_tokens_are_not_looked_at() -> None:
    assert "long" in reason_of("a." * 10_000)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("nonsense", "can not be read"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not a public key"),
        (public_pem(ec.generate_private_key(ec.SECP384R1())), "type"),
        (public_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "type"),
    ],
)
def test_unusable_public_keys_are_refused_at_start(key: str, word: str) -> None:
    with pytest.raises(ConfigError, match="JWT_PUBLIC_KEY") as caught:
        verifier(jwt_public_key=key)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def verify_anything(token: str) -> None:
    """Any text is an Identity or one of the two errors; everything else fails the test."""
    keys = {"jwt_public_key": public_pem(RSA_KEY), "jwt_audience": None}
    try:
        found = verifier(**keys).verify(token, now=NOW)
    except (TokenInvalid, TokenExpired):
        return
    assert isinstance(found, Identity)
    assert datetime.fromtimestamp(found.expires_at, UTC)


@settings(deadline=None)
@given(st.text())
@example("")
@example("..")
@example("é.é.é")
@example("\ud800")
@example("W1tb.e30.")
@example("e30.e30.e30")
def test_any_text_is_an_identity_or_one_of_two_errors(text: str) -> None:
    verify_anything(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
CLAIMS = ["sub", "exp", "iat", "nbf", "iss", "aud", "project", "name", "rooms"]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["alg", "typ", "crit", "b64", "kid", "jwk", "zip"]), JSON),
    st.dictionaries(st.sampled_from(CLAIMS), JSON),
    st.booleans(),
)
def test_any_signed_claims_are_an_identity_or_one_of_two_errors(
    header: dict[str, Any], claims: dict[str, Any], is_plausible: bool
) -> None:
    if is_plausible:
        header["alg"] = "HS256"
        claims = {"sub": "anna", "exp": NOW + 60, **claims}
    verify_anything(raw_token(header, claims))


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 255))
def test_one_changed_byte_makes_a_token_invalid(place: int, change: int) -> None:
    token = token_of({"iat": NOW})
    place %= len(token)
    altered = token[:place] + chr(ord(token[place]) ^ change) + token[place + 1 :]
    last_bits_are_padding = place == len(token) - 1
    try:
        found = verifier().verify(altered, now=NOW)
    except TokenInvalid:
        return
    assert last_bits_are_padding
    assert found.user == "anna"


HEADERS = (
    {"alg": "HS256", "typ": "JWT"},
    {"alg": "HS256", "kid": "1"},
    {"alg": "HS256", "b64": True},
    {"alg": "HS512"},
    {"alg": "none"},
    {"alg": "HS256", "crit": ["b64"], "b64": False},
)


def judge(judging: TokenVerifier, token: str) -> object:
    try:
        return judging.verify(token, now=NOW)
    except (TokenInvalid, TokenExpired) as error:
        return type(error), error.reason


def warm_verifier() -> TokenVerifier:
    """One that has met every header that can be accepted, with each of its secrets."""
    made = verifier(jwt_secret_previous=OLD_SECRET)
    for header in HEADERS:
        for secret in (SECRET, OLD_SECRET):
            judge(made, raw_token(header, {"sub": "anna", "exp": NOW + 60}, secret.encode()))
    return made


WARM = warm_verifier()


@settings(deadline=None)
@given(
    st.sampled_from(HEADERS),
    st.sampled_from([SECRET, OLD_SECRET, "another-secret-that-nobody-has-configured"]),
    st.dictionaries(st.sampled_from(["sub", "exp", "iat", "project"]), st.integers() | st.text()),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from([*"=.-_+/ A\n", ""])), max_size=3),
)
def test_who_knows_the_header_judges_as_one_who_does_not(
    header: dict[str, Any],
    secret: str,
    claims: dict[str, Any],
    changes: list[tuple[int, str]],
) -> None:
    """The short way says what the long way says, whatever is inserted or left out."""
    token = raw_token(header, {"sub": "anna", "exp": NOW + 60, **claims}, secret.encode())
    for place, text in changes:
        at = place % (len(token) + 1)
        token = token[:at] + text + token[at + (not text) :]
    cold = verifier(jwt_secret_previous=OLD_SECRET)
    assert judge(WARM, token) == judge(cold, token)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
@pytest.mark.parametrize("padding", ["=", "=="])
def test_a_payload_that_is_not_canonical_is_judged_the_same_way(secret: str, padding: str) -> None:
    head = base64.urlsafe_b64encode(json.dumps(HEADERS[0]).encode()).rstrip(b"=").decode()
    for claims in ({"sub": "anna", "exp": NOW + 60}, {"sub": "annabel", "exp": NOW + 600.5}):
        whole = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        for payload in (whole + padding, whole[:-1], whole[:-1] + "_", whole + ".", "." + whole):
            signed = f"{head}.{payload}"
            digest = hmac.digest(secret.encode(), signed.encode(), sha256)
            signature = base64.urlsafe_b64encode(digest).decode()
            for given_one in (signature, signature.rstrip("=")):
                token = f"{signed}.{given_one}"
                cold = verifier(jwt_secret_previous=OLD_SECRET)
                assert judge(WARM, token) == judge(cold, token)


def test_only_accepted_headers_are_known_and_not_any_number_of_them() -> None:
    made = verifier()
    for number in range(200):
        header = {"alg": "HS256", "kid": str(number)}
        bad = raw_token({**header, "kid": f"bad {number}"}, {}, b"another secret")
        assert isinstance(judge(made, bad), tuple)
        for _ in range(2):
            good = raw_token(header, {"sub": "anna", "exp": NOW + 60})
            assert isinstance(judge(made, good), Identity)
    known = made._short_way._secrets
    assert 0 < len(known) < 100
    assert all(secrets == (SECRET.encode(),) for secrets in known.values())
    assert not any("bad" in base64.urlsafe_b64decode(head + "==").decode() for head in known)
