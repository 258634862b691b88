"""Sources: where a value's content comes from, and where it can be disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.program import Program
from fxplain.tokens import IDENTITY, AttentionSite, Level, Tags, TokenFlow, versions_in
from fxplain.verification.claims import canonical_tokens, claimed_tags

__all__ = ["Source", "attention_outputs", "births", "sources_of", "unclaimed"]


@dataclass(frozen=True, eq=False)
class Source:
    """A value whose rows can be disturbed: a birth, or an attention node's output.

    Attributes
    ----------
    node
        The graph node.
    update
        The update that versions know it by; `IDENTITY` for births.
    tokens
        The canonical token of each element, as many axes as the value, size 1 where it does not vary;
        -1 for elements of tokens that come from elsewhere.
    anew
        Whether these elements are tokens anew, whatever they were made of: a backbone's convolutions
        make newer tokens.
    learned
        Whether the tokens are a parameter's.
    """

    node: fx.Node
    update: int
    tokens: Tensor
    anew: bool = False
    learned: bool = False

    def __str__(self) -> str:
        return f"{operation_name(self.node)} in {module_path(self.node) or 'the model'}"


def sources_of(program: Program) -> list[Source]:
    """All births of the program's tokens, and the outputs of all of its attention nodes."""
    return [*births(program), *attention_outputs(program)]


def births(program: Program) -> list[Source]:
    """Values that hold a token which nothing that they are computed from holds.

    A token with several births (a word and its type, added) has several. What a backbone mixes before
    any attention is born where the last convolution or pooling made it.
    """
    flow, canonical = program.flow, canonical_tokens(program)
    known = torch.zeros(len(canonical), dtype=torch.bool)
    for modality in program.modalities:
        known[modality.tokens[modality.tokens >= 0]] = True
    known &= ~_of_kind(flow, "route")
    learned = _of_kind(flow, "parameter")
    newborn = _Newborn(program, canonical)
    found = []
    for node, tags in flow.tags.items():
        if node.op != "call_function":
            continue
        before: Tensor | None = None
        for tag in claimed_tags(tags):
            if tag.softmax is not None:
                continue
            tokens = torch.where(tag.tokens < 0, -1, canonical[tag.tokens.clamp(min=0)])
            new = (tokens >= 0) & known[tokens.clamp(min=0)]
            if bool(new.any()):
                before = newborn.held_before(node) if before is None else before
                new &= ~torch.isin(tokens, before) & ~newborn.mixed_later(node, tokens)
            if bool(new.any()):
                tokens = torch.where(new, tokens, -1)
                anew = node in newborn.mixings
                for own, of_parameter in ((learned, True), (~learned, False)):
                    part = torch.where((tokens >= 0) & own[tokens.clamp(min=0)], tokens, -1)
                    if bool((part >= 0).any()):
                        found.append(Source(node, IDENTITY, part, anew, of_parameter))
                break
    return found


