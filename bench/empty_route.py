"""The floor of the REST scenarios: an application of the API's framework with one empty route.

python -m bench.empty_route        prints its port, serves until its standard input is closed
"""

import socket
import sys

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio


def create_app() -> QuartTrio:
    """The application."""
    app = QuartTrio(__name__)

    @app.get("/")
    async def empty() -> bytes:
        return b"{}"

    return app


async def main() -> None:
    """Serve on any free port of the loopback."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.loglevel = "WARNING"
    config.keep_alive_timeout = 3600
    config.keep_alive_max_requests = 2**31  # 1000 are over within seconds
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()

    async def wait_for_the_end() -> None:
        await trio.lowlevel.wait_readable(sys.stdin)

    await serve(create_app(), config, shutdown_trigger=wait_for_the_end)


if __name__ == "__main__":
    trio.run(main)
