"""An attention graph as a tree: streams, and in each its updates by module, repeated layers as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from fxplain.program import AttentionGraph, AttentionNode, RouteNode
from fxplain.reports.shading import printable

__all__ = ["graph_tree"]


def graph_tree(graph: AttentionGraph) -> RenderableType:
    """Streams as branches; beneath each, in program order, what updates it.

    Modules that differ by a number only and do the same are one line: ``layer.[0..11].attention``.
    """
    tree = Tree(Text(printable(graph.model), "bold"), guide_style="dim")
    for stream in graph.streams:
        count = f"  {stream.tokens} token{'' if stream.tokens == 1 else 's'}"
        branch = tree.add(Text.assemble((printable(stream.name), "bold"), (count, "dim")))
        _grow(branch, _merged(_modules(_updates(graph, stream.name))))
    return tree


@dataclass
class _Module:
    """A part of module paths: what happens in it, and its parts by name."""

    facts: list[str] = field(default_factory=list)
    parts: dict[str, _Module] = field(default_factory=dict)


def _updates(graph: AttentionGraph, stream: str) -> Iterator[tuple[str, str]]:
    """(path, what happens) of the nodes and routes that update or make a stream."""
    for route in graph.routes:
        if route.target == stream:
            yield route.module or route.name, _route_facts(route)
    for node in graph.nodes:
        if node.query_stream == stream:
            yield node.name, _node_facts(node)


def _route_facts(route: RouteNode) -> str:
    return f"{route.operation} <- {', '.join(route.source)}"


def _node_facts(node: AttentionNode) -> str:
    others = [name for name in node.key_streams if name != node.query_stream]
    reads = f" <- {', '.join(node.key_streams)}" if others else ""
    heads = f"{node.heads} head{'' if node.heads == 1 else 's'}"
    return f"{node.kind}{reads}, {heads}, {node.q_len} x {node.k_len}"


def _modules(updates: Iterator[tuple[str, str]]) -> _Module:
    """The tree of module paths, parts in the order in which they are first met."""
    root = _Module()
    for path, facts in updates:
        module = root
        for part in path.split("."):
            module = module.parts.setdefault(part, _Module())
        module.facts.append(facts)
    return root


def _merged(module: _Module) -> _Module:
    """The same, with parts merged that are numbered one after the other and do the same."""
    runs: list[tuple[list[str], _Module]] = []
    for name, part in module.parts.items():
        part = _merged(part)
        if runs and _follows(runs[-1][0][-1], name) and runs[-1][1] == part:
            runs[-1][0].append(name)
        else:
            runs.append(([name], part))
    return _Module(module.facts, {_range(names): part for names, part in runs})


def _follows(before: str, name: str) -> bool:
    (stem, number), (next_stem, next_number) = _numbered(before), _numbered(name)
    return stem == next_stem and number + 1 == next_number


def _numbered(name: str) -> tuple[str, int]:
    """A layer's number, or which call of its module an attention is: the second has a name with #2."""
    if name.isdecimal():
        return "", int(name)
    stem, _, call = name.partition("#")
    return f"{stem}#", int(call) if call.isdecimal() else 1


def _range(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    (stem, first), (_, last) = _numbered(names[0]), _numbered(names[-1])
    return f"{stem}[{first}..{last}]"


def _grow(branch: Tree, module: _Module) -> None:
    """Add a module's parts to a branch; a part of one part only is one line with it."""
    for name, part in module.parts.items():
        while len(part.parts) == 1 and not part.facts:
            ((inner, part),) = part.parts.items()
            name = f"{name}.{inner}"
        facts = "".join(f"  {fact}" for fact in part.facts)
        label = Text.assemble(printable(name), (printable(facts), "dim"), overflow="fold")
        _grow(branch.add(label), part)