class _Newborn:
    """What happens to tokens before any attention: convolutions and pooling make newer ones of them."""

    def __init__(self, program: Program, canonical: Tensor) -> None:
        self._flow, self._canonical = program.flow, canonical
        self._births = program.births | {IDENTITY}
        flow = program.flow
        self.mixings = {
            node for node in flow.tags if _mixes_neighbours(node) and self._is_newborn(node)
        }
        self._mixed: dict[fx.Node, set[int]] = {}
        if self.mixings:
            for node in reversed(list(flow.tags)):
                later = self._of(node) if node in self.mixings else self._mixed.get(node, set())
                for source in node.all_input_nodes if later else ():
                    shared = later & self._of(source)
                    if shared:
                        self._mixed.setdefault(source, set()).update(shared)

    def mixed_later(self, node: fx.Node, tokens: Tensor) -> Tensor:
        """Which of some tokens that a node holds are mixed with their neighbours further down."""
        births = torch.tensor(sorted(self._mixed.get(node, ())), dtype=torch.int64)
        return torch.isin(self._flow.book.births_of(tokens.clamp(min=0)), births)

    def held_before(self, node: fx.Node) -> Tensor:
        """The tokens that a node's inputs hold, as they will stay."""
        held = [torch.empty(0, dtype=torch.int64)]
        for source in node.all_input_nodes:
            for tag in claimed_tags(_whole(source, self._flow)):
                tokens = self._canonical[tag.tokens[tag.tokens >= 0]]
                held.append(tokens[~self.mixed_later(source, tokens)])
        return torch.cat(held)

    def _of(self, node: fx.Node) -> set[int]:
        """The births of the tokens that a node holds."""
        births: set[int] = set()
        for tag in claimed_tags(self._flow.tags.get(node, ())):
            tokens = self._canonical[tag.tokens[tag.tokens >= 0]]
            births.update(self._flow.book.births_of(tokens).unique().tolist())
        return births

    def _is_newborn(self, node: fx.Node) -> bool:
        versions = self._flow.versions
        return all(
            versions.of(version) <= self._births
            for tag in claimed_tags(self._flow.tags[node])
            for version in versions_in(tag.ids).unique().tolist()
            if version >= 0
        )


def _mixes_neighbours(node: fx.Node) -> bool:
    name = operation_name(node)
    return node.op == "call_function" and any(word in name for word in _MIXING)


_MIXING = ("conv", "pool", "upsample", "grid_sampler", "lstm", "gru", "stft", "im2col")


def _of_kind(flow: TokenFlow, kind: str) -> Tensor:
    """Whether each token's birth is of a kind."""
    births = torch.tensor([birth.kind == kind for birth in flow.book.births], dtype=torch.bool)
    return births[flow.book.births_of(torch.arange(len(flow.book)))]


def attention_outputs(program: Program) -> list[Source]:
    """The outputs of all attention nodes."""
    flow, canonical = program.flow, canonical_tokens(program)
    found = []
    for site in flow.updates:
        if isinstance(site, AttentionSite):
            node = site.division or site.node
            for tag in claimed_tags(flow.tags.get(node, ())):
                tokens = torch.where(tag.tokens < 0, -1, canonical[tag.tokens.clamp(min=0)])
                found.append(Source(node, site.index, tokens))
                break
    return found


def unclaimed(program: Program, float_inputs: Sequence[fx.Node]) -> list[fx.Node]:
    """Float inputs and embeddings of integers that give birth to no token of the program."""
    flow, canonical = program.flow, canonical_tokens(program)
    shown = torch.zeros(len(canonical), dtype=torch.bool)
    for modality in program.modalities:
        shown[modality.tokens[modality.tokens >= 0]] = True
    by_birth = torch.zeros(len(flow.book.births), dtype=torch.bool)
    if len(canonical):
        ids = torch.arange(len(canonical))[shown[canonical]]
        by_birth[flow.book.births_of(ids)] = True
    born = {b.node for b in flow.book.births if by_birth[b.index]}
    roots = {b.root for b in flow.book.births if by_birth[b.index] and b.kind == "input"}
    silent = [n for n in float_inputs if n not in born and n.name not in roots]
    for node, tags in flow.tags.items():
        if node.op == "call_function" and operation_name(node) == "embedding" and node not in born:
            tokens = [canonical[t.tokens[t.tokens >= 0]] for t in tags if t.level >= Level.TOKEN]
            if tokens and not any(bool(shown[t].any()) for t in tokens):
                silent.append(node)
    return silent


def _whole(node: fx.Node, flow: TokenFlow) -> Tags:
    """The tags of a node, of one with several outputs those of its inputs."""
    if node in flow.tags:
        return flow.tags[node]
    if node.op != "call_function":
        return ()
    return tuple(tag for source in node.all_input_nodes for tag in flow.tags.get(source, ()))
