"""`hf-cells VERB`: the whole road from raw files to a published model, one verb a step."""

from .app import app, main

__all__ = ["app", "main"]
