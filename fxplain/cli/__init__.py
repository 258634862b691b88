"""The command line: ``fxplain demo``, ``inspect``, ``explain``, ``generate``, ``evaluate``, lists."""

from fxplain.cli import evaluation  # noqa: F401 - its commands register themselves
from fxplain.cli.commands import app, main

__all__ = ["app", "main"]
