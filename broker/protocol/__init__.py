"""The contract with clients as pure code: frames, events, codes and what is legal when.

Nothing here awaits, does I/O, reads a clock or imports anything else of Parley. Everything can
be fuzzed with plain values. What a frame *does* is decided in `broker.domain` and the broker.
"""
