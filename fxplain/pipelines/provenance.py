"""Provenance: what an explanation was made of and with, for whoever has to sign it."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from fxplain.capture import config_of
from fxplain.explanation import Explanation
from fxplain.pipelines.loading import Loaded

__all__ = ["fingerprint", "provenance"]

PACKAGES = ("fxplain", "torch", "transformers")
SAMPLED = 4096
"""Numbers of each weight that the fingerprint reads, evenly spread over it."""

_known: MutableMapping[nn.Module, str] = WeakIdKeyDictionary()


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
    if model not in _known:
        told = hashlib.sha256()
        for name, weight in model.state_dict().items():
            told.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            if weight.device.type != "meta":
                flat = weight.detach().flatten()
                some = flat[:: max(1, len(flat) // SAMPLED)]
                told.update(str(some.double().tolist()).encode())
        _known[model] = told.hexdigest()[:16]
    return _known[model]


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree that is not installed
        return "from source"
