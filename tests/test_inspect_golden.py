"""What detection finds in well-known architectures, one text for each in `golden/inspect`.

After a change that is meant, write the texts anew and read the difference:

    FXPLAIN_WRITE_GOLDEN=1 python -m pytest tests/test_inspect_golden.py
"""

import io
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console
from torch import nn
from transformers import LxmertConfig, LxmertForQuestionAnswering

import fxplain
from fxplain.reports.graph_tree import graph_tree
from tests.architectures.case import Inputs, draw, randomise
from tests.small_models import architecture

FOLDER = Path(__file__).parent / "golden" / "inspect"
NAMES = [
    "bert", "vit", "lxmert", "visual_bert", "t5", "bart", "detr", "clip", "gpt2", "llama",
    "whisper", "swin",
]  # fmt: skip


@cache
def lxmert(words: int = 7, boxes: int = 7) -> tuple[nn.Module, Inputs]:
    """2 language, 2 vision and 2 cross layers; as many boxes as words."""
    config = LxmertConfig(
        vocab_size=40,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=48,
        num_qa_labels=9,
        l_layers=2,
        r_layers=2,
        x_layers=2,
        visual_feat_dim=12,
        max_position_embeddings=16,
    )
    ids, normal = draw(1)
    inputs = {
        "input_ids": ids(1, 40, 1, words),
        "visual_feats": normal(1, boxes, 12),
        "visual_pos": normal(1, boxes, 4).sigmoid(),
    }
    return randomise(LxmertForQuestionAnswering(config), 1), inputs


@cache
def inspected(name: str) -> fxplain.AttentionGraph:
    model, inputs = lxmert() if name == "lxmert" else architecture(name)
    return fxplain.inspect(model, inputs)


def sides(node: fxplain.AttentionNode) -> str:
    query, key = "+".join(node.query), "+".join(node.key)
    return query if node.kind == "self" and query == key else f"{query} to {key}"


def tree_of(graph: fxplain.AttentionGraph) -> list[str]:
    page = io.StringIO()
    Console(file=page, width=200, color_system=None).print(graph_tree(graph))
    return [line.rstrip() for line in page.getvalue().splitlines()]


def text_of(graph: fxplain.AttentionGraph) -> str:
    """The whole of a graph, one line for each thing, no more layout than that."""
    counts = Counter(f"{node.kind} {sides(node)}" for node in graph.nodes)
    lines = [
        f"{graph.model}, captured by {graph.capture.route}",
        f"readout: {graph.readout}",
        f"{len(graph.nodes)} attention nodes: "
        + "; ".join(f"{count} {what}" for what, count in counts.items()),
        "",
        "modalities",
        *(f"  {name}: {tokens} tokens" for name, tokens in graph.modalities.items()),
        "streams",
        *(
            f"  {stream.name}: {stream.tokens} tokens of {', '.join(stream.modalities) or 'routes'}"
            for stream in graph.streams
        ),
        "nodes",
        *(
            f"  {node.name}: {node.kind}, {sides(node)}, "
            f"{node.heads} heads, {node.q_len} x {node.k_len}, {node.form}, "
            f"{', '.join(node.key_streams)} -> {node.query_stream}"
            for node in graph.nodes
        ),
        "routes",
        *(
            f"  {route.operation} in {route.module or 'the model'}: "
            f"{', '.join(route.source)} -> {route.target}"
            for route in graph.routes
        ),
        "rejected",
        *(f"  {found.module or 'the model'}: {found.reason}" for found in graph.rejected),
        "warnings",
        *(f"  {warning}" for warning in graph.warnings),
        "tree",
        *(f"  {line}" for line in tree_of(graph)),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_inspection_prints_the_golden_text(name: str) -> None:
    path, text = FOLDER / f"{name}.txt", text_of(inspected(name))
    if os.environ.get("FXPLAIN_WRITE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_each_golden_text_has_its_test() -> None:
    assert {path.stem for path in FOLDER.glob("*")} == set(NAMES)


def test_lxmert_has_12_attentions() -> None:
    graph = inspected("lxmert")
    text, image = ("input_ids",), ("visual_feats",)
    assert Counter((node.kind, node.query, node.key) for node in graph.nodes) == {
        ("self", text, text): 4,
        ("self", image, image): 4,
        ("co", text, image): 2,
        ("co", image, text): 2,
    }
    assert graph.readout == "input_ids[0]"
    assert all(node.q_len == node.k_len == 7 for node in graph.nodes)
    assert graph.modalities == {"input_ids": 7, "visual_feats": 7}


def test_detr_has_three_kinds() -> None:
    graph = inspected("detr")
    image, queries = ("pixel_values",), ("model.query_position_embeddings",)
    found = list(dict.fromkeys((node.kind, node.query, node.key) for node in graph.nodes))
    assert found == [
        ("self", image, image),
        ("self", queries, queries),
        ("encoder-decoder", queries, image),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_inspection_says_the_same_again(name: str) -> None:
    """Names, order and numbers do not depend on the run."""
    model, inputs = lxmert() if name == "lxmert" else architecture(name)
    assert text_of(fxplain.inspect(model, inputs)) == text_of(inspected(name))


@pytest.mark.parametrize("name", ["lxmert", "detr", "swin"])
def test_to_networkx(name: str) -> None:
    graph = inspected(name)
    drawn = graph.to_networkx()
    types = Counter(kind for _, kind in drawn.nodes(data="type"))
    assert types["attention"] == len(graph.nodes)
    assert types["stream"] == len(graph.streams)
    assert types["route"] == len(graph.routes)
    for order, node in enumerate(graph.nodes):
        facts = drawn.nodes[node.name]
        assert facts["order"] == order
        assert facts["kind"] == node.kind
        assert facts["query"] == list(node.query)
        (updated,) = drawn.successors(node.name)
        assert updated == node.query_stream
        assert drawn.edges[node.name, updated]["role"] == "update"
        read = {s: drawn.edges[s, node.name]["role"] for s in drawn.predecessors(node.name)}
        keys = dict.fromkeys(node.key_streams, "key")
        assert read == {node.query_stream: "query"} | keys
    for stream in graph.streams:
        assert drawn.nodes[stream.name]["tokens"] == stream.tokens


def test_the_batch_size_does_not_matter() -> None:
    model, inputs = architecture("bert")
    one = {key: value[:1] for key, value in inputs.items()}
    assert text_of(fxplain.inspect(model, one)) == text_of(inspected("bert"))
