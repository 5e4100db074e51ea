"""The command line: one command a process type, each with its composition root elsewhere."""
