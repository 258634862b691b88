"""The command line: ``fxplain demo``, ``inspect``, ``explain``, ``cut``, ``corpus``, ..."""

from fxplain.cli import corpus, cutting, evaluation  # noqa: F401 - their commands register themselves
from fxplain.cli.commands import app, main

__all__ = ["app", "main"]
