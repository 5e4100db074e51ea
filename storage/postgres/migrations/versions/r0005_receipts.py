"""0005 receipts: when a delivered mark moved."""

from __future__ import annotations

from typing import Final

from alembic import op

from storage.postgres.migrate import read_statements

revision: Final = "0005"
down_revision: Final = "0007"


def upgrade() -> None:
    """Add the time of delivered marks."""
    connection = op.get_bind()
    for statement in read_statements("0005_receipts.sql"):
        connection.exec_driver_sql(statement)
