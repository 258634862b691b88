"""The page of token activation maps: a picture for each written token, with where it is activated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jinja2
from torch import Tensor

from fxplain.explanation.merging import plain
from fxplain.explanation.shown import visible
from fxplain.generation import ActivationMaps
from fxplain.html.assets_of import asset, digest, package_version
from fxplain.html.numbers import png_url
from fxplain.html.pictures import image_of
from fxplain.written import rounded

__all__ = ["activation_maps_page"]

MOST_PIXELS = 256 * 256
"""Of the picture beneath the maps of one sample."""


def activation_maps_page(found: ActivationMaps) -> str:
    """Token activation maps as one self-contained HTML page, which runs no script."""
    style = asset("page.css") + asset("activation_maps.css")
    return _template().render(
        found=found,
        samples=[_of_sample(found, sample) for sample in range(len(found.maps))],
        style=style,
        style_hash=digest(style),
        version=package_version(),
    )


def _of_sample(found: ActivationMaps, sample: int) -> dict[str, Any]:
    maps = found.maps[sample]
    rows, columns = found.grid or (1, maps.shape[1])
    picture = found.pictures[sample] if found.grid and found.pictures else None
    height, width = picture.shape[1:] if picture is not None else (16 * rows, 16 * columns)
    return {
        "picture": None if picture is None else png_url(image_of(picture.float(), MOST_PIXELS)),
        "width": width,
        "height": height,
        "maps": [
            {
                "token": visible(plain(label) or " "),
                "largest": rounded(float(row.max()) if len(row) else 0.0, ".3g"),
                "cells": list(_cells(row.reshape(rows, columns), height / rows, width / columns)),
            }
            for label, row in zip(found.labels[sample], maps, strict=True)
        ],
    }


def _cells(grid: Tensor, height: float, width: float) -> Iterator[dict[str, float]]:
    """The places that are activated, as rectangles: the most activated one is opaque."""
    largest = float(grid.max()) if grid.numel() else 0.0
    for row, values in enumerate(grid.tolist()):
        for column, value in enumerate(values):
            if value > 0:
                yield {
                    "x": round(column * width, 2),
                    "y": round(row * height, 2),
                    "width": round(width, 2),
                    "height": round(height, 2),
                    "share": round(value / largest, 3),
                }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("activation_maps.html.j2"))
