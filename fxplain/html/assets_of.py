"""Assets: the package's templates, styles and scripts, and what a page says of itself."""

from __future__ import annotations

import base64
import hashlib
from importlib import import_module
from importlib.resources import files

__all__ = ["asset", "digest", "package_version"]


def asset(name: str) -> str:
    """A file's text."""
    return (files("fxplain.html") / "assets" / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What a page's own security policy calls a script or style that may be used."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def package_version() -> str:
    """The version that a page is made by."""
    version: str = import_module("fxplain").__version__  # by name: it stands above this package
    return version
