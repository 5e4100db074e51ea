"""Hostile input, generated from the documents: short in the suite, for hours by hand.

python -m tests.fuzz.frames --minutes 30
python -m tests.fuzz.rest --minutes 10 --seed 1
"""
