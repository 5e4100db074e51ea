"""0007 lists: activity by member, counts of members, rooms and messages, favourites."""

from __future__ import annotations

from typing import Final

from alembic import op

from storage.postgres.migrate import read_statements

revision: Final = "0007"
down_revision: Final = "0008"


def upgrade() -> None:
    """Add what lists need to be quick, and fill it from what is there."""
    connection = op.get_bind()
    for statement in read_statements("0007_lists.sql"):
        connection.exec_driver_sql(statement)
