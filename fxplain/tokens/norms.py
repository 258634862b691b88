"""Norms: values divided by what they measure together, over features or over whole sequences."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, fx

from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mixing import one_token
from fxplain.tokens.tag import Level, Tag

__all__ = ["normed", "normed_first"]


def normed(a: Analysis, node: fx.Node) -> Tagged:
    """The value keeps its tokens.

    Statistics over several tokens, once these have heard of others, act on all of them alike: no
    attention carries it, and that is said.
    """
    source = node.all_input_nodes[0]
    for tag in a.tags(source):
        if tag.level >= Level.PARAMETER_TOKEN and not a.joiner.newborn(tag):
            groups = _measured_together(node, tag, a.shape(source))
            if groups is not None and one_token(a, groups) is None:
                a.warn_of_mixing(node)
    return a.tags(source)


def normed_first(a: Analysis, node: fx.Node) -> Tagged:
    """As `normed`, for operations that return statistics beside the value."""
    return [normed(a, node)]


def _measured_together(node: fx.Node, tag: Tag, shape: Sequence[int]) -> Tensor | None:
    """A tag's entries in groups (..., n) that share statistics; None where these are the weights'."""
    named, ids = arguments(node), tag.ids
    if "normalized_shape" in named:
        return ids.flatten(ids.dim() - len(named["normalized_shape"]))
    if named.get("use_input_stats", True):
        count = named.get("num_groups", named.get("group", shape[1]))
        return ids.reshape(ids.shape[0], count if tag.varies(1) else 1, -1)
    return None
