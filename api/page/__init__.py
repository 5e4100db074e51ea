"""The chat page and the browser client: static files, and the few routes that serve them.

The page is plain JavaScript modules without a build step. It is a client like any other: it knows
the REST API and the WebSocket, and the API knows nothing of it but the files and where the broker
is. `parley.js` is the reusable part; everything else is the page's own.
"""
