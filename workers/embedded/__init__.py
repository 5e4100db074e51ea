"""Private Redis and PostgreSQL servers for development, from wheels.

Only `parley up` and the tests use them; production brings its own servers.
"""
