"""Plots: what is drawn is the relevance, where it belongs, and looks as it did.

After a change that is meant, write the golden pictures anew and look at them:

    FXPLAIN_WRITE_GOLDEN=1 python -m pytest tests/test_plots.py
"""

import io
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import fxplain
from fxplain.program import RouteNode
from fxplain.program.attention_graph import StreamInfo
from test_reports import WORDS, make_explanation, make_graph, node
from tests.small_models import architecture

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.testing.compare import compare_images  # noqa: E402
from matplotlib.text import Text  # noqa: E402

from fxplain import plots  # noqa: E402
from fxplain.presentation import KIND_COLOURS  # noqa: E402
from fxplain.reports.lanes import lay_out  # noqa: E402

GOLDEN = Path(__file__).parent / "golden" / "plots"

pytestmark = pytest.mark.filterwarnings("error:::matplotlib")


def explanation_of(relevance, given=None, grid=(), boxes=None, special=(), **changes):
    """One sample of one modality "x", not read from it."""
    relevance = torch.as_tensor(relevance, dtype=torch.float32)
    inputs = {} if given is None else {"x": given}
    return make_explanation(
        relevance={"x": relevance[None]},
        labels={"x": [[str(i) for i in range(len(relevance))]]},
        special={"x": dict.fromkeys(special, "cls_token")},
        grids={"x": grid},
        inputs=inputs | ({} if boxes is None else {"positions": boxes[None]}),
        **changes,
    )


def with_gid(figure: Figure, gid: str):
    return figure.findobj(lambda artist: artist.get_gid() == gid)


def drawn_array(figure: Figure) -> np.ndarray:
    (image,) = with_gid(figure, "relevance")
    return np.asarray(image.get_array())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


@cache
def vit() -> fxplain.Explanation:
    return fxplain.explain(*architecture("vit"))


# ---- images ---------------------------------------------------------------------------------------


def test_each_pixel_has_the_relevance_of_its_patch():
    e = vit()
    drawn = drawn_array(plots.plot_image(e, sample=1))
    patches = e.relevance["pixel_values"][1, 1:].reshape(3, 3).numpy()
    assert drawn.shape == (24, 24)
    np.testing.assert_allclose(drawn, np.kron(patches, np.ones((8, 8))), rtol=1e-6)
    np.testing.assert_array_equal(drawn, plots.pixel_relevance(e, "pixel_values", sample=1))


def test_bilinear_blends_between_the_patches():
    grid = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    e = explanation_of(grid.flatten(), torch.rand(1, 3, 8, 8), (2, 2))
    pixels = plots.pixel_relevance(e, "x", interpolation="bilinear")
    assert pixels[0, 0] == 0
    assert pixels[0, -1] == 1
    assert (np.diff(pixels[0]) >= 0).all()
    assert 0 < pixels[0, 3] < 0.5 < pixels[0, 4] < 1


def test_the_image_is_drawn_from_its_darkest_to_its_brightest_pixel():
    pixels = torch.linspace(-2, 2, 16).reshape(1, 1, 4, 4)  # normalised, one channel
    figure = plots.plot_image(explanation_of(torch.rand(4), pixels, (2, 2)))
    grey = np.asarray(figure.axes[0].images[0].get_array())
    bleached = plots.image.PAPER + (1 - plots.image.PAPER) * np.linspace(0, 1, 16).reshape(4, 4)
    np.testing.assert_allclose(grey, bleached, atol=1e-6)


def test_channels_may_stand_last():
    pixels = torch.rand(1, 4, 6, 3)
    figure = plots.plot_image(explanation_of(torch.rand(6), pixels, (2, 3)))
    assert drawn_array(figure).shape == (4, 6)


def test_without_pixels_the_grid_is_drawn():
    e = explanation_of(torch.arange(7.0), None, (2, 3), special=(0,))
    np.testing.assert_array_equal(drawn_array(plots.plot_image(e)), [[1, 2, 3], [4, 5, 6]])


