"""python-socketio with its Redis manager, WebSocket only, for uvicorn on uvloop.

A publish is an `emit` to the room, the answer is the acknowledgement of the publisher's event,
given when the emit has returned. Its Redis is named by the variable REDIS_URL.
"""

import os
import uuid
from datetime import UTC, datetime
from urllib.parse import parse_qs

import socketio

server = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]),
    transports=["websocket"],
    http_compression=False,
    logger=False,
    engineio_logger=False,
)
app = socketio.ASGIApp(server)
users: dict[str, str] = {}


@server.event
async def connect(sid, environ):
    users[sid] = parse_qs(environ["QUERY_STRING"])["user"][0]


@server.event
async def disconnect(sid, reason):
    del users[sid]


@server.event
async def subscribe(sid, room):
    await server.enter_room(sid, room)
    return room


@server.event
async def publish(sid, room, content, client_id):
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {
        "type": "event",
        "event": "message.created",
        "room": room,
        "time": now,
        "data": {
            "id": str(uuid.uuid4()),
            "room": room,
            "sender": users[sid],
            "kind": "text",
            "content": content,
            "metadata": {},
            "attachments": [],
            "mentions": [],
            "reply_to": None,
            "reply_count": 0,
            "forwarded_from": None,
            "client_id": client_id,
            "created_at": now,
            "edited_at": None,
            "deleted_at": None,
            "deleted_by": None,
            "reactions": {},
        },
    }
    await server.emit("message.created", event, room=room)
