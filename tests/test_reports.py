"""Reports: readable with colour and without, at any width, in any encoding."""

import builtins
import io
import re
import sys
import types
from dataclasses import replace

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from fxplain import AttentionGraph, AttentionNode, Explanation
from fxplain.errors import InputError
from fxplain.program import RouteNode
from fxplain.program.attention_graph import CaptureInfo, StreamInfo
from fxplain.reports import GreyImage, ShadedGrid, to_rich, to_text
from fxplain.tokens import RejectedSoftmax

WORDS = ["[CLS]", "a", "[red]", "[/bold]", "bro\nken", "\x1b[31m", "word", "[PAD]", "[PAD]"]


def node(number, query="input_ids", key="pixel_values", kind="co"):
    module = f"model.some_encoder.layers.{number}.cross_attention"
    return AttentionNode(
        module, module, kind, (query,), (key,), 4, 9, 17, "fused", query, (key,)
    )  # fmt: skip


def make_graph(**changes):
    graph = AttentionGraph(
        model="SomeModel",
        nodes=tuple(node(i) for i in range(3)),
        routes=(),
        streams=(
            StreamInfo("input_ids", 9, ("input_ids",)),
            StreamInfo("pixel_values", 17, ("pixel_values",)),
        ),
        modalities={"input_ids": 9, "pixel_values": 17},
        readout="input_ids[0]",
        rejected=(),
        warnings=(),
        capture=CaptureInfo("export", ()),
    )
    return replace(graph, **changes)


def make_explanation(**changes):
    words = torch.tensor([1.5, 0.1, 0.4, 0.2, 0.05, 0.05, 0.2, 0.0, 0.0])
    patches = torch.arange(17.0) / 100
    explanation = Explanation(
        relevance={"input_ids": words[None], "pixel_values": patches[None]},
        graph=make_graph(),
        method="generic",
        target=(3,),
        readout=("input_ids[0]",),
        scores=torch.tensor([1.25]),
        output=None,
        labels={
            "input_ids": [WORDS],
            "pixel_values": [["cls_token", *(f"{i // 4},{i % 4}" for i in range(16))]],
        },
        special={"input_ids": {}, "pixel_values": {0: "vit.embeddings.cls_token"}},
        grids={"input_ids": (), "pixel_values": (4, 4)},
        matrix_of=lambda a, b: torch.zeros(1, 1, 1),
    )
    return replace(explanation, **changes)


def in_colour(renderable, width=80, **options):
    page = io.StringIO()
    options = {"color_system": "truecolor", "force_terminal": True, **options}
    Console(file=page, width=width, **options).print(renderable)
    return page.getvalue()


# ---- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("make", [make_graph, make_explanation])
def test_no_line_is_wider_than_asked(make, width):
    text = to_text(make(), width)
    assert max(map(cell_len, text.splitlines())) <= width


def make_wide_graph():
    """Everything that a graph can hold, with names that fill a line of 80 and more."""
    long = "model.a_rather_long_name_of_an_encoder.layers_of_the_encoder"
    steps = (replace(node(i), name=f"{long}.{i}.attn", module=f"{long}.{i}.attn") for i in range(3))
    return make_graph(
        nodes=tuple(steps),
        routes=(RouteNode("linear_3", f"{long}.merge", "linear", ("input_ids",), "stream_2"),),
        streams=(*make_graph().streams, StreamInfo("stream_2", 4, ())),
        rejected=(RejectedSoftmax("softmax_9", f"{long}.router", "weights of experts"),),
        warnings=(f"aten.scramble.default in {long}.0 mixes tokens in a way that is not known",),
        capture=CaptureInfo("recorded", ("torch.export: " + "a branch on data, " * 9,)),
    )


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("as_printed", ["colour", "no colour", "piped"])
def test_nothing_is_lost_at_any_width(width, as_printed):
    graph = make_wide_graph()
    if as_printed == "piped":
        text = to_text(graph, width)
    else:
        page = in_colour(to_rich(graph), width, no_color=as_printed == "no colour")
        text = re.sub(r"\x1b\[[0-9;]*m", "", page)
    assert max(map(cell_len, text.splitlines())) <= width
    joined = re.sub(r"[\s│├└─]", "", text)
    said = [node.name for node in graph.nodes]
    said += [route.module for route in graph.routes]
    said += [part for s in graph.rejected for part in (s.name, s.module, s.reason)]
    said += [*graph.warnings, *graph.capture.failures, graph.readout]
    said += [f"{s.name}{s.tokens}tokens" for s in graph.streams]
    for what in said:
        assert re.sub(r"\s", "", what) in joined


