"""What alembic runs for every command: hand it the connection that `migrate` has opened.

No database address is read here and no models are compared: the SQL is written by hand. Each
migration has a transaction of its own.
"""

from __future__ import annotations

from alembic import context


def run() -> None:
    """Run the migrations on the connection that came with the configuration."""
    context.configure(
        connection=context.config.attributes["connection"],
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
