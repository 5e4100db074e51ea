"""Shapes of answers and queries for the OpenAPI document, a module a resource.

Nothing is decoded into them. `openapi.json` is generated from these and from the bodies' own
structs. PostgreSQL builds most answers, so a test compares real answers with the fields named here.
"""
