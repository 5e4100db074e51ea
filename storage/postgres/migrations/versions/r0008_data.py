"""0008 data: search, export, erasure, retention."""

from __future__ import annotations

from typing import Final

from alembic import op

from storage.postgres.migrate import read_statements

revision: Final = "0008"
down_revision: Final = "0004"


def upgrade() -> None:
    """Add the indexes of search and of finding everything of a user."""
    connection = op.get_bind()
    for statement in read_statements("0008_data.sql"):
        connection.exec_driver_sql(statement)
