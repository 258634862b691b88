"""Sources: where a value's content comes from, and where it can be disturbed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.program import Program
from fxplain.tokens import IDENTITY, AttentionSite, Mixing, Tag, Tags, TokenFlow, versions_in
from fxplain.verification.claims import canonical_tokens, claimed_tags, mixes_neighbours

__all__ = ["Source", "attention_outputs", "births", "sources_of"]


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
    joint
        Whether the tokens are disturbed at all of their joint sources at once: a parameter is the same
        wherever it enters, and of a backbone's values only the last ones are read.
    """

    node: fx.Node
    update: int
    tokens: Tensor
    anew: bool = False
    joint: bool = False

    def __str__(self) -> str:
        return f"{operation_name(self.node)} in {module_path(self.node) or 'the model'}"


def sources_of(program: Program) -> list[Source]:
    """All births of the program's tokens, and the outputs of all of its attention nodes."""
    return [*births(program), *attention_outputs(program)]


def births(program: Program) -> list[Source]:
    """Values that hold a token which nothing that they are computed from holds.

    A token with several births (a word and its type, added) has several. A learned query's stream that
    begins with zeros is the query's own: it is born where that stream does, too. What a backbone mixes
    before any attention is born anew wherever a convolution or pooling makes it, or a gate.
    """
    flow, canonical = program.flow, canonical_tokens(program)
    known = torch.zeros(len(canonical), dtype=torch.bool)
    for modality in program.modalities:
        known[modality.every[modality.every >= 0]] = True
    known &= ~_of_kind(flow, "route") & ~_context(flow)
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
            new = (tokens >= 0) & known[tokens.clamp(min=0)] & newborn.identity(tag)
            if bool(new.any()) and node not in newborn.mixings:
                before = newborn.held_before(node) if before is None else before
                new &= ~torch.isin(tokens, before)
            if bool(new.any()):
                tokens = torch.where(new, tokens, -1)
                anew = node in newborn.mixings
                together = learned[tokens.clamp(min=0)] | newborn.mixed(tokens)
                for own, joint in ((together, True), (~together, False)):
                    part = torch.where(own, tokens, -1)
                    if bool((part >= 0).any()):
                        found.append(Source(node, IDENTITY, part, anew, joint))
                break
    return found


class _Newborn:
    """What happens to tokens before any attention: convolutions and pooling make newer ones of them."""

    def __init__(self, program: Program, canonical: Tensor) -> None:
        self._flow, self._canonical = program.flow, canonical
        self._births = program.births | {IDENTITY}
        flow = program.flow
        self._pooled = _births_of_mixings(flow)
        self.mixings = {
            node
            for node in flow.tags
            if self._is_newborn(node)
            and (
                mixes_neighbours(node)
                or _normalises_grid(flow, node)
                or self._hears_of_pooled(node)
            )
        }
        mixed: set[int] = set()
        for node in self.mixings:
            for tag in claimed_tags(flow.tags[node]):
                tokens = canonical[tag.tokens[tag.tokens >= 0]]
                mixed.update(flow.book.births_of(tokens).unique().tolist())
        self._mixed = torch.tensor(sorted(mixed), dtype=torch.int64)

    def _hears_of_pooled(self, node: fx.Node) -> bool:
        """Whether a value is made with what newborn tokens were pooled to, and names others.

        Squeeze and excitation scales every place of a backbone's grid by a mean over all.
        """
        own = self._births_held((node,))
        held = self._births_held(node.all_input_nodes) & self._pooled
        return bool(own) and len(node.all_input_nodes) > 1 and not held <= own

    def _births_held(self, nodes: Iterable[fx.Node]) -> set[int]:
        tags = [t for n in nodes for t in claimed_tags(_whole(n, self._flow)) if t.softmax is None]
        tokens = [tag.tokens[tag.tokens >= 0] for tag in tags]
        births = [self._flow.book.births_of(each).unique() for each in tokens]
        return set(torch.cat(births).tolist()) if births else set()

    def mixed(self, tokens: Tensor) -> Tensor:
        """Which of some tokens are mixed with their neighbours while they are newborn."""
        return torch.isin(self._flow.book.births_of(tokens.clamp(min=0)), self._mixed)

    def held_before(self, node: fx.Node) -> Tensor:
        """The tokens that a node's inputs hold as they were born.

        An input that no weight has touched is born a second time where a residual adds it as it is.
        """
        held = [torch.empty(0, dtype=torch.int64)]
        for source in node.all_input_nodes:
            for tag in claimed_tags(_whole(source, self._flow)):
                own = (tag.tokens >= 0) & self.identity(tag)
                held.append(self._canonical[tag.tokens[own]])
        return torch.cat(held)

    def identity(self, tag: Tag) -> Tensor:
        """Which of a tag's entries are claimed to come from the tokens' birth."""
        versions = versions_in(tag.ids)
        found = torch.zeros(versions.shape, dtype=torch.bool)
        for version in versions.unique().tolist():
            if version >= 0 and self._flow.versions.of(version) & self._births:
                found |= versions == version
        return found

    def _is_newborn(self, node: fx.Node) -> bool:
        versions = self._flow.versions
        return all(
            versions.of(version) <= self._births
            for tag in claimed_tags(self._flow.tags[node])
            for version in versions_in(tag.ids).unique().tolist()
            if version >= 0
        )


def _births_of_mixings(flow: TokenFlow) -> set[int]:
    """The births of tokens that a mixing of newborn ones made."""
    made = [site.new[site.new >= 0] for site in flow.updates if isinstance(site, Mixing)]
    return set(flow.book.births_of(torch.cat(made)).unique().tolist()) if made else set()


def _normalises_grid(flow: TokenFlow, node: fx.Node) -> bool:
    """Whether statistics of all positions are taken of a grid that convolutions made: it is anew."""
    if operation_name(node) not in ("group_norm", "instance_norm"):
        return False
    tokens = [tag.tokens[tag.tokens >= 0] for tag in claimed_tags(flow.tags[node])]
    births = [i for own in tokens for i in flow.book.births_of(own).unique().tolist()]
    made_by = [flow.book.births[index].node for index in births]
    return bool(made_by) and all(by is not None and mixes_neighbours(by) for by in made_by)


def _context(flow: TokenFlow) -> Tensor:
    """Which tokens act on others by no attention: nothing is claimed of that."""
    births = flow.book.births
    context = torch.tensor([birth.index in flow.conditions for birth in births], dtype=torch.bool)
    return context[flow.book.births_of(torch.arange(len(flow.book)))]


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
            for tag in claimed_tags(flow.tags.get(site.output, ())):
                tokens = torch.where(tag.tokens < 0, -1, canonical[tag.tokens.clamp(min=0)])
                found.append(Source(site.output, site.index, tokens))
                break
    return found


def _whole(node: fx.Node, flow: TokenFlow) -> Tags:
    """The tags of a node, of one with several outputs those of its inputs."""
    if node in flow.tags:
        return flow.tags[node]
    if node.op != "call_function":
        return ()
    return tuple(tag for source in node.all_input_nodes for tag in flow.tags.get(source, ()))
