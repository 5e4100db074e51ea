"""0001 kernel: projects, keys, users, rooms, members, messages and the archiver's own tables."""

from __future__ import annotations

from typing import Final

from alembic import op

from storage.postgres.migrate import read_statements

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Create the first schema."""
    connection = op.get_bind()
    for statement in read_statements("0001_kernel.sql"):
        connection.exec_driver_sql(statement)
