"""Teeth: deliberate defects of the product, each of which something must find.

`python -m tests.faults.defects [NAME ...]` breaks a copy of the tree in one way at a time and runs
what must find it there. docs/reliability.md has the table of the last run.
"""
