"""Keys of an identity provider: what is believed, when it is asked, and what it can not do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from broker.domain.identity import TokenInvalid, TokenVerifier
from broker.domain.key_set import KeySet, KeysUnavailable, fetch_keys, parse_key_set
from config.errors import ConfigError
from config.limits import JWKS_BYTES_MAX, JWKS_KEYS_MAX, JWKS_RETRY_AFTER
from config.settings import load_settings
from tests.support.issuer import Issuer, open_issuer
from tests.support.waiting import wait_until


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with open_issuer() as opened:
        yield opened


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def verifier_of(issuer: Issuer, clock: Clock | None = None, **more: Any) -> TokenVerifier:
    return TokenVerifier(keys={}, published=KeySet(issuer.url, clock=clock or Clock()), **more)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_published_key_verifies_and_is_fetched_once(issuer: Issuer, algorithm: str) -> None:
    issuer.add_key("one", algorithm)
    issuer.add_key("two", algorithm)
    verifier = verifier_of(issuer)
    for kid in ("one", "two", "one"):
        token = issuer.token("anna", kid, project="shop")
        identity = await verifier.authenticate(token)
        assert (identity.user, identity.project) == ("anna", "shop")
        assert verifier.verify(token) == identity, "known keys need no awaiting"
    assert issuer.requests == 1


async def test_a_key_without_a_name_is_tried(issuer: Issuer) -> None:
    issuer.add_key("other", "ES256")
    issuer.add_key(None, "ES256")
    verifier = verifier_of(issuer)
    assert (await verifier.authenticate(issuer.token("anna", None))).user == "anna"


async def test_rotation_a_new_key_is_found_and_an_old_one_is_gone(issuer: Issuer) -> None:
    issuer.add_key("old")
    clock = Clock()
    verifier = verifier_of(issuer, clock)
    old = issuer.token("anna", "old")
    await verifier.authenticate(old)
    issuer.entries.clear()
    issuer.add_key("new")
    new = issuer.token("anna", "new")
    with pytest.raises(TokenInvalid):
        await verifier.authenticate(new)
    assert issuer.requests == 1, "asked a moment ago"
    clock.now += JWKS_RETRY_AFTER
    assert (await verifier.authenticate(new)).user == "anna"
    assert issuer.requests == 2
    clock.now += JWKS_RETRY_AFTER
    with pytest.raises(TokenInvalid):
        await verifier.authenticate(old)


async def test_invented_key_ids_do_not_make_us_ask_again_and_again(issuer: Issuer) -> None:
    issuer.add_key("good")
    verifier = verifier_of(issuer)
    for number in range(20):
        issuer.make_key(f"invented{number}", "EdDSA")
        with pytest.raises(TokenInvalid):
            await verifier.authenticate(issuer.token("anna", f"invented{number}"))
    assert issuer.requests == 1


async def test_callers_at_once_share_a_fetch(issuer: Issuer) -> None:
    issuer.add_key("good")
    verifier = verifier_of(issuer)
    token = issuer.token("anna", "good")
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(verifier.authenticate, token)
    assert issuer.requests == 1


async def test_a_slow_provider_holds_nobody_else_up(issuer: Issuer) -> None:
    issuer.add_key("good")
    issuer.let_answer.clear()
    verifier = verifier_of(issuer)
    found: list[str] = []

    async def authenticate() -> None:
        found.append((await verifier.authenticate(issuer.token("anna", "good"))).user)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(authenticate)
        # The loop goes on while the provider holds its answer back.
        await wait_until(lambda: issuer.requests == 1)
        assert found == []
        issuer.let_answer.set()
    assert found == ["anna"]


async def test_a_cancelled_caller_leaves_the_keys_usable(issuer: Issuer) -> None:
    issuer.add_key("good")
    issuer.let_answer.clear()
    clock = Clock()
    verifier = verifier_of(issuer, clock)
    token = issuer.token("anna", "good")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verifier.authenticate, token)
        await wait_until(lambda: issuer.requests == 1)
        nursery.cancel_scope.cancel()
    issuer.let_answer.set()
    clock.now += JWKS_RETRY_AFTER
    assert (await verifier.authenticate(token)).user == "anna"


async def test_keys_are_kept_while_the_address_is_away(issuer: Issuer) -> None:
    issuer.add_key("good")
    clock = Clock()
    verifier = verifier_of(issuer, clock)
    token = issuer.token("anna", "good")
    await verifier.authenticate(token)
    issuer.status = 500
    issuer.make_key("new")
    clock.now += JWKS_RETRY_AFTER
    for _ in range(3):
        with pytest.raises(KeysUnavailable, match="status 500"):
            await verifier.authenticate(issuer.token("anna", "new"))
        assert (await verifier.authenticate(token)).user == "anna"
    assert issuer.requests == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [1, {}, {"kty": "x"}]}',
     b" " * (JWKS_BYTES_MAX + 1), json.dumps({"keys": [{}] * (JWKS_KEYS_MAX + 1)}).encode(),
     b"[" * 100_000],
)  # fmt: skip
async def test_nonsense_is_no_key_set(issuer: Issuer, body: bytes) -> None:
    issuer.body = body
    with pytest.raises(KeysUnavailable):
        await fetch_keys(issuer.url)


@given(data=st.binary() | st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["keys", "kty", "n", "e", "crv", "x", "y", "kid", "use"]) | st.text(),
        inner,
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_answer_gives_keys_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(KeysUnavailable):
        assert isinstance(parse_key_set(data), tuple)


async def test_no_redirect_is_followed(issuer: Issuer) -> None:
    """Whoever may answer for the address must not choose another one for us."""
    with open_issuer() as inside:
        inside.add_key("good")
        issuer.status = 302
        issuer.headers["Location"] = inside.url
        with pytest.raises(KeysUnavailable, match="status 302"):
            await fetch_keys(issuer.url)
        assert inside.requests == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "data:,{}", "http:///jwks"])
def test_other_addresses_are_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="JWT_JWKS_URL"):
        TokenVerifier.from_settings(load_settings(None, jwt_jwks_url=url))


async def test_an_address_where_nobody_is(free_port: int) -> None:
    with pytest.raises(KeysUnavailable, match="can not be reached"):
        await fetch_keys(f"http://127.0.0.1:{free_port}/jwks")


async def test_a_key_verifies_only_the_algorithm_of_its_type(issuer: Issuer) -> None:
    """Ruling 11: the alg must fit the key, whatever token and set say."""
    published = issuer.add_key("rsa", "RS256")
    issuer.add_key("ec", "ES256")
    verifier = verifier_of(issuer)
    await verifier.authenticate(issuer.token("anna", "rsa"))
    claims = {"sub": "mallory", "exp": 4_000_000_000}
    for secret in (published["n"], "x" * 40):
        for kid in ("rsa", "ec"):
            forged = jwt.encode(claims, secret, "HS256", headers={"kid": kid})
            with pytest.raises(TokenInvalid, match="alg"):
                await verifier.authenticate(forged)
    for algorithm in ("RS384", "RS512", "PS256"):
        token = jwt.encode(claims, issuer.private_key("rsa"), algorithm, headers={"kid": "rsa"})
        with pytest.raises(TokenInvalid, match="alg"):
            await verifier.authenticate(token)
    swapped = jwt.encode(claims, issuer.private_key("ec"), "ES256", headers={"kid": "rsa"})
    with pytest.raises(TokenInvalid):
        await verifier.authenticate(swapped)


def weak_rsa() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    entry: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    entry.pop("key_ops", None)
    return entry | {"kid": "k"}


def test_unfit_entries_are_left_out() -> None:
    issuer = Issuer()
    good = issuer.make_key("k", "ES256")
    unfit = [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "k", "alg": "HS256"},
        issuer.make_key("k", use="enc"),
        issuer.make_key("k", key_ops=["encrypt"]),
        issuer.make_key("k", alg="RS512"),
        json.loads(RSAAlgorithm.to_jwk(issuer.private_key("k"))),
        weak_rsa(),
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA"},
    ]
    keys = parse_key_set(json.dumps({"keys": [*unfit, good]}).encode())
    assert [(key.kid, key.algorithm) for key in keys] == [("k", "ES256")]
    assert parse_key_set(json.dumps({"keys": unfit}).encode()) == ()


async def test_a_secret_and_a_provider_side_by_side(issuer: Issuer) -> None:
    issuer.add_key("good")
    secret = "s" * 40
    settings = load_settings(None, jwt_secret=secret, jwt_jwks_url=issuer.url, jwt_user_claim="uid")
    verifier = TokenVerifier.from_settings(settings)
    claims = {"uid": "anna", "exp": 4_000_000_000}
    assert (await verifier.authenticate(jwt.encode(claims, secret))).user == "anna"
    assert issuer.requests == 0
    published = issuer.token("wrong", "good", uid="ben")
    assert (await verifier.authenticate(published)).user == "ben"
    with pytest.raises(TokenInvalid, match="no uid"):
        await verifier.authenticate(issuer.token("wrong", "good"))


async def test_the_keys_are_fetched_at_the_start(issuer: Issuer) -> None:
    issuer.add_key("good")
    verifier = verifier_of(issuer)
    assert verifier.published is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verifier.published.run)
        await wait_until(
            lambda: verifier.published is not None and verifier.published.knows("good")
        )
        assert verifier.verify(issuer.token("anna", "good")).user == "anna"
        nursery.cancel_scope.cancel()
    assert issuer.requests == 1
