"""The REST API: one module a resource, over the domain that the broker shares.

Nothing here imports the broker beyond `broker.domain` and `broker.protocol`.
"""
