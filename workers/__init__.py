"""Processes beside the broker and the API: the archiver, the supervisor, embedded servers."""
