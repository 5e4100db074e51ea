"""Tokens of an identity provider on real processes: rotation, and the provider being away."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from config import limits
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


async def test_a_provider_that_hangs_keeps_nobody_out_whose_key_is_known(start: Start) -> None:
    """Strangers' keys are asked for; they must not take the turns of those who are let in."""
    with open_issuer() as issuer:
        issuer.add_key("first")
        issuer.make_key("strange", "ES256")
        deployment = await start(brokers=1, JWT_JWKS_URL=issuer.url)
        url = deployment.brokers[0].url
        known, strange = issuer.token("anna", "first"), issuer.token("eve", "strange")
        assert await outcome(url, known) is None
        issuer.let_answer.clear()
        asked = issuer.requests
        async with AsyncExitStack() as stack:
            strangers: list[ChatClient] = []

            async def come() -> None:
                client = ChatClient.connect(url, strange, hello=False)
                strangers.append(await stack.enter_async_context(client))

            while issuer.requests == asked:
                await come()
            for _ in range(2 * limits.ADMISSIONS_AT_ONCE):
                await come()
            waiting = [client for client in strangers if client.close_code is None]
            assert len(waiting) > limits.ADMISSIONS_AT_ONCE
            assert await outcome(url, known) is None
            assert all(client.close_code is None for client in waiting), "let in before them"
