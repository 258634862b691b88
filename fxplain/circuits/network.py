"""The network of a circuit: components that read each other, run with some edges as they are corrupted.

An edge brings what one unit says to what another reads: to the queries, keys or values of a head, to a
layer, to the output. In a circuit, edges that are left out bring what the unit says for the corrupted
inputs, and what follows from that is computed anew (path patching).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxplain.circuits.components import OUTPUT, Component, Reader, Unit, components_of
from fxplain.circuits.fragments import Fragments
from fxplain.errors import NoGradientError
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.interventions.replacements import Given

__all__ = ["Edge", "Network"]


@dataclass(frozen=True)
class Edge:
    """What one unit says, as another reads it.

    Attributes
    ----------
    source, target
        The units.
    slot
        What it is read as: "q", "k", "v" of a head ("qk" where these are not apart), or "in".
    """

    source: Unit
    target: Unit
    slot: str

    def __str__(self) -> str:
        slot = "" if self.slot == "in" else f" ({self.slot})"
        return f"{self.source} -> {self.target}{slot}"


class Network:
    """A model's components for clean inputs, and what they say for corrupted ones.

    Parameters
    ----------
    given, corrupted
        Both inputs with the sites of their capture.
    target
        The score.
    """

    def __init__(self, given: Given, corrupted: Given, target: ResolvedTarget) -> None:
        self.target = target
        self.components, readers = components_of(given)
        self.leaves = [component.node for component in self.components]
        self.fragments = Fragments(given, self.leaves)
        (output,) = (n for n in given.capture.graph.nodes if n.op == "output")
        self.outputs: list[fx.Node] = list(output.args[0])
        self.readers = [*readers, Reader((Unit("output", OUTPUT),), {}, None)]
        points = {component.point for component in self.components}
        clean, other = given.noted(points), corrupted.noted(points)
        self.clean = {c.node: clean[c.point] for c in self.components}
        self.corrupted = {c.node: other[c.point] for c in self.components}
        self.units = list(dict.fromkeys(u for c in self.components for u in c.units))
        self._place = {unit: i for i, unit in enumerate(self.units)}
        self._unit_at = {
            c.node: torch.tensor([self._place[unit] for unit in c.units])[c.unit_of]
            for c in self.components
        }
        self.readers = [self._through_slots(reader) for reader in self.readers]
        self._sources = {id(reader): self._reads(reader) for reader in self.readers}
        self.edges = tuple(dict.fromkeys(self._edges()))

    def _through_slots(self, reader: Reader) -> Reader:
        """A reader whose slots are all that it reads, or that has one slot for everything."""
        if reader.made is None:
            return reader
        between = self.fragments.plan([reader.made.node], reader.slots.values())
        if set(between) & (set(self.leaves) - {reader.made.node}):
            return Reader(reader.units, {"in": reader.made.node}, reader.made)
        return reader

    def _edges(self) -> Iterator[Edge]:
        for reader in self.readers:
            for slot, read in self._sources[id(reader)].items():
                for unit in reader.units:
                    for component in self.components:
                        if component.node in read:
                            for source in component.units:
                                yield Edge(source, unit, slot)

    def _reads(self, reader: Reader) -> dict[str, set[fx.Node]]:
        """By slot, the components that are read."""
        leaves = set(self.leaves)
        if reader.made is None:
            found = (self.fragments.sources(output, leaves) for output in self.outputs)
            return {"in": set().union(*found)}
        own = reader.made.node
        return {
            slot: self.fragments.sources(node, leaves - {own})
            for slot, node in reader.slots.items()
        }

    # -- a run with some edges ----------------------------------------------------------------------

    def score(self, kept: frozenset[Edge] | set[Edge]) -> Tensor:
        """(batch,) the score where all other edges bring what the corrupted inputs say."""
        by_reader: dict[tuple[Unit, str], list[Unit]] = {}
        for edge in kept:
            by_reader.setdefault((edge.target, edge.slot), []).append(edge.source)

        def rows(reader: Reader, slot: str) -> Tensor:
            table = torch.zeros(len(reader.units), len(self.units), dtype=torch.bool)
            for i, unit in enumerate(reader.units):
                table[i, [self._place[u] for u in by_reader.get((unit, slot), ())]] = True
            return table

        current = {
            c.node: self.clean[c.node] for c in self.components if c.units[0].kind == "input"
        }
        with torch.no_grad():
            for reader in self.readers[:-1]:
                assert reader.made is not None
                tables = {slot: rows(reader, slot) for slot in reader.slots}
                current[reader.made.node] = self._made(reader, reader.made, tables, current)
            values = self._mixed(rows(self.readers[-1], "in")[0], current)
            return self.target.value(self.fragments.run(self.outputs, values))

    def _mixed(self, kept: Tensor, current: Mapping[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
        """What components say: now where they are kept, for the corrupted inputs elsewhere."""
        mixed = {}
        for component in self.components:
            node = component.node
            if node in current:
                own = kept[self._unit_at[node]]
                mixed[node] = torch.where(
                    own.to(current[node].device), current[node], self.corrupted[node]
                )
        return mixed

    def _made(
        self,
        reader: Reader,
        made: Component,
        tables: Mapping[str, Tensor],
        current: Mapping[fx.Node, Tensor],
    ) -> Tensor:
        """A component, each of its units from what its own edges bring."""
        silent = ~torch.stack([table.any(1) for table in tables.values()]).any(0)
        if bool(silent.all()):
            return self.corrupted[made.node]

        def one(kept: Mapping[str, Tensor]) -> Tensor:
            read = {slot: self._mixed(rows, current) for slot, rows in kept.items()}
            return self._computed(reader, made, read)

        units = (~silent).nonzero().flatten()
        lanes = {slot: table[units] for slot, table in tables.items()}
        found = _each(one, lanes, len(units))
        result = self.corrupted[made.node]
        for lane, unit in enumerate(units.tolist()):
            result = torch.where((made.unit_of == unit).to(result.device), found[lane], result)
        return result

    def _computed(
        self, reader: Reader, made: Component, read: Mapping[str, Mapping[fx.Node, Tensor]]
    ) -> Tensor:
        """A component from what each of its slots reads."""
        if set(reader.slots) == {"in"}:
            (result,) = self.fragments.run([made.node], read["in"])
        else:
            operands = {
                node: self.fragments.run([node], read[slot])[0]
                for slot, node in reader.slots.items()
            }
            (result,) = self.fragments.run([made.node], operands)
        assert isinstance(result, Tensor)
        return result

    # -- edge attribution ---------------------------------------------------------------------------

    def attributed(self, steps: int) -> dict[Edge, float]:
        """What corrupting each edge does to the mean score, to first order: edge attribution patching.

        With gradients averaged on the way from the corrupted inputs to the clean ones (Hanna et al.,
        "Have Faith in Faithfulness", 2024), since where a softmax is sure it has none.
        """
        total = dict.fromkeys(self.edges, 0.0)
        for step in range(steps):
            share = 1.0 if steps == 1 else step / (steps - 1)
            for edge, value in self._swept(share).items():
                total[edge] += value / steps
        return total

    def _swept(self, share: float) -> dict[Edge, float]:
        """One sweep from the output back, at inputs that are clean by a share."""
        current = {
            c.node: torch.lerp(self.corrupted[c.node], self.clean[c.node], share)
            for c in self.components
            if c.units[0].kind == "input"
        }
        with torch.no_grad():
            for reader in self.readers[:-1]:
                assert reader.made is not None
                read = {slot: dict(current) for slot in reader.slots}
                current[reader.made.node] = self._computed(reader, reader.made, read)
        gradients: dict[fx.Node, Tensor] = {}
        found: dict[Edge, float] = {}
        for reader in reversed(self.readers):
            for unit, slot, node, gradient in self._brought(reader, current, gradients):
                gradients[node] = gradients[node] + gradient if node in gradients else gradient
                change = (self.corrupted[node] - self.clean[node]) * gradient
                (component,) = (c for c in self.components if c.node is node)
                of_unit = component.unit_of.to(change.device).expand(change.shape).flatten()
                sums = change.new_zeros(len(component.units)).index_add(
                    0, of_unit, change.flatten()
                )
                for source, value in zip(component.units, sums.tolist(), strict=True):
                    edge = Edge(source, unit, slot)
                    found[edge] = found.get(edge, 0.0) + value / len(self.target.scores)
        return found

    def _brought(
        self,
        reader: Reader,
        current: Mapping[fx.Node, Tensor],
        gradients: Mapping[fx.Node, Tensor],
    ) -> Iterator[tuple[Unit, str, fx.Node, Tensor]]:
        """d(score)/d(component) by way of each unit and slot of a reader."""
        if reader.made is not None and reader.made.node not in gradients:
            return
        reads = self._sources[id(reader)]
        with torch.enable_grad():
            read = {
                slot: {n: current[n].detach().requires_grad_() for n in nodes}
                for slot, nodes in reads.items()
            }
            points = [(slot, n, leaf) for slot, own in read.items() for n, leaf in own.items()]
            for unit, tensors, seeds in self._seeded(reader, read, gradients):
                found = torch.autograd.grad(
                    tensors, [p for _, _, p in points], seeds, allow_unused=True, retain_graph=True
                )
                for (slot, node, _), gradient in zip(points, found, strict=True):
                    if gradient is not None:
                        yield unit, slot, node, gradient

    def _seeded(
        self,
        reader: Reader,
        read: Mapping[str, Mapping[fx.Node, Tensor]],
        gradients: Mapping[fx.Node, Tensor],
    ) -> Iterator[tuple[Unit, list[Tensor], list[Tensor]]]:
        """For each unit of a reader, tensors and the gradients that come down to them."""
        if reader.made is None:
            outputs = self.fragments.run(self.outputs, read["in"])
            leaves, seeds = self.target.seeds(outputs, None)
            pairs = [(a, b) for a, b in zip(leaves, seeds, strict=True) if a.requires_grad]
            if not pairs:
                raise NoGradientError("the score does not depend on any component of the model.")
            yield reader.units[0], [a for a, _ in pairs], [b for _, b in pairs]
            return
        result = self._computed(reader, reader.made, read)
        if not result.requires_grad:
            return
        for i, unit in enumerate(reader.units):
            own = (reader.made.unit_of == i).to(result.device)
            yield unit, [result], [torch.where(own, gradients[reader.made.node], 0)]


def _each(
    one: Callable[[Mapping[str, Tensor]], Tensor], lanes: Mapping[str, Tensor], count: int
) -> Sequence[Tensor]:
    """A function of each lane: all at once where the operations allow it."""
    if count > 1:
        try:
            return list(torch.func.vmap(one)(dict(lanes)))
        except (RuntimeError, NotImplementedError, ValueError):  # no rule for lanes
            pass
    return [one({slot: rows[i] for slot, rows in lanes.items()}) for i in range(count)]
