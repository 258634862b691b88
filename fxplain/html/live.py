"""The live page: where people ask, strike out and silence; `fxplain serve` answers it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2

from fxplain.html.assets_of import asset, package_version

__all__ = ["live_page"]

FILES = {
    "image": {"title": "Image", "accept": "image/*"},
    "audio": {"title": "Recording", "accept": "audio/*"},
    "video": {"title": "Video", "accept": "video/*,image/gif,image/webp,image/png"},
}
"""Kinds of input that are files: what they are called, and what may be chosen."""


def live_page(facts: Mapping[str, Any]) -> str:
    """The page for one model.

    Parameters
    ----------
    facts
        ``model``, ``task``, ``wants``: the kinds of input that it needs, ``methods``, ``others``:
        models to compare with, ``writes``: whether it writes text, ``tokens``: how many at most,
        ``rate``: samples per second that it hears, ``seconds``: how long a recording may be,
        ``frames``: how many of a video it sees.
    """
    return _template().render(**facts, files=FILES, version=package_version())


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("live.html.j2"))
