"""One broker process: connections, the hub of its rooms, its inbox in Redis, its drain.

`protocol` and `domain` below are shared with the API and the workers; the rest belongs to this
process alone.
"""
