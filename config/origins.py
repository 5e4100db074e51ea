"""Whether a web page's origin is one of ALLOWED_ORIGINS: the same for the broker and the API."""

from __future__ import annotations

from collections.abc import Iterable


def is_listed(origin: str, allowed_origins: Iterable[str]) -> bool:
    """`*` allows all, `https://*.example.org` every subdomain (not the domain itself)."""
    origin = origin.lower().rstrip("/")
    return any(_fits(origin, allowed) for allowed in allowed_origins)


def _fits(origin: str, allowed: str) -> bool:
    if allowed == "*":
        return True
    scheme, star, domain = allowed.partition("://*.")
    if not star:
        return origin == allowed
    return origin.startswith(f"{scheme}://") and origin.endswith(f".{domain}")
