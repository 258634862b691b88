"""The command line: ``fxplain demo``, ``inspect``, ``explain``, ``corpus``, ``evaluate``, lists."""

from fxplain.cli import corpus, evaluation  # noqa: F401 - their commands register themselves
from fxplain.cli.commands import app, main

__all__ = ["app", "main"]
