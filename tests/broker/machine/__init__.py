"""A whole node without servers: the product's hub, node, connections, outboxes on a plain model.

`servers.py` is what Redis and PostgreSQL would do, `stores.py` how the node reaches them (every
call can be held, answered later, or cut off), `stepped.py` the node itself, in a trio loop that
runs only while a step is made, and `judge.py` what a client may see. The machine that takes random
steps is `tests/broker/test_node_machine.py`.
"""
