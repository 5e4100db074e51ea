"""Kept inputs of the targets, and mutations of them.

`corpus/<target>.txt` has an input a line, written as Python writes bytes: small, readable in a
diff, and every one there for a reason (a path through the code, or a fault that was mended).
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS: Final = Path(__file__).parent / "corpus"
_EDITS_MAX: Final = 6


@cache
def kept_inputs(target: str) -> tuple[bytes, ...]:
    """The inputs that the tree keeps of a target."""
    lines = (CORPUS / f"{target}.txt").read_text(encoding="ascii").splitlines()
    inputs = tuple(ast.literal_eval(line) for line in lines if line and not line.startswith("#"))
    assert all(isinstance(data, bytes) for data in inputs), target
    return inputs


@st.composite
def mutated(draw: st.DrawFn, target: str) -> bytes:
    """A kept input with a few edits: bytes changed, cut out, repeated, or tokens put in."""
    data = bytearray(draw(st.sampled_from(kept_inputs(target))))
    tokens = st.sampled_from(TARGETS[target].tokens) if TARGETS[target].tokens else st.nothing()
    for _ in range(draw(st.integers(0, _EDITS_MAX))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 16)))
        kind = draw(st.sampled_from(["replace", "cut", "repeat", "splice"]))
        if kind == "replace":
            data[at:end] = draw(st.binary(max_size=4) | tokens)
        elif kind == "cut":
            del data[at:end]
        elif kind == "repeat":
            data[at:at] = data[at:end] * draw(st.integers(1, 40))
        else:
            other = draw(st.sampled_from(kept_inputs(target)))
            data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data[:20_000])
