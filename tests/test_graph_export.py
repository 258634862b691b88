"""The attention graph in other programs' languages: each text reads back as what was written."""

import html
import json
import re
from dataclasses import replace

import networkx as nx
import pydot
import pytest

import fxplain
from fxplain.program import RouteNode
from fxplain.program.attention_graph import StreamInfo
from fxplain.tokens import RejectedSoftmax
from test_reports import make_graph, node
from tests.small_models import architecture

HOSTILE = 'a"b]) [<script>&amp;#quot;\\n`x`\nline; n0 --> n1 %% {} | end ü 注'


def hostile() -> fxplain.AttentionGraph:
    step = replace(node(0), name=HOSTILE, module=HOSTILE)
    stream = StreamInfo('words "<b>"', 9, ("input_ids",))
    return make_graph(
        model='My"Model',
        nodes=(replace(step, query_stream=stream.name, key_streams=(stream.name,)),),
        streams=(stream, StreamInfo("made", 1, ())),
        routes=(RouteNode("mean_1", 'pool"]', "mean", (stream.name,), "made"),),
        rejected=(RejectedSoftmax("softmax_1", HOSTILE, "weights of experts"),),
    )


def lxmert() -> fxplain.AttentionGraph:
    return fxplain.inspect(*architecture("lxmert"))


graphs = pytest.mark.parametrize("make", [hostile, lxmert, lambda: make_graph(nodes=())])


@graphs
def test_graphml_reads_back(make):
    graph = make()
    written = graph.to_networkx()
    read = nx.parse_graphml(graph.to_graphml())
    assert read.graph["model"] == graph.model
    assert dict(read.nodes(data="type")) == dict(written.nodes(data="type"))
    assert set(read.edges(data="role")) == set(written.edges(data="role"))
    for name, facts in written.nodes(data=True):
        for key, value in facts.items():
            found = read.nodes[name][key]
            assert (json.loads(found) if isinstance(value, list) else found) == value


def test_graphml_holds_no_character_that_xml_cannot():
    graph = make_graph(nodes=(replace(node(0), name="a\x1b\x00b"),))
    assert r"a\x1b\x00b" in nx.parse_graphml(graph.to_graphml())


@graphs
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot")
def test_dot_reads_back(make):
    graph = make()
    written = graph.to_networkx()
    (read,) = pydot.graph_from_dot_data(graph.to_dot())
    unquoted = {_unquoted(node.get_name()): node for node in read.get_nodes()}
    drawn = {name: node for name, node in unquoted.items() if node.get("shape") in _SHAPES}
    assert set(drawn) == set(written)
    assert {
        (_unquoted(edge.get_source()), _unquoted(edge.get_destination()))
        for edge in read.get_edges()
    } == set(written.edges)
    for name in written:
        assert _unquoted(drawn[name].get("label")).startswith(name)


_SHAPES = ("box", "ellipse")


def _unquoted(text: str) -> str:
    """What Graphviz shows for a quoted string."""
    if text in ("node", "edge"):  # what all of them are drawn with
        return text
    assert text[0] == text[-1] == '"'
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text[1:-1])


_LABEL = r'"((?:[A-Za-z0-9 .,:_()\[\]/+-]|#\d+;|<br/>|\\x[0-9a-f]{2})*)"'
_MERMAID = {
    "head": r"flowchart TB",
    "node": rf"  (n\d+)(?:\(\[{_LABEL}\]\)|\[{_LABEL}\]):::(\w+)",
    "edge": r"  (n\d+) (-->|-\.->) (n\d+)",
    "class": r"  classDef (\w+) fill:#[0-9A-F]{6},color:#[0-9a-f]{6}",
}


@graphs
def test_mermaid_has_nothing_but_nodes_edges_and_classes(make):
    graph = make()
    written = graph.to_networkx()
    lines = graph.to_mermaid().splitlines()
    assert re.fullmatch(_MERMAID["head"], lines[0])
    found = {"node": [], "edge": [], "class": []}
    for line in lines[1:]:
        (kind,) = [k for k in found if re.fullmatch(_MERMAID[k], line)]
        found[kind].append(re.fullmatch(_MERMAID[kind], line).groups())
    names = {}
    for name, (key, stadium, box, kind) in zip(written, found["node"], strict=True):
        label = re.sub(r"#(\d+);", lambda m: html.unescape(f"&#{m[1]};"), stadium or box)
        assert label.partition("<br/>")[0] == name.replace("\n", " ")
        assert kind in {name for (name,) in found["class"]}
        names[key] = name
    edges = {(names[a], names[b]) for a, _, b in found["edge"]}
    assert edges == set(written.edges)


@graphs
def test_json_reads_back(make):
    graph = make()
    read = fxplain.AttentionGraph.from_dict(json.loads(graph.to_json()))
    assert read.to_dict() == graph.to_dict()
    assert read.nodes == graph.nodes


def test_another_format_is_refused():
    with pytest.raises(fxplain.LoadError, match="'fxplain-graph-1' but 'fxplain-graph-7'"):
        fxplain.AttentionGraph.from_dict({"format": "fxplain-graph-7"})


@pytest.mark.parametrize("name", ["to_graphml", "to_dot", "to_mermaid", "to_json"])
def test_files_hold_the_text(name, tmp_path):
    write = getattr(hostile(), name)
    text = write(tmp_path / "graph")
    assert (tmp_path / "graph").read_text(encoding="utf-8") == text == write()
