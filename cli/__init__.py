"""The command line: wiring, one file per command."""

from .app import app, main

__all__ = ["app", "main"]