def test_frames_stand_side_by_side():
    relevance = torch.arange(8.0)
    video = torch.rand(1, 4, 3, 4, 4)  # each token covers two frames
    e = explanation_of(relevance, video, (2, 2, 2))
    drawn = drawn_array(plots.plot_image(e))
    assert drawn.shape == (4, 8)
    np.testing.assert_array_equal(drawn[::2, ::2], [[0, 1, 4, 5], [2, 3, 6, 7]])


def test_a_spectrogram_is_turned_as_its_patches_lie():
    e = explanation_of(torch.rand(24), torch.rand(1, 24, 16), (4, 6))  # time first, patches last
    assert drawn_array(plots.plot_image(e)).shape == (16, 24)


def test_the_box_of_the_explained_query_is_drawn():
    e = fxplain.explain(*architecture("detr"))
    figure = plots.plot_image(e)
    (box,) = with_gid(figure, "target box")
    x, y, w, h = e.output.pred_boxes[0, e.target[0][0]].tolist()
    width, height = 32, 24
    expected = ((x - w / 2) * width - 0.5, (y - h / 2) * height - 0.5, w * width, h * height)
    np.testing.assert_allclose(box.get_bbox().bounds, expected, rtol=1e-4)


# ---- text -----------------------------------------------------------------------------------------


def test_words_are_shaded_by_their_relevance():
    figure = plots.plot_text(make_explanation())
    shades = matplotlib.colormaps["Oranges"]
    for place, value in enumerate([None, 0.1, 0.4, 0.2, 0.05, 0.05, 0.2]):
        (word,) = with_gid(figure, f"token {place}")
        if value is None:  # the target is read from it
            assert word.get_facecolor()[3] == 0
        else:
            assert to_hex(word.get_facecolor()) == to_hex(shades(value / 0.4))


def test_words_keep_their_order_and_say_their_share():
    shown = [text.get_text() for text in plots.plot_text(make_explanation()).axes[0].texts]
    words = ["[CLS]", "a", "[red]", "[/bold]", r"bro\nken", r"\x1b[31m", "word", "[PAD] × 2"]
    shares = ["read", "10%", "40%", "20%", "5%", "5%", "20%", "0%"]
    assert shown == [t for pair in zip(words, shares, strict=True) for t in pair]


def test_dollars_are_no_formula():
    e = make_explanation()
    e = replace(e, labels={**e.labels, "input_ids": [["$x^2$", *e.labels["input_ids"][0][1:]]]})
    figure = plots.plot_text(e)
    figure.savefig(io.BytesIO())
    assert "$x^2$" in texts(figure)
    assert not any(text.get_parse_math() for text in figure.axes[0].texts if "$" in text.get_text())


def test_a_dollar_is_as_wide_as_it_is_drawn():
    assert plots.canvas.text_width("$a$", 10) > plots.canvas.text_width("$a", 10) + 5


def long_text(count=60):
    return make_explanation(
        relevance={"input_ids": torch.rand(1, count) + 0.1},
        labels={"input_ids": [[f"word{i}" for i in range(count)]]},
    )


def boxes_of_words(figure: Figure, count: int):
    return [with_gid(figure, f"token {i}")[0].get_window_extent() for i in range(count)]


