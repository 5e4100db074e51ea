"""Names of everything Parley keeps in Redis, and which partition a room belongs to.

``R`` is ``<project>/<room>``, and ``<project>//<user>`` for a user's own channel. No id may hold a
``/``, so two rooms, projects or users can never meet in one key. Every key of a room carries the
hash tag of its partition, so that all of them lie in one Redis Cluster slot and one script may
touch them together. Nothing here talks to Redis.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass

PREFIX = "parley:"
CLUSTER_SLOTS = 16384
NODE_PREFIX = PREFIX
"""Keys of nodes (inbox, leases) carry no tag: on one Redis a node needs only one inbox."""

DEPLOYMENT_KEY = PREFIX + "deployment"
LEASES_KEY = NODE_PREFIX + "leases"
INBOX_PREFIX = NODE_PREFIX + "inbox:"


def room_key(project: str, room: str) -> str:
    """R of a room."""
    return f"{project}/{room}"


def user_channel(project: str, user: str) -> str:
    """R of a user's own channel; clients cannot name it, since no id holds a ``/``."""
    return f"{project}//{user}"


def split_room_key(key: str) -> tuple[str, str]:
    """Project and room of an R (the room of a user's own channel begins with ``/``)."""
    project, _, room = key.partition("/")
    return project, room


def is_user_channel(key: str) -> bool:
    """Whether R is a user's own channel and no room."""
    return "//" in key


def inbox_key(node: str) -> str:
    """The stream of events for one node; its expiry is the node's lease."""
    return INBOX_PREFIX + node


def joining_node(name: str) -> str:
    """The name of a node that takes several events in one entry of its inbox.

    The scripts go by the name, so that they find nodes of releases that do not beside it.
    """
    return name + "+"


def rooms_of_key(node: str) -> str:
    """The set of ``<tag> <R>`` that a reaper of the node has to clean."""
    return f"{NODE_PREFIX}rooms-of:{node}"


def where_key(prefix: str, project: str, user: str) -> str:
    """The hash of the rooms of one partition that the user is online in."""
    return f"{prefix}where:{user_channel(project, user)}"


def stamp_key(project: str) -> str:
    """The stamp of what the project's pages show beside the events of their rooms.

    It carries no tag: one for all rooms of the project, read with a command of its own.
    """
    return f"{PREFIX}stamp:{project}"


def partition_tags(partitions: int) -> list[str]:
    """The hash tag of each partition: the smallest number whose slot lies in the partition's share.

    Plain numbers lie badly (``0`` to ``15`` over 8 shards give 4, 0, 4, 0, …); so chosen, any
    number of shards up to ``partitions`` gets as even a share as whole partitions allow.
    """
    wanted = dict.fromkeys(range(partitions), "")
    missing = partitions
    candidate = 0
    while missing:
        tag = str(candidate)
        share = crc_hqx(tag.encode(), 0) % CLUSTER_SLOTS * partitions // CLUSTER_SLOTS
        if not wanted[share]:
            wanted[share] = tag
            missing -= 1
        candidate += 1
    return list(wanted.values())


@dataclass(frozen=True, slots=True)
class RoomKeys:
    """All keys of one room, ready for the scripts."""

    partition: int
    tag: str
    life: str
    room: str
    log: str
    archive: str
    nodes: str
    presence: str
    reads: str
    told: str
    floors: str
    prefix: str
    key: str
    """R."""

    def where(self, user: str) -> str:
        """The hash of this partition's rooms that the user is online in."""
        return where_key(self.prefix, split_room_key(self.key)[0], user)

    def typing(self, user: str) -> str:
        """What the nodes know of the user's typing in the room."""
        return f"{self.prefix}typing:{self.key}/{user}"


class Keys:
    """Key names for one number of partitions (fixed for the life of a deployment)."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.tags = partition_tags(partitions)
        self.prefixes = [f"{PREFIX}{{{tag}}}:" for tag in self.tags]

    def partition(self, key: str) -> int:
        """Partition of R: CRC-16/XMODEM, the checksum of Redis Cluster itself."""
        return crc_hqx(key.encode(), 0) % self.partitions

    def tag(self, key: str) -> str:
        """The hash tag of R's partition, for who asks for thousands and needs no key of theirs."""
        return self.tags[self.partition(key)]

    def life(self, partition: int) -> str:
        """The partition's life: id, replication id, time, size of the archive backlog."""
        return self.prefixes[partition] + "life"

    def archive(self, partition: int) -> str:
        """The stream of the partition's events that are not in PostgreSQL yet."""
        return self.prefixes[partition] + "archive"

    def floors(self, partition: int) -> str:
        """How far nodes had delivered rooms when a life ended."""
        return self.prefixes[partition] + "floors"

    def where(self, partition: int, project: str, user: str) -> str:
        """The hash of the partition's rooms that the user is online in."""
        return where_key(self.prefixes[partition], project, user)

    def room(self, key: str) -> RoomKeys:
        """All keys of the room ``key`` (R)."""
        partition = self.partition(key)
        prefix = self.prefixes[partition]
        return RoomKeys(
            partition=partition,
            tag=self.tags[partition],
            life=prefix + "life",
            room=f"{prefix}room:{key}",
            log=f"{prefix}log:{key}",
            archive=prefix + "archive",
            nodes=f"{prefix}nodes:{key}",
            presence=f"{prefix}presence:{key}",
            reads=f"{prefix}reads:{key}",
            told=f"{prefix}told:{key}",
            floors=prefix + "floors",
            prefix=prefix,
            key=key,
        )
