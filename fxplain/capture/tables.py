"""Tables: where transformers looks up by name how attention, masks and the like are computed.

Such an interface has a mapping of its class and one of each instance. Functions of the library read
them as globals, which a fingerprint does not follow further into a library than by one step.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["interfaces"]

_HOME, _NAME = "transformers.utils.generic", "GeneralInterface"


def interfaces() -> list[tuple[type, list[Any]]]:
    """The kinds of interface that are loaded, each with its instances; none without transformers."""
    base = getattr(sys.modules.get(_HOME), _NAME, None)
    if not isinstance(base, type):
        return []
    found: list[tuple[type, list[Any]]] = []
    kinds: list[type] = base.__subclasses__()
    for kind in kinds:
        home = sys.modules.get(kind.__module__)
        found.append((kind, [thing for thing in vars(home).values() if type(thing) is kind]))
    return found
