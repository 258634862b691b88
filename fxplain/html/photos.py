"""Photos: what people gave to be looked at, with where the model's tokens lie on it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxplain.explanation import Explanation
from fxplain.explanation.on_photos import OnPhoto, part, which
from fxplain.explanation.originals import Box
from fxplain.extras import extra
from fxplain.html.numbers import png_url
from fxplain.views import photo_beneath

__all__ = ["photo_url", "photo_views", "photos_beneath"]

LONGEST_SIDE = 1280
JPEG_SMALLER = 6
"""How many times smaller a photo is as JPEG than what its pixels take as PNG, at the least."""


def photo_views(
    explanation: Explanation, name: str, most_pixels: int
) -> tuple[list[list[tuple[str, OnPhoto]]], list[dict[str, Any]]] | None:
    """The photos under a modality: by sample what each is called, and the page's data of them.

    Parameters
    ----------
    explanation, name
        Whose tokens they are under.
    most_pixels
        How many pixels the pictures of one sample may have as PNG.

    Returns
    -------
    tuple or None
        None where it is not known of every sample that was given pictures how its tokens lie on them.
    """
    batch = range(explanation.batch_size)
    samples = [explanation.on_photos(name, i) for i in batch]
    if not any(samples) or any(explanation.pictures(name, i) and not samples[i] for i in batch):
        return None
    named = [[(_name(on, own), on) for on in own] for own in samples]
    return named, [_of_sample(explanation, own, most_pixels) for own in samples]


def _name(on: OnPhoto, beside: Sequence[OnPhoto]) -> str:
    return ", ".join(filter(None, (which(on, beside), part(on, beside))))


def _of_sample(explanation: Explanation, own: Sequence[OnPhoto], most: int) -> dict[str, Any]:
    photos = explanation.originals.photos
    used = sorted({on.photo for on in own})
    placed = []
    for on in own:
        height, width = photos[on.photo].shape[:2]
        left, top, right, bottom = on.frame
        placed.append(
            {
                "photo": used.index(on.photo),
                "size": [round(width * (right - left), 1), round(height * (bottom - top), 1)],
                "shown": _within((0.0, 0.0, 1.0, 1.0), on.frame),
                "heat": _within(on.box, on.frame),
                "cut": bool(on.cut),
                "said": "" if on.frame_number else on.said(),
                "wide": on.frame_number is None,
            }
        )
    urls = [photo_url(photos[i], JPEG_SMALLER * most // len(used)) for i in used]
    return {"urls": urls, "placed": placed}


def photos_beneath(explanation: Explanation, most_pixels: int) -> list[dict[str, Any]]:
    """By sample, the photo that boxes lie on; none where it is not known of every sample."""
    photos = [photo_beneath(explanation, i) for i in range(explanation.batch_size)]
    known = [photo for photo in photos if photo is not None]
    if len(known) != len(photos):
        return []
    return [
        {
            "urls": [photo_url(photo, JPEG_SMALLER * most_pixels)],
            "placed": [{"size": [photo.shape[1], photo.shape[0]]}],
        }
        for photo in known
    ]


def _within(box: Box, frame: Box) -> list[float]:
    """A box as fractions of a frame."""
    left, top, right, bottom = frame
    size = (right - left, bottom - top) * 2
    start = (left, top) * 2
    return [round((x - s) / n, 5) for x, s, n in zip(box, start, size, strict=True)]


def photo_url(photo: NDArray[np.uint8], most_pixels: int) -> str:
    """A photo as a ``data:`` address: as JPEG where it is large or one of many, else as it is.

    Parameters
    ----------
    photo
        (height, width, 3) colours from 0 to 255.
    most_pixels
        Larger ones are scaled down.
    """
    height, width = photo.shape[:2]
    if height * width <= min(128 * 128, most_pixels // JPEG_SMALLER):
        return png_url(photo)
    extra("PIL", "photos in a report need pillow: pip install 'fxplain[image]'.")
    from PIL import Image

    scale = min(1.0, LONGEST_SIDE / max(height, width), math.sqrt(most_pixels / (height * width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(photo)
    file = io.BytesIO()
    (image.resize(size) if scale < 1 else image).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
