"""Models of packages of the registry, at a tiny size."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from tests.wild.case import Entry

__all__ = ["found"]

FAMILIES = {
    "timm_models": "timm",
    "torchvision_models": "torchvision",
    "vit_pytorch_models": "vit_pytorch",
    "x_transformers_models": "x_transformers",
    "open_clip_models": "open_clip",
    "diffusers_models": "diffusers",
    "diverse_models": "torch",
    "further_models": "torch",
}
"""By module of this package, the package that its models are of."""


def found() -> list[Entry]:
    """The entries of all packages that are installed."""
    return [
        entry
        for module, package in FAMILIES.items()
        if find_spec(package)
        for entry in import_module(f"tests.wild.packages.{module}").CASES
    ]
