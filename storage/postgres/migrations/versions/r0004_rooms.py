"""0004 rooms: bans, blocks, departures, what users' channels are told, deletion of users."""

from __future__ import annotations

from typing import Final

from alembic import op

from storage.postgres.migrate import read_statements

revision: Final = "0004"
down_revision: Final = "0002"


def upgrade() -> None:
    """Add what changing rooms and users needs."""
    connection = op.get_bind()
    for statement in read_statements("0004_rooms.sql"):
        connection.exec_driver_sql(statement)
