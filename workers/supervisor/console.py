"""What `parley up` shows: its own lines, and those of its children with a prefix.

Colour only on a terminal (and not when NO_COLOR is set). Nobody reading any more (a closed pipe,
a terminal that went away) is no reason to fail: from then on nothing is written.
"""

import os
from typing import TextIO

_NAME_WIDTH = 9
_COLOURS = {"broker": "36", "api": "32", "archiver": "35", "redis": "33", "postgres": "33"}
_BOLD = "1"
_RED = "31"


class Console:
    """Writes whole lines to one stream. Nothing here awaits."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_open = True
        self._has_colour = stream.isatty() and not os.environ.get("NO_COLOR")

    def say(self, text: str) -> None:
        """A line of `parley up` itself."""
        self._write(f"{self._prefix('parley', _BOLD)}{text}")

    def complain(self, text: str) -> None:
        """A line of `parley up` itself that must not be overlooked."""
        self._write(f"{self._prefix('parley', _RED)}{text}")

    def relay(self, name: str, line: str) -> None:
        """A line that the child `name` has written."""
        self._write(f"{self._prefix(name, _COLOURS.get(name, '37'))}{line}")

    def show(self, text: str) -> None:
        """Text without prefixes, for the banner."""
        self._write(text)

    def _prefix(self, name: str, colour: str) -> str:
        text = f"{name:<{_NAME_WIDTH}}| "
        return f"\x1b[{colour}m{text}\x1b[0m" if self._has_colour else text

    def _write(self, text: str) -> None:
        if not self._is_open:
            return
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._is_open = False