@pytest.mark.parametrize("width", [80, 200])
def test_every_word_is_shown_at_any_width(width):
    words = [f"word{i}" for i in range(100)]
    e = make_explanation(
        relevance={"input_ids": torch.rand(1, 100) + 0.1}, labels={"input_ids": [words]}
    )
    lines = to_text(e, width).splitlines()
    assert [w for line in lines for w in line.split() if re.fullmatch(r"word\d+", w)][:100] == words


def test_print_is_plain_text_in_a_notebook_too(monkeypatch):
    plain = str(make_explanation())

    class ZMQInteractiveShell:
        """What rich takes for a notebook."""

    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    assert Console().is_jupyter
    assert str(make_explanation()) == plain


def test_rich_shows_the_report_in_a_notebook(monkeypatch):
    shown = []
    display = types.SimpleNamespace(display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    labels = {**make_explanation().labels, "input_ids": [["<script>x</script>", *WORDS[1:]]]}
    Console(force_jupyter=True, width=80).print(make_explanation(labels=labels))
    page = shown[0]._repr_mimebundle_([], [])["text/html"]
    assert "Explanation of" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("make", [make_graph, make_explanation])
def test_print_gives_the_report_without_colour(make):
    result = make()
    assert str(result) == to_text(result)
    assert "\x1b" not in str(result)


@pytest.mark.parametrize("make", [make_graph, make_explanation])
def test_a_narrow_encoding_gets_plain_characters(make, monkeypatch):
    words = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", words)
    text = to_text(make(), 80)
    monkeypatch.undo()
    assert text.isascii()


def test_nothing_else_has_a_report():
    with pytest.raises(InputError, match="no report for a dict"):
        to_rich({})


# ---- the attention graph --------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 200])
def test_graph_shows_every_node_in_order(width):
    lines = to_text(make_graph(), width).splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("#")) :]
    modules = [line.split()[-1] for line in table if "cross_attention" in line]
    assert modules == [node(i).module for i in range(3)]
    assert sum("input_ids <- pixel_values" in line and "9 x 17" in line for line in lines) == 3


def tree_lines(graph):
    lines = to_text(graph, 120).splitlines()
    first, last = lines.index("SomeModel"), next(i for i, x in enumerate(lines) if x[:1] == "#")
    return [line.strip("│├└─ ") for line in lines[first + 1 : last - 1]]


def test_repeated_layers_are_one_line_of_the_tree():
    same = [node(i, key="input_ids", kind="self") for i in (0, 1, 2, 4)]
    other = replace(node(5, key="input_ids", kind="self"), heads=8)
    assert tree_lines(make_graph(nodes=(*same, other))) == [
        "input_ids  9 tokens",
        "model.some_encoder.layers",
        "[0..2].cross_attention  self, 4 heads, 9 x 17",
        "4.cross_attention  self, 4 heads, 9 x 17",
        "5.cross_attention  self, 8 heads, 9 x 17",
        "pixel_values  17 tokens",
    ]


def test_a_module_that_is_called_again_is_one_line_of_the_tree():
    first = replace(node(0, key="input_ids", kind="self"), name="layer.attention")
    calls = (first, *(replace(first, name=f"layer.attention#{i}") for i in (2, 3)))
    assert "layer.attention#[1..3]  self, 4 heads, 9 x 17" in tree_lines(make_graph(nodes=calls))


