"""The load generator and its floor: what the broker is measured with and against.

It stands alone: it imports nothing of the product and speaks to it as any other client does.
"""
