"""The storm: random clients over a whole system while random faults hit it, judged by the checker.

`python -m tests.faults.storm` (`make faults`) runs it; docs/reliability.md says how.
"""
