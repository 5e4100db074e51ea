"""Servers that people would use instead of Parley, measured by the same generator.

`bench.target` says what a peer must provide. Each stands in `PEERS`.
"""

from typing import Final

from bench.target import Peer

PEERS: Final[tuple[Peer, ...]] = ()
