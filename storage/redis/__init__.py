"""Redis: the transport, the keys, the scripts and one typed function for each script.

The client libraries `redis` and `hiredis` are known here and nowhere else; an entry (a record of
a stream) never leaves this package without having been parsed.
"""
