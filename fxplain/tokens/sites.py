"""Attention sites as they are found: noted, with a word where one softmax weighs two values."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fxplain.capture import module_path
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.tag import tokens_in
from fxplain.tokens.updates import AttentionSite

__all__ = ["note"]


def note(a: Analysis, site: AttentionSite) -> None:
    """Note an attention site."""
    site = replace(site, columns=a.learned.heard_by(site.rows, site.columns, a.versions))
    a.updates.append(site)
    if _weighs_twice(a, site):
        mark = site.softmax
        a.warn(
            f"{mark.target} in {module_path(mark) or 'the model'} weighs two values of the same "
            f"tokens: each is an attention node of its own, and their relevance adds up"
        )


def _weighs_twice(a: Analysis, site: AttentionSite) -> bool:
    """Whether another site has the same weights, all of them, for the same queries and keys."""
    before = (u for u in a.updates[: site.index] if isinstance(u, AttentionSite))
    count = math.prod(a.shape(site.softmax))
    alike = (
        u for u in before
        if u.softmax is site.softmax and math.prod(u.shape) == math.prod(site.shape) == count
    )  # fmt: skip
    return any(
        _same_tokens(a, u.rows, site.rows) and _same_tokens(a, u.columns, site.columns)
        for u in alike
    )


def _same_tokens(a: Analysis, one: Tensor, other: Tensor) -> bool:
    """Whether packed entries hold the same tokens, but for axes of one element."""
    one, other = (a.book.find(tokens_in(entries.squeeze())) for entries in (one, other))
    return torch.equal(one, other)
