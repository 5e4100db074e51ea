"""The supervisor of `parley up`: starts, watches, restarts and stops child processes."""
