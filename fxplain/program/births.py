"""Births: the values of a graph at which tokens come to be, for methods that score inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.program.program import Program
from fxplain.tokens import Level, Tags, TokenFlow

__all__ = ["BirthSite", "birth_sites", "sample_axes"]


@dataclass(frozen=True, eq=False)
class BirthSite:
    """A value that holds tokens as they were born: an embedding lookup, a first projection.

    Where nothing but a norm over features reads that value, it is the norm's result.

    Attributes
    ----------
    node
        The graph node.
    tokens
        The token of each element, as many axes as the value with size 1 where it does not vary;
        -1 for elements of tokens that were born elsewhere.
    samples
        The sample of each token, in the same shape; of no meaning where there is no token.
    """

    node: fx.Node
    tokens: Tensor
    samples: Tensor


def birth_sites(program: Program, flow: TokenFlow) -> list[BirthSite]:
    """Where the tokens of a program's modalities are born.

    A token with several births (a word and its type, added) has several sites. Requires a `flow`
    with tags.
    """
    known = torch.zeros(len(flow.book), dtype=torch.bool)
    for modality in program.modalities:
        known[modality.every[modality.every >= 0]] = True
    sample_of = torch.as_tensor(program.token_sample)
    sites = []
    for node, tags in flow.tags.items():
        if node.op != "call_function":
            continue
        for tag in tags:
            if tag.level < Level.PARAMETER_TOKEN or tag.softmax is not None:
                continue
            tokens = flow.book.find(tag.tokens)
            new = (tokens >= 0) & known[tokens.clamp(min=0)] & ~_made(tag.tokens, flow)
            new &= ~torch.isin(tokens, _tokens_before(node, flow))
            if new.any():
                own = sample_of[tokens.clamp(min=0)]
                sites.append(_normed(BirthSite(node, torch.where(new, tokens, -1), own)))
                break
    return sites


def _normed(site: BirthSite) -> BirthSite:
    """The site behind the norm that alone reads it, if one does.

    A norm tells nothing of its operand's length: on the way from no token to the token, and in the
    token times its gradient, all that the token says would be lost (Euler: x df/dx = 0).
    """
    users = list(site.node.users)
    if len(users) != 1 or operation_name(users[0]) not in ("layer_norm", "rms_norm"):
        return site
    given: list[Any] = [*users[0].args, None, None]
    operand, shape = given[:2]
    features = site.tokens.shape[-len(shape) :] if isinstance(shape, (list, tuple)) else ()
    if operand is not site.node or not features or any(size > 1 for size in features):
        return site
    return _normed(replace(site, node=users[0]))


def _made(tokens: Tensor, flow: TokenFlow) -> Tensor:
    """Whether each token is one that a route made of others, which were born before."""
    routed = torch.tensor([birth.kind == "route" for birth in flow.book.births])
    return routed[flow.book.births_of(tokens.clamp(min=0))]


def _tokens_before(node: fx.Node, flow: TokenFlow) -> Tensor:
    held = [
        flow.book.find(tag.tokens).flatten()
        for source in node.all_input_nodes
        for tag in _whole(source, flow)
        if tag.level >= Level.PARAMETER_TOKEN
    ]
    return torch.cat(held) if held else torch.empty(0, dtype=torch.int64)


def _whole(node: fx.Node, flow: TokenFlow) -> Tags:
    """The tags of a node, of one with several outputs those of its inputs."""
    if node in flow.tags:
        return flow.tags[node]
    if node.op != "call_function":
        return ()
    return tuple(tag for source in node.all_input_nodes for tag in flow.tags.get(source, ()))


def sample_axes(flow: TokenFlow) -> dict[fx.Node, Tensor]:
    """The sample of each element of every value, for a batch of several; -1 becomes sample 0.

    Size 1 where the sample does not vary, so it is small. Requires a `flow` with tags.
    """
    if flow.book.batch_size == 1:
        return {}
    found = {}
    for node, tags in flow.tags.items():
        for tag in tags:
            samples = flow.book.samples(flow.book.find(tag.tokens)).clamp(min=0)
            if not samples.numel():
                continue
            for axis in range(samples.dim()):
                first = samples.narrow(axis, 0, 1)
                if samples.shape[axis] > 1 and bool((samples == first).all()):
                    samples = first
            if samples.numel() > 1:
                found[node] = samples
                break
    return found
