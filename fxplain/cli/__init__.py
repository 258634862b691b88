"""The command line: ``fxplain demo``, ``inspect``, ``explain``, ``look``, ``cut``, ``corpus``, ..."""

# their commands register themselves, in the order in which the help lists them
from fxplain.cli import explaining  # noqa: F401, I001
from fxplain.cli import corpus, cutting, evaluation, generating, looking, serving  # noqa: F401
from fxplain.cli.commands import app, main

__all__ = ["app", "main"]