@pytest.mark.parametrize("size", [None, (3, 6), (4, 1)])
def test_lines_wrap_within_the_axes(size):
    count = 60
    if size is None:
        figure = plots.plot_text(long_text(count))
        ax = figure.axes[0]
    else:
        ax = Figure(figsize=size, layout="constrained").subplots()
        figure = plots.plot_text(long_text(count), ax=ax)
    boxes = boxes_of_words(figure, count)
    inside = ax.get_window_extent()
    assert all(inside.x0 - 1 <= box.x0 and box.x1 <= inside.x1 + 1 for box in boxes)
    assert all(inside.y0 - 1 <= box.y0 and box.y1 <= inside.y1 + 1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_negative_relevance_has_the_other_colour_and_a_minus():
    e = make_explanation(
        relevance={"input_ids": torch.tensor([[0.0, -0.5, 0.25, 0, 0, 0, 0, 0, 0]])}
    )
    figure = plots.plot_text(e)
    shades = matplotlib.colormaps["PuOr_r"]
    assert to_hex(with_gid(figure, "token 1")[0].get_facecolor()) == to_hex(shades(0.0))
    assert to_hex(with_gid(figure, "token 2")[0].get_facecolor()) == to_hex(shades(0.75))
    assert "−67%" in texts(figure)


# ---- matrices -------------------------------------------------------------------------------------


def matrix_explanation(values):
    e = explanation_of(torch.ones(len(values)))
    return replace(e, matrix_of=lambda a, b: torch.as_tensor(values)[None])


def test_the_matrix_drawn_is_the_matrix():
    e = vit()
    drawn = drawn_array(plots.plot_matrix(e, sample=1))
    np.testing.assert_allclose(drawn, e.matrix("pixel_values", "pixel_values")[1].numpy())


def test_cells_are_square_and_have_the_labels_of_their_tokens():
    e = vit()
    ax = plots.plot_matrix(e).axes[0]
    (image,) = ax.images
    box = image.get_window_extent()
    assert box.width == pytest.approx(box.height, rel=0.01)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == e.tokens("pixel_values")[0] == [t.get_text() for t in ax.get_yticklabels()]


def test_the_identity_does_not_drown_the_rest():
    figure = plots.plot_matrix(matrix_explanation([[1.5, 0.25], [0.125, 1.0]]))
    (image,) = with_gid(figure, "relevance")
    assert image.norm.vmax == 0.25
    assert figure.axes[0].child_axes[0]._colorbar.extend == "max"


def test_a_signed_matrix_has_zero_in_the_middle_of_its_colours():
    (image,) = with_gid(plots.plot_matrix(matrix_explanation([[1, -2.0], [0.5, 1]])), "relevance")
    assert (image.norm.vmin, image.norm.vmax) == (-2, 2)
    assert image.get_cmap().name == "PuOr_r"


def test_a_method_without_matrices_says_so():
    model, inputs = architecture("vit")
    with pytest.raises(fxplain.MethodError):
        plots.plot_matrix(fxplain.explain(model, inputs, method="input_x_gradient"))


# ---- sound, boxes, other tokens -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40,), (8, 40), (40, 8)])
def test_sound_has_a_strip_of_relevance_over_its_time(shape):
    relevance = torch.rand(10)
    figure = plots.plot_signal(explanation_of(relevance, torch.randn(1, *shape)))
    np.testing.assert_allclose(drawn_array(figure)[0], relevance.numpy(), rtol=1e-6)
    (strip,) = with_gid(figure, "relevance")
    assert strip.get_extent()[:2] == [0, 40]


def test_boxes_are_where_the_input_says():
    corners = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.4, 0.4, 0.9, 1.0]])
    e = explanation_of([0.5, 0.25], torch.rand(1, 2, 7), boxes=corners)
    figure = plots.plot_boxes(e, image=np.zeros((20, 10)))
    for i, value in enumerate([0.5, 0.25]):
        (box,) = with_gid(figure, f"token {i}")
        expected = corners[i].numpy() * [10, 20, 10, 20]
        np.testing.assert_allclose(box.get_bbox().extents, expected, rtol=1e-6)
        shade = matplotlib.colormaps["Oranges"](value / 0.5)
        assert to_hex(box.get_facecolor()) == to_hex(shade)
    assert {"67%", "33%"} <= set(texts(figure))


def test_boxes_may_be_centre_and_size():
    e = explanation_of([1.0], torch.rand(1, 1, 7), boxes=torch.tensor([[0.5, 0.6, 0.2, 0.4]]))
    (box,) = with_gid(plots.plot_boxes(e), "token 0")
    np.testing.assert_allclose(box.get_bbox().extents, [0.4, 0.4, 0.6, 0.8], rtol=1e-6)


def test_bars_are_ranked_and_say_how_long():
    figure = plots.plot_tokens(explanation_of([0.1, -0.4, 0.3]), most=2)
    bars = figure.axes[0].containers[0]
    assert [bar.get_width() for bar in bars] == pytest.approx([-0.4, 0.3])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "2"]


