"""Provenance: what an explanation was made of and with, for whoever has to sign it."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from fxplain.capture import config_of, version_of
from fxplain.explanation import Explanation
from fxplain.pipelines.loading import Loaded

__all__ = ["fingerprint", "provenance"]

PACKAGES = ("fxplain", "torch", "transformers")
SAMPLED = 4096
"""Numbers of each weight that the fingerprint reads, evenly spread over it."""

GLANCE = 8
"""Numbers of each weight that say whether the fingerprint is still the same: an update writes all."""

_known: MutableMapping[nn.Module, tuple[Any, str]] = WeakIdKeyDictionary()


def provenance(loaded: Loaded, explanation: Explanation) -> dict[str, str]:
    """Where the model is from, its weights, the method with its options, when, and with what."""
    name = str(Path(loaded.name).resolve()) if Path(loaded.name).exists() else loaded.name
    revision = getattr(config_of(loaded.model), "_commit_hash", None)
    options = ", ".join(f"{key}={value}" for key, value in explanation.options.items())
    return {
        "model": name,
        **({"revision": str(revision)} if revision else {}),
        "weights": fingerprint(loaded.model),
        "method": f"{explanation.method} ({options})" if options else explanation.method,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
    }


def fingerprint(model: nn.Module) -> str:
    """A short hash of a model's weights: names, shapes and numbers spread over each of them."""
    weights = model.state_dict()
    seen = [
        (name, version_of(weight), _some_of(weight, GLANCE)) for name, weight in weights.items()
    ]
    known = _known.get(model)
    if known is not None and known[0] == seen:
        return known[1]
    told = hashlib.sha256()
    for name, weight in weights.items():
        told.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if weight.device.type != "meta":
            told.update(_some_of(weight, SAMPLED).encode())
    _known[model] = seen, told.hexdigest()[:16]
    return _known[model][1]


def _some_of(weight: Tensor, count: int) -> str:
    """Some of a weight's numbers, evenly spread over it."""
    if weight.device.type == "meta":
        return ""
    flat = weight.detach().flatten()
    return str(flat[:: max(1, len(flat) // count)].double().tolist())


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree that is not installed
        return "from source"
