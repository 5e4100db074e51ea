"""Everything that a deployment stores, as values that can be compared.

Left out is what changes by itself: leases, inboxes and presence of nodes, and when users were seen.
"""

from typing import Any

from tests.support.deployment import Deployment
from tests.support.servers import fetch

_TABLES = """
    SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY 1
"""
_KEPT = (b":room:", b":log:", b":archive", b":sent:", b":reads:", b":dead")


def rows_of(database_url: str) -> dict[str, list[str]]:
    """Every row of every table, as text, sorted."""
    tables = [row["name"] for row in fetch(database_url, _TABLES)]
    return {table: _rows(database_url, table) for table in tables}


def _rows(database_url: str, table: str) -> list[str]:
    query = f"SELECT (to_jsonb(t) - 'last_seen_at')::text AS row FROM {table} t ORDER BY 1"
    return [row["row"] for row in fetch(database_url, query)]


def keys_of(deployment: Deployment) -> dict[bytes, Any]:
    """The keys of rooms, logs, archives, idempotency and receipts, with what they hold."""
    kept: dict[bytes, Any] = {}
    cursor: Any = b"0"
    while True:
        cursor, found = deployment.redis.command("SCAN", cursor, "COUNT", 1000)
        for key in found:
            if any(part in key for part in _KEPT):
                kept[key] = deployment.redis.command("DUMP", key)
        if cursor == b"0":
            return kept
