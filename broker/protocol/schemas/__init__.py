"""The contract as documents: every frame as JSON Schema, and the AsyncAPI page made of them.

Client frames come from the structs that decode them, codes from their tables; what the server
sends is described here, and the clients of the test suite hold every frame they receive against
it. Nothing of this runs while a broker serves.

    python -m broker.protocol.schemas > docs/asyncapi.yaml
"""
