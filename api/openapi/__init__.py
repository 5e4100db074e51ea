"""The OpenAPI document: what is said about each operation, and the document made of it.

`operations` is what a handler says about itself, `fields` what is said about a field wherever it
stands, `problems` the refusals, `document` puts them together. Nothing here serves a request.
"""
