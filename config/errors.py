"""The one error of configuration: which variable, what is wrong, what is allowed, in one line."""

from __future__ import annotations


class ConfigError(Exception):
    """A variable is wrong or missing: `ConfigError("PORT", "'x' is no number; allowed: ...")`.

    The parts are joined with colons into one line that begins with the variable's name and never
    holds the value of a secret. Commands print it to stderr and exit with status 2.
    """

    def __init__(self, *parts: str) -> None:
        super().__init__(" ".join(": ".join(parts).split()))

    @property
    def variable(self) -> str:
        """The name of the variable."""
        return str(self).partition(":")[0]
