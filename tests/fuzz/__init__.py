"""Hostile input, generated from the documents: short in the suite, for hours by hand.

python -m tests.fuzz.frames --minutes 30
"""
