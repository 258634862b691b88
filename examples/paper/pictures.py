"""Pictures of a dry run, in the form in which the hub has them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

from examples.paper.running import Record


def invented_pictures(seed: int, classes: int, size: int = 40) -> Iterator[Record]:
    """Pictures of noise, each with a class; without end."""
    generator, noise = random.Random(seed), np.random.default_rng(seed)
    while True:
        pixels = noise.integers(0, 256, (size, size, 3), dtype=np.uint8)
        yield {"image": Image.fromarray(pixels), "label": generator.randrange(classes)}
