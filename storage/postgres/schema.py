"""Which schema a database has, and whether this version can work with it.

The rule: a process needs every migration that it knows. With an older schema it does not start;
with a newer one it does, since each migration leaves what the version before it uses (expand first,
contract a version later: CONTRIBUTING.md). So `parley migrate` comes first, and old and new
processes may run side by side afterwards.

The revisions are read from the names and headers of the migration files: importing alembic would
take a second of every start.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config.errors import ConfigError

if TYPE_CHECKING:
    from storage.postgres.pool import Database

_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"
_REVISION: Final = re.compile(r'^revision: Final = "(\w+)"$', re.MULTILINE)
_PREVIOUS: Final = re.compile(r'^down_revision: Final = (?:"(\w+)"|None)$', re.MULTILINE)


async def schema_version(database: Database) -> str | None:
    """Return the revision that the database has, None before the first migration."""
    if await database.fetchval("SELECT to_regclass('alembic_version')::text") is None:
        return None
    version = await database.fetchval("SELECT version_num FROM alembic_version")
    return None if version is None else str(version)


def known_revisions() -> list[str]:
    """All migrations of this version, in the order in which they are applied."""
    following: dict[str, str] = {}
    for path in _VERSIONS.glob("r*.py"):
        text = path.read_text(encoding="utf-8")
        revision, previous = _REVISION.search(text), _PREVIOUS.search(text)
        if revision is None or previous is None:
            raise ValueError(f"{path.name} does not say its revision and the one before")
        following[previous.group(1) or ""] = revision.group(1)
    chain: list[str] = []
    while (at := chain[-1] if chain else "") in following:
        chain.append(following[at])
    return chain


async def require_schema(database: Database) -> str:
    """Return the database's revision. Raises ConfigError if a migration of this version lacks."""
    version = await schema_version(database)
    if version is None:
        raise ConfigError("DATABASE_URL", "the database has no schema yet; run: parley migrate")
    known = known_revisions()
    if version in known[:-1]:
        raise ConfigError(
            "DATABASE_URL",
            f"the database has schema {version}, this version needs {known[-1]}; "
            "run: parley migrate",
        )
    return version
