"""0009 archive: an index less for every message."""

from __future__ import annotations

from typing import Final

from alembic import op

from storage.postgres.migrate import read_statements

revision: Final = "0009"
down_revision: Final = "0005"


def upgrade() -> None:
    """Drop what the seed of a room no longer reads."""
    connection = op.get_bind()
    for statement in read_statements("0009_archive.sql"):
        connection.exec_driver_sql(statement)
