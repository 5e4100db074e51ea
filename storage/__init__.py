"""The only place that knows Redis and PostgreSQL.

Everything above calls typed functions and sees two kinds of errors, both in `storage.errors`.
"""
