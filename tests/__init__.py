"""The test suite. It mirrors the packages; `integration` and `faults` run whole systems."""
