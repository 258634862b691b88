"""Best chains: the strongest of all chains of attention, found without looking at the others."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fxplain.inside.by_head import head_factor
from fxplain.inside.chains import Attended, Chains, Link, Point, Routed
from fxplain.program import ProgramNode, head_numbers

__all__ = ["BestChains", "Found", "Step"]

Place = tuple[int, int]
"""A stream and a position in it."""


class Step(NamedTuple):
    """One step of a chain: through a node's head, or along a route (None), from query to key."""

    name: str
    head: int | None
    query: Place
    key: Place
    weight: float


@dataclass(frozen=True)
class Found:
    """A whole chain: where it begins at the readout, its steps down, the token, and its worth."""

    start: Place
    steps: tuple[Step, ...]
    end: Place
    weight: float


class _At(NamedTuple):
    """A token about to be followed through a place; `query` says that norm(R_ss) is passed."""

    point: Point
    sample: int
    position: int
    asked: int | None = None  # which of the place's steps, once that is chosen
    attended: bool = False  # whether a node has been passed


Way = tuple[float, float, "_At | Place", "Step | None"]
"""A way on: what it can bring at most, its factor, where it leads, and the step that it is."""


class BestChains:
    """The k chains of the largest worth by absolute value, by a best-first search.

    The worth of a chain is a product, so what the best continuation from a place is worth follows from
    the last update to the first, ``best = max over heads and keys of |A_h| best(key)``: a bound that is
    reached. A search from the readout down that always goes on with the largest worth x bound finds the
    strongest chain first, then the second, and so on.

    Parameters
    ----------
    chains
        The expansion.
    columns
        By stream how often each token counts as it is born, (batch, tokens, modalities).
    """

    def __init__(self, chains: Chains, columns: dict[int, Tensor]) -> None:
        self.chains, self.program = chains, chains.program
        self._born = {stream: x.sum(-1) for stream, x in columns.items()}
        self._best: dict[tuple[Point, bool], Tensor] = {}
        self._of_step: dict[tuple[Point, int], Tensor] = {}
        for point in reversed(chains.points):
            self._bound(point)

    # -- bounds -------------------------------------------------------------------------------------

    def _bound(self, point: Point) -> None:
        node = self.chains.node(point)
        if node is None:
            for attended in (False, True):
                self._best[point, attended] = self._best_of_route(point, attended)
            return
        total = self._zeros(node.stream)
        for i, step in enumerate(self.chains.steps(point)):
            assert isinstance(step, Attended)
            asked = self._asked(node, step)
            self._of_step[point, i] = asked
            if step.own is not None:
                asked = (step.own.abs() * asked.unsqueeze(-1)).amax(1)
            total = torch.maximum(total, asked)
        self._best[point, False] = self._best[point, True] = total

    def _asked(self, node: ProgramNode, step: Attended) -> Tensor:
        """The most that a query can bring by one step, (batch, tokens)."""
        keys = self._keys(node, step)
        result = self._zeros(node.stream)
        fold = node.layout.fold
        for queries, weighed in self.chains.rules.maps.of(node.index).by_head():
            of_groups = keys if fold is None else keys[fold.to(keys.device)]
            made = (weighed.abs() * of_groups[:, None, None, :]).amax((1, 3))
            groups = torch.arange(len(keys)) if fold is None else fold
            rows = node.rows[groups][:, queries]
            samples = node.samples[groups].unsqueeze(1).expand(rows.shape)
            made = made * head_factor(node.layout)
            if node.layout.shares is not None:
                made = made * node.layout.shares[groups][:, queries].to(made)
            real = rows >= 0
            flat = (samples * result.shape[1] + rows)[real].to(result.device)
            result.view(-1).scatter_reduce_(0, flat, made[real.to(made.device)], "amax")
        return result

    def _keys(self, node: ProgramNode, step: Attended) -> Tensor:
        """The most that each key brings, (token groups, keys)."""
        best = self._linked(step.block.stream, step.links, True).unsqueeze(-1)
        return node.gathered(step.divided(best).abs(), step.block.positions).squeeze(-1)

    def _linked(self, stream: int, links: Iterable[Link], attended: bool) -> Tensor:
        total = self._zeros(stream)
        for link in links:
            total = torch.maximum(total, self._by_link(link, attended))
        return total

    def _by_link(self, link: Link, attended: bool) -> Tensor:
        if link.to is not None:
            best = self._best[link.to, attended]
        else:
            best = self._born[link.stream] if attended else self._zeros(link.stream)
        return link.of(best.unsqueeze(-1)).squeeze(-1)

    def _best_of_route(self, point: Point, attended: bool) -> Tensor:
        stream = self.program.routes[point.update].stream
        total = self._zeros(stream)
        for step in self.chains.steps(point):
            assert isinstance(step, Routed)
            entry = step.entry
            old = self._linked(entry.stream, step.links, attended)
            worth = old[entry.samples, entry.old] * entry.shares.abs().to(old)
            flat = (entry.samples * total.shape[1] + entry.new).to(total.device)
            total.view(-1).scatter_reduce_(0, flat, worth, "amax")
        made = self.chains.made(point)
        if made is not None and attended:
            here = Link(stream, None, made)
            total = torch.maximum(total, self._by_link(here, attended))
        return total

    def _zeros(self, stream: int) -> Tensor:
        return self.chains._zeros(stream)

    # -- the search ---------------------------------------------------------------------------------

    def strongest(self, k: int) -> Iterator[Found]:
        """The k strongest chains that pass a node, the strongest first."""
        count = itertools.count()  # of equal ones, the first found
        queue: list[tuple[float, int, float, _At | Place, tuple[Step, ...], Place]] = []

        def push(bound: float, worth: float, at: _At | Place, steps: tuple[Step, ...], s: Place):  # type: ignore[no-untyped-def]
            if bound:
                heapq.heappush(queue, (-abs(bound), next(count), worth, at, steps, s))

        for share in self.chains.shares:
            for link in self.chains.starts[share.stream, share.version]:
                if link.to is None:
                    continue
                bound = float(self._by_link(link, False)[share.sample, share.position])
                first = _At(link.to, share.sample, share.position)
                push(bound * share.share, share.share, first, (), (share.stream, share.position))
        found = 0
        while queue and found < k:
            _, _, worth, at, steps, start = heapq.heappop(queue)
            if not isinstance(at, _At):
                found += 1
                yield Found(start, steps, at, worth)
                continue
            for bound, factor, to, step in self._continued(at, k):
                more = steps if step is None else (*steps, step)
                push(worth * bound, worth * factor, to, more, start)

    def _continued(self, at: _At, k: int) -> Iterator[Way]:
        """The k best ways on: bound, factor, where to, and the step taken."""
        made: Iterator[Way]
        if self.chains.node(at.point) is None:
            made = self._along_route(at)
        elif at.asked is None:
            made = self._choosing(at)
        else:
            made = self._through_node(at, k)
        return iter(heapq.nlargest(k, made, key=lambda way: abs(way[0])))

    def _choosing(self, at: _At) -> Iterator[Way]:
        """Which of a node's steps, and by equation 10 from which query on."""
        for i, step in enumerate(self.chains.steps(at.point)):
            assert isinstance(step, Attended)
            best = self._of_step[at.point, i][at.sample]
            if step.own is None:
                yield float(best[at.position]), 1.0, at._replace(asked=i), None
                continue
            weights = step.own[at.sample, :, at.position]
            for j in (weights * best).nonzero().flatten().tolist():
                to = at._replace(asked=i, position=j)
                yield float(weights[j] * best[j]), float(weights[j]), to, None

    def _through_node(self, at: _At, k: int) -> Iterator[Way]:
        """By which head to which key."""
        node, step = self.chains.node(at.point), self.chains.steps(at.point)[at.asked or 0]
        assert node is not None
        assert isinstance(step, Attended)
        bounds, block = self._keys(node, step), step.block
        divided = step.divided(torch.ones_like(self._born[block.stream]).unsqueeze(-1))
        for group, head_of, weights in self._rows(node, at):
            worth = weights.abs() * bounds[group]
            best = worth.flatten().topk(min(k, worth.numel()))
            for place in best.indices[best.values > 0].tolist():
                head, column = divmod(place, worth.shape[1])
                key = int(block.columns[group, column])
                factor = float(weights[head, column] * divided[at.sample, key, 0])
                taken = Step(
                    node.info.name,
                    int(head_of[head, column if head_of.shape[1] > 1 else 0]),
                    (node.stream, at.position),
                    (block.stream, key),
                    factor,
                )
                yield from self._on(step.links, at.sample, key, factor, taken, True)

    def _rows(self, node: ProgramNode, at: _At) -> Iterator[tuple[int, Tensor, Tensor]]:
        """A token's rows of a node's map, (heads, keys), with their token group and heads."""
        here = (node.samples.unsqueeze(1) == at.sample) & (node.rows == at.position)
        groups, queries = here.nonzero().unbind(1)
        wanted = queries.unique()
        numbers, fold = head_numbers(node), node.layout.fold
        for places, weighed in self.chains.rules.maps.of(node.index).by_head(wanted):
            of_tile = torch.arange(here.shape[1])[places].tolist()
            for group, query in zip(groups.tolist(), queries.tolist(), strict=True):
                if query not in of_tile:
                    continue
                share = node.layout.shares
                factor = head_factor(node.layout) * float(
                    1 if share is None else share[group, query]
                )
                own = [group] if fold is None else (fold == group).nonzero().flatten().tolist()
                for g in own:
                    number = numbers[g if len(numbers) > 1 else 0]
                    number = number[:, query if number.shape[1] > 1 else 0]
                    yield group, number, weighed[g, :, of_tile.index(query)] * factor

    def _along_route(self, at: _At) -> Iterator[Way]:
        route = self.program.routes[at.point.update]
        query = (route.stream, at.position)
        for step in self.chains.steps(at.point):
            assert isinstance(step, Routed)
            entry = step.entry
            here = (entry.samples == at.sample) & (entry.new == at.position)
            for old, share in zip(
                entry.old[here].tolist(), entry.shares[here].tolist(), strict=True
            ):
                taken = Step(route.info.name, None, query, (entry.stream, old), share)
                yield from self._on(step.links, at.sample, old, share, taken, at.attended)
        made = self.chains.made(at.point)
        if made is not None and at.attended and bool(made.mask[at.sample, at.position]):
            born = float(self._born[route.stream][at.sample, at.position])
            yield born, born, query, Step(route.info.name, None, query, query, 1.0)

    def _on(
        self,
        links: Iterable[Link],
        sample: int,
        position: int,
        factor: float,
        taken: Step,
        attended: bool,
    ) -> Iterator[Way]:
        """Where a token goes on that was heard."""
        for link in links:
            bound = float(self._by_link(link, attended)[sample, position])
            if not bound:
                continue
            if link.to is None:
                yield factor * bound, factor * bound, (link.stream, position), taken
            else:
                yield factor * bound, factor, _At(link.to, sample, position, None, attended), taken
