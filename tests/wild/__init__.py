"""The wild zoo: models that do not come from `transformers`, each with what is right about it."""

from importlib.util import find_spec

from tests.wild import handwritten
from tests.wild.case import Entry
from tests.wild.torchvision_operators import declare

__all__ = ["HANDWRITTEN", "entries"]

if find_spec("torchvision"):  # before anything imports it
    declare()

HANDWRITTEN: list[Entry] = [*handwritten.CASES]


def entries() -> list[Entry]:
    """All entries whose packages are there."""
    from tests.wild import packages  # here, since it imports them all

    return [*HANDWRITTEN, *packages.found()]
