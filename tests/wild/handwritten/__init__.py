"""Models written by hand in the styles of many hands, in plain torch."""

from tests.wild.handwritten import multimodal, sequences, text, vision

__all__ = ["CASES"]

CASES = [*text.CASES, *vision.CASES, *multimodal.CASES, *sequences.CASES]
