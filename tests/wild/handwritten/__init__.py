"""Models written by hand in the styles of many hands, in plain torch."""

from tests.wild.handwritten import text, vision

__all__ = ["CASES"]

CASES = [*text.CASES, *vision.CASES]
