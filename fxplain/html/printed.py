"""The page of a result that has no picture of its own: what `print` shows, to send or to keep."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jinja2

from fxplain.html.assets_of import asset, digest, package_version
from fxplain.reports import to_page

__all__ = ["printed_page"]

CHARACTERS = 96
"""As many in a line as fit a page of paper."""


def printed_page(result: Any) -> str:
    """A result's text as one self-contained HTML page, which runs no script."""
    style = asset("page.css") + asset("printed.css")
    return _template().render(
        title=" ".join(re.findall("[A-Z][a-z]*", type(result).__name__)).capitalize(),
        text=to_page(result, CHARACTERS),
        style=style,
        style_hash=digest(style),
        version=package_version(),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(asset("printed.html.j2"))
