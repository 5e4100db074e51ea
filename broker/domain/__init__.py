"""What may be done in a room and by whom, and who a token says you are.

The rules and services that the broker and the API share, so that REST and WebSocket can not
disagree. No sockets and no HTTP here.
"""