def test_layers_of_several_attentions_are_a_branch():
    layers = [
        replace(step, name=f"decoder.{i}.{name}")
        for i in range(2)
        for step, name in ((node(i, key="input_ids", kind="self"), "own"), (node(i), "cross"))
    ]
    assert tree_lines(make_graph(nodes=tuple(layers)))[1:4] == [
        "decoder.[0..1]",
        "own  self, 4 heads, 9 x 17",
        "cross  co <- pixel_values, 4 heads, 9 x 17",
    ]


def test_graph_says_what_was_found():
    text = to_text(make_graph(nodes=(node(0), node(1, key="input_ids", kind="self"))), 80)
    for expected in (
        "AttentionGraph of SomeModel",
        "2 attention nodes: 1 co, 1 self",
        "input_ids: 9 tokens",
        "pixel_values: 17 tokens",
        "input_ids[0]",
        "export",
    ):
        assert expected in text


def test_graph_without_attention():
    assert "No attention was found" in to_text(make_graph(nodes=()), 80)


def test_graph_shows_routes_streams_and_rejected_softmaxes():
    text = to_text(
        make_graph(
            routes=(RouteNode("linear_3", "layers.0.merge", "linear", ("input_ids",), "stream_2"),),
            streams=(*make_graph().streams, StreamInfo("stream_2", 4, ())),
            rejected=(RejectedSoftmax("softmax_9", "moe.router", "weights of experts"),),
        ),
        80,
    )
    assert "stream_2: 4 tokens, made by a route" in text
    assert "stream_2 <- input_ids" in text
    assert "layers.0.merge" in text
    for part in ("softmax_9", "moe.router", "weights of experts"):
        assert part in text


def test_graph_shows_how_the_model_was_captured():
    captured = CaptureInfo("record", ("torch.export: a branch on data",))
    assert "after torch.export: a branch on data" in to_text(make_graph(capture=captured), 80)


@pytest.mark.parametrize("make", [lambda g: g, lambda g: make_explanation(graph=g)])
def test_warnings_come_before_anything_else(make):
    lines = to_text(make(make_graph(warnings=("[op] mixes tokens",))), 80).splitlines()
    assert lines[1] == "WARNING: [op] mixes tokens"


# ---- the explanation ------------------------------------------------------------------------------


def test_user_text_is_shown_as_it_is():
    text = to_text(make_explanation(), 80)
    assert "[red]" in text
    assert "[/bold]" in text
    assert r"bro\nken" in text
    assert r"\x1b[31m" in text


def test_explanation_says_what_was_explained():
    text = to_text(make_explanation(), 80)
    assert "Explanation of SomeModel" in text
    assert "sample 0: target 3 ---" in text
    assert "score 1.25, read from input_ids[0]" in text
    assert "relevance 1 in all, besides 1.5 of the readout token itself" in " ".join(text.split())


def test_words_show_their_share_without_the_readout_token():
    lines = to_text(make_explanation(), 120).splitlines()
    words = next(i for i, line in enumerate(lines) if "[CLS]" in line)
    assert lines[words].split() == [
        "[CLS]",
        "a",
        "[red]",
        "[/bold]",
        r"bro\nken",
        r"\x1b[31m",
        "word",
    ]
    assert lines[words + 1].split() == ["(read)", "▂10%", "█40%", "▄20%", "▁5%", "▁5%", "▄20%"]
    assert "(then 2 times [PAD] without relevance)" in lines[words + 2]


def test_top_tokens_are_ranked_with_numbers():
    lines = to_text(make_explanation(), 80).splitlines()
    first = next(line for line in lines if line.strip().startswith("1  "))
    assert first.split()[1] == "[red]"
    assert first.split()[-2:] == ["0.4000", "40%"]


