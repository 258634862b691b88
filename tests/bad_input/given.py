"""What is given: models, explainers and results, made once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

import fxplain
from tests import small_pretrained
from tests.small_models import TextClassifier, architecture, seeded, words

IDS = words(2, 6)


@cache
def text() -> torch.nn.Module:
    return seeded(TextClassifier)


@cache
def explanation() -> fxplain.Explanation:
    return fxplain.explain(text(), (IDS,), target=1)


@cache
def seen() -> fxplain.Explanation:
    return fxplain.explain(*architecture("vit"), target=1)


@cache
def gpt2() -> fxplain.Explainer:
    return fxplain.from_pretrained(small_pretrained.save("gpt2", home()))


@cache
def home() -> Path:
    return Path(tempfile.mkdtemp())


@cache
def explainer(name: str) -> fxplain.Explainer:
    return fxplain.from_pretrained(small_pretrained.save(name, home()))


@cache
def written() -> fxplain.Generation:
    return gpt2().generate("the movie", max_new_tokens=2)


@cache
def measured() -> fxplain.Evaluation:
    return evaluated()


def evaluated(**options: Any) -> fxplain.Evaluation:
    data = options.pop("dataset", None) or [{"input_ids": IDS}]
    settings: dict[str, Any] = {"methods": ["raw_attention"], "resamples": 10, "steps": [0.5]}
    return fxplain.evaluate(text(), data, **{**settings, **options})
