"""Prints the AsyncAPI page: `python -m broker.protocol.schemas > docs/asyncapi.yaml`."""

import sys

from broker.protocol.schemas.asyncapi import asyncapi_text

if __name__ == "__main__":
    sys.stdout.write(asyncapi_text())
