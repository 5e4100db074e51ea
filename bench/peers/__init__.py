"""The servers that Parley is measured against; README.md beside this says how each is set up."""

from typing import Final

from bench.peers.centrifugo import Centrifugo
from bench.peers.history import Express, FastApi
from bench.peers.nats import Nats
from bench.peers.nchan import Nchan
from bench.peers.plain import PlainWs
from bench.peers.server import ServerPeer
from bench.peers.socketio import PythonSocketIo, SocketIo

PEERS: Final[tuple[ServerPeer, ...]] = (
    Nchan("nchan", None),
    Nchan("nchan-redis", "distributed"),
    Nchan("nchan-redis-nostore", "nostore"),
    SocketIo(),
    PythonSocketIo(),
    PlainWs(),
    Nats(),
    Centrifugo("centrifugo", needs_redis=False),
    Centrifugo("centrifugo-redis", needs_redis=True),
    Express(),
    FastApi(),
)