def test_grid_and_special_tokens():
    text = to_text(make_explanation(), 80)
    assert "special tokens: 0 is vit.embeddings.cls_token" in text
    assert "█12%" in text
    assert "1  3,3" in text


def test_target_names_are_shown():
    page = io.StringIO()
    Console(file=page, width=80).print(to_rich(make_explanation(target_names=("[b]cat",))))
    assert "target 3 ([b]cat)" in page.getvalue()


def test_object_queries_get_an_index_tuple():
    assert "target 3, 7" in to_text(make_explanation(target=((3, 7),)), 80)


def test_ids_without_a_tokenizer_are_ranked_with_their_places():
    labels = {**make_explanation().labels, "input_ids": [[str(100 + i % 3) for i in range(9)]]}
    assert "1  2: 102" in to_text(make_explanation(labels=labels), 80)


def test_long_texts_are_cut_and_say_so():
    count = 300
    text = to_text(
        make_explanation(
            relevance={"input_ids": torch.rand(1, count) + 0.1},
            labels={"input_ids": [[f"w{i}" for i in range(count)]]},
        ),
        80,
    )
    assert "a text of 300 tokens is not shown" in text
    assert "… 294 more tokens: " in text


def test_large_batches_are_cut_and_say_so():
    one = make_explanation()
    batch = make_explanation(
        relevance={k: v.repeat(11, 1) for k, v in one.relevance.items()},
        target=(3,) * 11,
        readout=one.readout * 11,
        scores=torch.ones(11),
        labels={k: v * 11 for k, v in one.labels.items()},
    )
    text = to_text(batch, 80)
    assert "sample 7:" in text
    assert "sample 8:" not in text
    assert "(3 more samples are not shown" in text


def test_a_modality_without_relevance():
    relevance = {**make_explanation().relevance, "pixel_values": torch.zeros(1, 17)}
    assert "pixel_values  17 tokens, relevance 0 in all" in to_text(
        make_explanation(relevance=relevance), 80
    )


def test_negative_relevance_keeps_its_sign():
    relevance = {"input_ids": torch.tensor([[0.0, -0.5, 0.25, 0, 0, 0, 0, 0, 0]])}
    text = to_text(make_explanation(relevance=relevance), 80)
    assert "-0.5000  −67%" in text
    assert "relevance -0.25 in all: 0.25 for, 0.5 against" in text
    assert "0.2500   33%" in text


def test_colour_shades_the_largest_most():
    page = in_colour(to_rich(make_explanation()))
    assert "48;2;254;232;56m[red]" in page  # the top of cividis


def test_no_color_is_respected():
    assert "48;2" not in in_colour(to_rich(make_explanation()), no_color=True)


# ---- drawings -------------------------------------------------------------------------------------


def drawn(renderable, width=80):
    page = io.StringIO()
    Console(file=page, width=width, color_system=None).print(renderable)
    return page.getvalue().splitlines()


def test_a_large_grid_is_drawn_smaller_and_says_so():
    values = torch.zeros(64, 64)
    values[63, 0] = 1
    lines = drawn(ShadedGrid(values))
    assert len(lines) == 33
    assert lines[31].startswith("██")
    assert "drawn as 32 x 32: each cell is the mean of 2 x 2 of the 64 x 64 tokens" in lines[32]


def test_a_grid_of_zeros():
    assert drawn(ShadedGrid(torch.zeros(2, 2)))[0].split() == ["0%", "0%"]


def test_grey_image_without_colour():
    assert drawn(GreyImage(torch.tensor([[0.0, 0.6], [1.0, 0.0]]))) == ["  ++", "@@  "]


def test_grey_image_in_colour_is_half_as_high():
    page = in_colour(GreyImage(torch.tensor([[0.0, 0.5], [1.0, 0.0], [1.0, 1.0]])))
    assert page.count("▀") == 4
    assert "38;2;0;0;0;48;2;255;255;255m▀" in page
