"""The page at `/docs`: the REST API for people, with a form to try each operation.

Plain JavaScript modules without a build step. The page holds no list of operations: it reads
`/openapi.json` in the browser and shows what it finds there, as text and never as HTML. A key or
token that somebody types stays in the memory of that tab: nothing stores it, and the curl commands
name a variable in its place. `dom.js` is the chat page's (api/page), served under this path too.
"""
