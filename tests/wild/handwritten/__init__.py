"""Models written by hand in the styles of many hands, in plain torch."""

from tests.wild.handwritten import (
    decoders,
    denoisers,
    multimodal,
    pooling,
    readers,
    sequences,
    structures,
    text,
    two_texts,
    vision,
    weights,
)

__all__ = ["CASES"]

CASES = [
    *decoders.CASES,
    *text.CASES,
    *two_texts.CASES,
    *vision.CASES,
    *pooling.CASES,
    *denoisers.CASES,
    *multimodal.CASES,
    *sequences.CASES,
    *readers.CASES,
    *structures.CASES,
    *weights.CASES,
]
