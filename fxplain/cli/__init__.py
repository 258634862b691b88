"""The command line: ``fxplain demo``, ``inspect``, ``explain`` and ``methods``."""

from fxplain.cli.commands import app, main

__all__ = ["app", "main"]
