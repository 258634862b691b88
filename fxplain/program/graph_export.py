"""An attention graph in the languages that other programs read: GraphML, DOT and Mermaid.

Each writer takes the graph of `AttentionGraph.to_networkx` and gives a text. Names come from the
model and may hold anything; each language has its own way to say what would end a label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fxplain.presentation import KIND_COLOURS, text_colour

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["dot", "graphml", "mermaid"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN = re.compile(r"[A-Za-z0-9 .,:_()\[\]/+-]")
_LINE_END = re.compile(r"\r\n|\r|\n")


# ---- GraphML ------------------------------------------------------------------------------------


def graphml(graph: nx.DiGraph) -> str:
    r"""GraphML, of which `networkx.read_graphml` makes the same graph but for lists.

    GraphML knows numbers and texts only: a list is its JSON text. Characters that XML cannot hold
    are written as Python would, as in ``\x1b``.
    """
    import networkx as nx

    plain = nx.relabel_nodes(graph, {name: _xml_text(name) for name in graph})
    for facts in (
        plain.graph,
        *(f for _, f in plain.nodes(data=True)),
        *(f for *_, f in plain.edges(data=True)),
    ):
        facts.update({key: _xml_value(value) for key, value in facts.items()})
    return "\n".join(nx.generate_graphml(plain)) + "\n"


def _xml_value(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
    return _xml_text(text) if isinstance(text, str) else text


def _xml_text(text: str) -> str:
    return _NOT_XML.sub(lambda found: repr(found[0])[1:-1], text)


# ---- DOT ----------------------------------------------------------------------------------------


def dot(graph: nx.DiGraph) -> str:
    """Graphviz' DOT: streams as ellipses, attention and routes as boxes coloured by kind."""
    lines = [
        f"digraph {_dot_text(str(graph.graph['model']))} {{",
        '  node [fontname="sans-serif", fontsize=11, style=filled];',
        '  edge [color="#56606B"];',
    ]
    for name, facts in graph.nodes(data=True):
        shape = "ellipse" if facts["type"] == "stream" else "box"
        label, colour = _dot_text("\n".join(_label(name, facts))), KIND_COLOURS[_kind(facts)]
        lines.append(
            f"  {_dot_text(name)} [label={label}, shape={shape}, "
            f'fillcolor="{colour}", fontcolor="{text_colour(colour)}"];'
        )
    for source, target, role in graph.edges(data="role"):
        style = "solid" if role == "update" else "dashed"
        lines.append(f"  {_dot_text(source)} -> {_dot_text(target)} [style={style}];")
    return "\n".join([*lines, "}", ""])


def _dot_text(text: str) -> str:
    r"""A quoted string of DOT, in which a backslash and a quote are escaped, a line's end is \n."""
    escaped = _LINE_END.sub("\n", text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\0", "\\\\0") + '"'


# ---- Mermaid ------------------------------------------------------------------------------------


def mermaid(graph: nx.DiGraph) -> str:
    """A Mermaid flowchart: streams as stadiums, attention and routes as boxes coloured by kind."""
    ids = {name: f"n{i}" for i, name in enumerate(graph)}
    lines = ["flowchart TB"]
    for name, facts in graph.nodes(data=True):
        opening, closing = ("([", "])") if facts["type"] == "stream" else ("[", "]")
        label = "<br/>".join(_mermaid_text(line) for line in _label(name, facts))
        kind = _kind(facts).replace("-", "_")
        lines.append(f'  {ids[name]}{opening}"{label}"{closing}:::{kind}')
    for source, target, role in graph.edges(data="role"):
        arrow = "-->" if role == "update" else "-.->"
        lines.append(f"  {ids[source]} {arrow} {ids[target]}")
    for kind, colour in KIND_COLOURS.items():
        lines.append(
            f"  classDef {kind.replace('-', '_')} fill:{colour},color:{text_colour(colour)}"
        )
    return "\n".join([*lines, ""])


def _mermaid_text(text: str) -> str:
    """A label of Mermaid: whatever could mean something in it is written by its code point."""
    return "".join(c if _PLAIN.match(c) else _mermaid_character(c) for c in text)


def _mermaid_character(character: str) -> str:
    if character in "\r\n\t":
        return " "
    return f"#{ord(character)};" if character.isprintable() else f"\\x{ord(character):02x}"


# ---- both ---------------------------------------------------------------------------------------


def _kind(facts: Mapping[str, Any]) -> str:
    """The key of its colour."""
    return str(facts["kind"] if facts["type"] == "attention" else facts["type"])


def _label(name: str, facts: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a node's label."""
    yield name
    if facts["type"] == "stream":
        yield f"{facts['tokens']} token{'' if facts['tokens'] == 1 else 's'}"
    elif facts["type"] == "attention":
        yield f"{facts['kind']}, {facts['heads']} heads, {facts['q_len']} x {facts['k_len']}"
    elif facts["module"]:
        yield str(facts["module"])