# ---- the graph ------------------------------------------------------------------------------------


def deep(layers):
    return make_graph(
        nodes=tuple(
            replace(step, name=f"layers.{i}.{kind}.{step.query_stream}", kind=kind)
            for i in range(layers)
            for step, kind in (
                (node(i, key="input_ids"), "self"),
                (node(i, "pixel_values", "pixel_values"), "self"),
                (node(i), "encoder-decoder"),
            )
        )
    )


@pytest.mark.parametrize("layers", [1, 24])
def test_every_attention_is_drawn_in_its_colour_and_none_hides_another(layers):
    graph = deep(layers)
    figure = plots.plot_graph(graph)
    boxes = []
    for step in graph.nodes:
        (box,) = with_gid(figure, step.name)
        assert to_hex(box.get_facecolor()) == KIND_COLOURS[step.kind].lower()
        boxes.append(box.get_window_extent())
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    figure.draw_without_rendering()
    page = figure.bbox
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        assert page.x0 <= extent.x0
        assert extent.x1 <= page.x1
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert shown == ["self", "encoder-decoder"]


def test_rows_follow_the_program_and_lanes_the_streams():
    lanes = lay_out(deep(2))
    assert [(lane.name, lane.column) for lane in lanes.lanes] == [
        ("input_ids", 0), ("pixel_values", 1),
    ]  # fmt: skip
    assert [(u.column, u.row, u.reads) for u in lanes.updates] == [
        (0, 1, ()), (1, 1, ()), (0, 2, (1,)), (0, 3, ()), (1, 3, ()), (0, 4, (1,)),
    ]  # fmt: skip


def test_a_merged_stream_goes_on_in_the_lane_of_its_source():
    graph = make_graph(
        nodes=(node(0, key="input_ids"), node(1, "stream_1", "stream_1")),
        routes=(
            RouteNode("mean_1", "pool", "mean", ("stream_1",), "stream_2"),
            RouteNode("linear_1", "merge", "linear", ("input_ids",), "stream_1"),
        ),
        streams=tuple(StreamInfo(name, 4, ()) for name in ("input_ids", "stream_1", "stream_2")),
    )
    lanes = lay_out(graph)
    assert lanes.columns == 1
    assert [u.name.rpartition(".")[2] for u in lanes.updates] == [
        "cross_attention", "merge", "cross_attention", "pool",
    ]  # fmt: skip
    assert [u.row for u in lanes.updates] == [1, 2, 3, 4]


def test_a_graph_without_attention_is_drawn():
    plots.plot_graph(make_graph(nodes=(), streams=(), modalities={})).savefig(io.BytesIO())


def test_an_architecture_is_drawn():
    graph = fxplain.inspect(*architecture("lxmert"))
    figure = graph.plot()
    assert all(with_gid(figure, step.name) for step in graph.nodes)
    figure.savefig(io.BytesIO())


# ---- plot -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("vit", {"pixel_values": "image"}),
        ("lxmert", {"input_ids": "text", "visual_feats": "boxes"}),
        ("whisper", {"input_features": "signal", "decoder_input_ids": "text"}),
        ("detr", {"pixel_values": "image", "model.query_position_embeddings": "boxes"}),
    ],
)
def test_plot_picks_the_picture_that_fits(name, kinds):
    e = replace(fxplain.explain(*architecture(name)), target_names=("one", "two"))
    figure = e.plot()
    found = {m: plots.view.ModalityView(e, m, 0).kinds[0] for m in e.modalities}
    assert found == kinds
    shown = texts(figure)
    assert sum(text in kinds for text in shown) == 2 * len(kinds)
    assert any(text.endswith("(two)") for text in shown)
    figure.savefig(io.BytesIO())


def test_a_modality_without_relevance_says_so():
    e = make_explanation()
    e = replace(e, relevance={**e.relevance, "pixel_values": torch.zeros(1, 17)})
    assert "no relevance" in texts(e.plot())
    assert "no relevance" not in texts(make_explanation().plot())


