"""0002 messages: indexes for filtered pages and replies."""

from __future__ import annotations

from typing import Final

from alembic import op

from storage.postgres.migrate import read_statements

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Add what filtered pages need."""
    connection = op.get_bind()
    for statement in read_statements("0002_messages.sql"):
        connection.exec_driver_sql(statement)
