"""Settings, limits, logging and metrics: what every process starts from.

Nothing here knows Redis, PostgreSQL or a socket of the product (the metrics page is the one
exception), and nothing is read or built at import.
"""