def test_large_batches_are_cut_and_say_so():
    one = make_explanation()
    batch = replace(
        one,
        relevance={"input_ids": one.relevance["input_ids"].repeat(11, 1)},
        target=(3,) * 11,
        readout=one.readout * 11,
        scores=torch.ones(11),
        labels={"input_ids": [WORDS] * 11},
    )
    figure = batch.plot()
    assert len(figure.axes) == 8
    assert "3 more samples are not drawn" in texts(figure)


def test_one_sample_and_one_modality():
    e = fxplain.explain(*architecture("lxmert"))
    figure = e.plot("input_ids", sample=1)
    assert len(figure.axes) == 1


def test_pyplot_knows_of_nothing_and_the_settings_stay():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    vit().plot()
    plots.plot_matrix(vit())
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_given_axes_are_drawn_into():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plots.plot_image(vit(), ax=left) is figure
    assert plots.plot_matrix(vit(), ax=right) is figure
    assert left.images
    assert right.images


def test_a_notebook_shows_the_figure():
    assert vit().plot()._repr_png_().startswith(b"\x89PNG")


def test_a_loaded_explanation_is_drawn_alike(tmp_path):
    vit().save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(
        drawn_array(plots.plot_image(loaded)), drawn_array(plots.plot_image(vit()))
    )


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda e: plots.plot_text(e), fxplain.PlotError, "'pixel_values' as image or tokens"),
        (lambda e: plots.plot_boxes(e), fxplain.PlotError, "nothing gives each of their tokens"),
        (lambda e: plots.plot_signal(e), fxplain.PlotError, "no time axis"),
        (lambda e: e.plot("x.png"), fxplain.PlotError, r"\.plot\(\)\.savefig\('x\.png'\)"),
        (lambda e: e.graph.plot(Path("x.svg")), fxplain.PlotError, "savefig"),
        (lambda e: e.plot(sample=2), fxplain.PlotError, "no sample 2: the explanation has 2"),
        (lambda e: plots.plot_matrix(e, sample=-1), fxplain.PlotError, "no sample -1"),
        (lambda e: e.plot("pixels"), fxplain.ModalityError, "there are: 'pixel_values'"),
        (lambda e: plots.plot_image(e, interpolation="cubic"), fxplain.PlotError, "'cubic'"),
    ],
)
def test_what_does_not_fit_is_said(draw, error, message):
    with pytest.raises(error, match=message):
        draw(vit())


def test_without_matplotlib_the_way_out_is_said():
    code = (
        "import sys; sys.modules['matplotlib'] = None; import fxplain; from fxplain import *\n"
        "try: fxplain.plot_text\n"
        "except fxplain.MissingExtraError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "pip install 'fxplain[plot]'" in run.stdout, run.stderr


# ---- as it looked ---------------------------------------------------------------------------------


def golden_text():
    return plots.plot_text(make_explanation())


def golden_image():
    pixels = torch.linspace(0, 1, 32).outer(torch.linspace(1, 0, 32)).expand(1, 3, 32, 32)
    return plots.plot_image(explanation_of(torch.arange(17.0), pixels, (4, 4), special=(0,)))


def golden_matrix():
    values = torch.eye(6) + torch.arange(36.0).reshape(6, 6) / 100
    return plots.plot_matrix(matrix_explanation(values.tolist()))


def golden_graph():
    return plots.plot_graph(deep(2))


def golden_signal():
    wave = torch.sin(torch.linspace(0, 40, 200)) * torch.linspace(0, 1, 200)
    return plots.plot_signal(explanation_of(torch.arange(10.0), wave[None]))


@pytest.mark.parametrize(
    "make", [golden_text, golden_image, golden_matrix, golden_graph, golden_signal]
)
def test_pictures_look_as_they_did(make, tmp_path):
    """Without letters, whose form is the font library's."""
    figure = make()
    for text in figure.findobj(Text):
        text.set_visible(False)
    expected, actual = GOLDEN / f"{make.__name__[7:]}.png", tmp_path / "actual.png"
    figure.savefig(actual, dpi=40)
    if os.environ.get("FXPLAIN_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        expected.write_bytes(actual.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert compare_images(str(expected), str(actual), tol=8) is None
