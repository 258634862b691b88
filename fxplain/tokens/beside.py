"""Beside: what tokens are put beside, or written into, is tokens as they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from fxplain.tokens.analysis import Analysis
from fxplain.tokens.mixing import settled
from fxplain.tokens.tag import Level, Tags, of_one_token

__all__ = ["Operand", "beside_tokens"]

Operand = tuple[Tags, tuple[int, ...]]
"""The tags of a value, and its shape."""


def beside_tokens(
    a: Analysis, node: fx.Node, operands: list[Operand], axes: Sequence[int]
) -> list[Operand]:
    """What is put beside tokens, along `axes`, is tokens along the same axes as these.

    So are raw inputs, a cache of keys, and parameters: a learned key that each head has features of
    is one token.
    """
    beside = [tag for tags, _ in operands for tag in tags if tag.level is Level.TOKEN]
    if not beside:
        return operands
    features = [
        i
        for i in range(1, len(operands[0][1]))
        if (i not in axes or i == len(operands[0][1]) - 1) and not any(t.varies(i) for t in beside)
    ]
    for i in features:
        operands = [(of_one_token(settled(a, node, tags, i), i), shape) for tags, shape in operands]
    return operands
