"""The flow: what the token analysis finds, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from fxplain.tokens.book import TokenBook
from fxplain.tokens.elements import Argument
from fxplain.tokens.tag import Tags
from fxplain.tokens.updates import RejectedSoftmax, Update
from fxplain.tokens.versions import Versions

__all__ = ["TokenFlow"]


@dataclass
class TokenFlow:
    """The result of the analysis.

    Attributes
    ----------
    book, versions
        The tokens and the versions that tags speak of.
    updates
        Attention sites and routes, in program order.
    rejected
        Softmaxes that are not attention.
    outputs
        The tags of each tensor of the model's output.
    shapes
        The shapes of these tensors.
    warnings
        Where the analysis was unsure, naming operation and module.
    read
        The graph inputs (and random draws) whose values the analysis read: with others of the same
        shape it may come out otherwise. It grows while mixings are weighed.
    normalized
        The shapes of what the attention sites' softmaxes made.
    tags
        The tags of every node with one output, where they were asked for.
    context
        The inputs that scale, shift or gate the tokens of others, all alike: no attention carries
        what they do.
    conditions
        The births of what does so: of an input that has tokens besides, those of its statistics.
    pairs
        The births of what says something of every pair of tokens (distances), and is no token.
    seen
        Every (token, version) that some value holds, as distinct packed entries.
    arguments
        The user's tensors, as their elements are numbered.
    """

    book: TokenBook
    versions: Versions
    updates: list[Update]
    rejected: list[RejectedSoftmax]
    outputs: list[Tags]
    shapes: list[tuple[int, ...]]
    warnings: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    normalized: dict[fx.Node, tuple[int, ...]] = field(default_factory=dict)
    tags: dict[fx.Node, Tags] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    conditions: frozenset[int] = frozenset()
    pairs: frozenset[int] = frozenset()
    seen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    arguments: tuple[Argument, ...] = ()
