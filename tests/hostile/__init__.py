"""Promise 4: a slow or hostile client costs nobody else anything. See docs/hostile-clients.md."""
