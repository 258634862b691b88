"""Shares: whether what an output is pooled from is read at all.

A route's share of a token is 0 exactly if the new token does not depend on it. With the outputs of all
attention nodes held, the gradient of an output's rows tells which rows of which source they depend on;
a token that is claimed by a share, and reaches them from no source, is credited for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import ELSEWHERE, operation_name
from fxplain.program import Program
from fxplain.tokens import IDENTITY, AttentionSite, RouteSite, Tag, tokens_in, versions_in
from fxplain.verification.claims import canonical_tokens, claimed_tags
from fxplain.verification.sources import Source

__all__ = [
    "Ancestry",
    "attention_sites",
    "is_pooled",
    "one_number",
    "parts_are_taken_off",
    "reached",
    "read_rows",
    "rooted_outputs",
    "weighed",
]


class Ancestry:
    """What some packed tag entries claim to be made of.

    Attributes
    ----------
    claimed
        For each source's update (`IDENTITY` for births) the canonical tokens, a boolean (tokens,).
    routes
        The routes on the way, in program order.
    """

    def __init__(self, program: Program, entries: Tensor) -> None:
        self._flow = program.flow
        self._births = program.births | {IDENTITY}
        self._canonical = canonical_tokens(program)
        self.claimed: dict[int, Tensor] = {}
        self._routes: dict[int, RouteSite] = {}
        seen: set[int] = set()
        frontier = entries[entries >= 0].unique()
        while len(frontier):
            seen.update(frontier.tolist())
            older = [self._followed(frontier, v) for v in versions_in(frontier).unique().tolist()]
            found = set(torch.cat(older).tolist()) if older else set()
            frontier = torch.tensor(sorted(found - seen), dtype=torch.int64)

    @property
    def routes(self) -> list[RouteSite]:
        """The routes on the way, in program order."""
        return [self._routes[index] for index in sorted(self._routes)]

    def _followed(self, entries: Tensor, version: int) -> Tensor:
        """Note the sources of entries with a version; the entries that their routes were made of."""
        tokens = self._canonical[tokens_in(entries[versions_in(entries) == version])]
        older = [torch.empty(0, dtype=torch.int64)]
        for update in self._flow.versions.of(version):
            site = None if update in self._births else self._flow.updates[update]
            if isinstance(site, RouteSite):
                self._routes[update] = site
                made = torch.isin(self._canonical[site.new], tokens) & (site.weights != 0)
                older.append(site.old[made].unique())
            else:
                known = IDENTITY if site is None else update
                empty = torch.zeros(len(self._canonical), dtype=torch.bool)
                self.claimed.setdefault(known, empty)[tokens] = True
        return torch.cat(older)


def is_pooled(program: Program, tag: Tag) -> bool:
    """Whether a route made what a tag claims."""
    flow = program.flow
    return any(
        isinstance(flow.updates[update], RouteSite)
        for version in versions_in(tag.ids).unique().tolist()
        if version >= 0
        for update in flow.versions.of(version)
        if update >= 0
    )


def parts_are_taken_off(program: Program) -> bool:
    """Whether anywhere a sum of tokens has a token, or another sum, taken off.

    What of them is left is told by the numbers alone: `x.sum(1) - x[:, 0]` does not read the first.
    """
    tags = program.flow.tags
    for node in tags:
        if operation_name(node) not in ("sub", "subtract", "rsub"):
            continue
        parts = [claimed_tags(tags.get(n, ())) for n in node.all_input_nodes]
        if len(parts) != 2 or any(len(own) != 1 for own in parts):
            continue
        (one,), (other,) = parts
        alike = one.ids.numel() == other.ids.numel()
        if alike and (is_pooled(program, one) or is_pooled(program, other)):
            return True
    return False


def read_rows(program: Program, output: fx.Node) -> tuple[Tensor, Tensor] | None:
    """One pooled row of each sample of an output: its packed entries, and where they are.

    None where no route made what the output holds.
    """
    tags = claimed_tags(program.flow.tags.get(output, ()))
    if len(tags) != 1 or not is_pooled(program, tags[0]):
        return None
    ids = tags[0].ids
    samples = program.flow.book.samples(canonical_tokens(program)[tokens_in(ids).clamp(min=0)])
    chosen = torch.zeros(ids.shape, dtype=torch.bool)
    for sample in samples[ids >= 0].unique().tolist():
        place = ((samples == sample) & (ids >= 0)).nonzero()[0]
        chosen[tuple(place)] = True
    return ids[chosen], chosen


def reached(
    module: fx.GraphModule,
    values: Sequence[Any],
    sources: Iterable[Source],
    held: Iterable[fx.Node],
    read: Callable[[Sequence[Any]], Tensor],
    size: int,
) -> Mapping[int, Tensor]:
    """The canonical tokens of each update that one number depends on.

    Runs the graph once, and one backward that ends at the sources and at the values that are held.

    Parameters
    ----------
    module, values
        The graph and the values of its placeholders.
    sources
        Where tokens are looked for.
    held
        Nodes whose value is taken as given.
    read
        The number, of all outputs.
    size
        How many tokens there are.
    """
    by_node: dict[fx.Node, list[Source]] = {}
    for source in sources:
        by_node.setdefault(source.node, []).append(source)
    leaves: dict[fx.Node, Tensor] = {}
    held = set(held)

    def rooted(node: fx.Node, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if node in held:
            leaves[node] = value.detach().requires_grad_()
            return leaves[node]
        leaves[node] = leaf = torch.zeros_like(value, requires_grad=True)
        for source in by_node[node]:
            value = torch.where((source.tokens >= 0).to(value.device), value + leaf, value)
        return value

    total = read(rooted_outputs(module, values, {*by_node, *held}, rooted))
    found = {
        s.update: torch.zeros(size, dtype=torch.bool) for each in by_node.values() for s in each
    }
    if not total.requires_grad or not leaves:
        return found
    nodes = list(leaves)
    gradients = torch.autograd.grad(total, [leaves[n] for n in nodes], allow_unused=True)
    reached: list[tuple[fx.Node, Tensor | None]] = list(zip(nodes, gradients, strict=True))
    for node, gradient in reached:
        if gradient is None:
            continue
        felt = (gradient != 0).cpu()
        for source in by_node.get(node, ()):
            axes = [x for x, n in enumerate(source.tokens.shape) if n == 1]
            rows = felt.any(axes, keepdim=True) if axes else felt
            found[source.update][source.tokens[rows & (source.tokens >= 0)]] = True
    return found


def weighed(output: Any, chosen: Tensor | None = None) -> Tensor:
    """One number of an output's, or of some of its rows: each times a weight drawn at random."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return torch.zeros((), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    if chosen is not None:
        weights = weights * chosen
    return (output.cpu().double().nan_to_num(0, 0, 0) * weights).sum()


def rooted_outputs(
    module: fx.GraphModule,
    values: Sequence[Any],
    roots: Container[fx.Node],
    rooted: Callable[[fx.Node, Any], Any],
) -> list[Any]:
    """The outputs of a run that changes the values of `roots` as it meets them."""

    class Rooted(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            return rooted(n, value) if n in roots else value

        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            target = ELSEWHERE.get(target, target)
            return super().call_function(target, args, kwargs)

    return list(Rooted(module).run(*values))


def attention_sites(program: Program) -> list[fx.Node]:
    """The graph nodes of all attention outputs."""
    updates = program.flow.updates
    return [u.output for u in updates if isinstance(u, AttentionSite)]


def one_number(outputs: Sequence[Any]) -> Tensor:
    """One number of all that a model puts out: each times a weight drawn at random."""
    return sum((weighed(output) for output in outputs), torch.zeros((), dtype=torch.float64))
