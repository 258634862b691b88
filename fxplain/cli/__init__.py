"""The command line: ``fxplain demo``, ``inspect``, ``explain``, ``look``, ``cut``, ``corpus``, ..."""

# their commands register themselves
from fxplain.cli import corpus, cutting, evaluation, generating, looking, serving  # noqa: F401
from fxplain.cli.commands import app, main

__all__ = ["app", "main"]
