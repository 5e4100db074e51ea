"""FastAPI with asyncpg: pages of history from Parley's own tables, for uvicorn on uvloop.

The database is named by the variable DATABASE_URL.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import orjson
from fastapi import FastAPI, Request, Response

CONNECTIONS = 10
PAGE = """
    SELECT m.id, m.sender, m.kind, m.content, m.metadata, m.attachments, m.mentions, m.reply_to,
           m.reply_count, m.forwarded_from, m.client_id, m.seq, m.created_at, m.edited_at,
           m.deleted_at, m.deleted_by
    FROM messages m
    WHERE m.room_pk = (SELECT pk FROM rooms WHERE project = 'default' AND id = $1) AND m.seq < $2
    ORDER BY m.seq DESC LIMIT $3
"""


def plain(value: object) -> object:
    """asyncpg's UUID is a subclass of the library's, which orjson does not take as it is."""
    return str(value)


async def set_up(connection: asyncpg.Connection) -> None:
    """JSON columns go into the page as they are."""
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=str, decoder=orjson.Fragment
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The pool of connections."""
    url = os.environ["DATABASE_URL"]
    async with asyncpg.create_pool(
        url, min_size=CONNECTIONS, max_size=CONNECTIONS, init=set_up
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.get("/v1/rooms/{room}/messages")
async def page(request: Request, room: str, before: int, limit: int) -> Response:
    """Messages below `before`, ascending."""
    rows = await request.app.state.pool.fetch(PAGE, room, before, limit)
    messages = [{**row, "room": room, "reactions": {}} for row in reversed(rows)]
    body = {"messages": messages, "has_more": len(rows) == limit}
    return Response(orjson.dumps(body, default=plain), media_type="application/json")
