"""Tokens of an identity provider on real processes: rotation, and the provider being away."""

from __future__ import annotations

import trio

from tests.integration.conftest import Start
from tests.support.client import ChatClient
from tests.support.http import request
from tests.support.issuer import open_issuer
from tests.support.waiting import wait_until


async def outcome(url: str, token: str) -> int | None:
    """The close code that a token ends with, None if it is taken."""
    async with ChatClient.connect(url, token, hello=False) as client:
        await wait_until(lambda: client.hello is not None or client.close_code is not None)
        return None if client.hello is not None else client.close_code


async def test_tokens_of_a_provider_are_taken_everywhere(start: Start) -> None:
    with open_issuer() as issuer:
        issuer.add_key("first")
        deployment = await start(brokers=1, JWT_JWKS_URL=issuer.url)
        assert deployment.api is not None
        url = deployment.brokers[0].url
        first = issuer.token("anna", "first")
        verified = await request("GET", f"{deployment.api.base_url}/v1/auth/verify", token=first)
        assert verified.json()["user"] == {"userId": "anna"}
        async with ChatClient.connect(url, first) as client, deployment.connect("ben"):
            # The provider is away: who has a known key comes and goes, others are to come back.
            issuer.status = 503
            second = issuer.make_key("second", "ES256")
            token = issuer.token("anna", "second")
            with trio.fail_after(60):
                while (code := await outcome(url, token)) != 4503:
                    assert code == 4401, "a moment after a good answer it is just unknown"
            await client.call("refresh", token=issuer.token("anna", "first"))
            assert await outcome(url, first) is None
            answer = await request("GET", f"{deployment.api.base_url}/v1/auth/verify", token=first)
            assert answer.status == 200
            # It is back with another key: taken without a restart.
            issuer.entries.append(second)
            issuer.status = 200
            with trio.fail_after(60):
                while (code := await outcome(url, token)) is not None:
                    assert code == 4503
