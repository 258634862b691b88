"""The HTML report's data: what is shown, how exactly, and that nothing in it runs."""

import base64
import copy
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fxplain
from fxplain import InputError
from fxplain.explanation.beneath import frames_of
from fxplain.explanation.explanation import ByModality
from fxplain.html import to_html, to_notebook
from fxplain.html.inputs import input_views
from fxplain.html.numbers import pack_matrix, pack_vector, packed_size, png_url
from fxplain.html.outputs import top_classes
from fxplain.html.pictures import images_of, strip_of
from fxplain.views.boxes import boxes_of
from fxplain.views.pixels import signal_of
from tests.made_explanations import made_explanation, made_graph, made_node
from tests.small_models import architecture


def unpacked(packed):
    """A slow, simple reader of `pack_matrix`."""

    def numbers(name, kind):
        return np.frombuffer(base64.b64decode(packed[name]), kind)

    whole = numbers("values", f"<i{packed['bits'] // 8}").reshape(packed["rows"], packed["columns"])
    matrix = whole * numbers("scales", "<f4")[:, None].astype(np.float64)
    if "apart" in packed:
        places, values = (base64.b64decode(text) for text in packed["apart"])
        matrix.flat[np.frombuffer(places, "<i4")] = np.frombuffer(values, "<f4")
    return matrix


def data_of(page):
    """The data of a page, as a browser reads it."""
    island = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(island[1])


# ---- numbers --------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([8, 16]), st.integers(0, 99))
def test_packed_rows_are_off_by_half_a_step_of_their_largest(rows, columns, bits, seed):
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=random) * 10.0 ** torch.arange(rows)[:, None]
    packed = pack_matrix(matrix, bits)
    largest = matrix.abs().amax(1, keepdim=True).double().numpy()
    step = largest / (2 ** (bits - 1) - 1)
    assert (np.abs(unpacked(packed) - matrix.double().numpy()) <= step * 0.501).all()
    size = sum(len(value) for value in packed.values() if isinstance(value, str))
    assert abs(packed_size(rows, columns, bits) - size) <= 8


def test_numbers_kept_apart_spare_their_row():
    matrix = torch.eye(3) + 1e-4 * torch.rand(3, 3)
    found = unpacked(pack_matrix(matrix, 8, torch.eye(3, dtype=torch.bool)))
    assert np.abs(found - matrix.double().numpy()).max() < 1e-6


def test_zero_rows_and_infinite_precision_of_vectors():
    assert (unpacked(pack_matrix(torch.zeros(2, 3), 8)) == 0).all()
    values = torch.randn(7)
    found = np.frombuffer(base64.b64decode(pack_vector(values)), "<f4")
    assert (found == values.numpy()).all()


@pytest.mark.parametrize("shape", [(5, 7), (4, 6, 3), (1, 1)])
def test_png_holds_its_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO(base64.b64decode(png_url(pixels).removeprefix("data:image/png;base64,")))
    assert (np.asarray(Image.open(file)) == pixels).all()


# ---- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("bert", {"input_ids": "words"}),
        ("vit", {"pixel_values": "grid"}),
        ("detr", {"pixel_values": "grid", "model.query_position_embeddings": "boxes"}),
        ("lxmert-equal-lengths", {"input_ids": "words", "visual_feats": "boxes"}),
        ("visual_bert", {"input_ids": "words", "visual_embeds": "tokens"}),
        ("whisper", {"input_features": "strip", "decoder_input_ids": "words"}),
    ],
)
def test_how_inputs_are_shown_follows_from_their_shapes(name, kinds):
    model, inputs = architecture(name)
    views = input_views(fxplain.explain(model, inputs), {})
    assert {view.name: view.kind for view in views} == kinds


def test_boxes_are_the_model_s_own_as_corners():
    model, inputs = architecture("detr")
    explanation = fxplain.explain(model, inputs)
    boxes = boxes_of(explanation, "model.query_position_embeddings")
    centre = explanation.output.pred_boxes
    assert torch.allclose(
        (boxes[..., :2] + boxes[..., 2:]) / 2, centre[..., :2].detach(), atol=1e-6
    )
    assert torch.allclose(boxes[..., 2:] - boxes[..., :2], centre[..., 2:].detach(), atol=1e-6)
    assert boxes_of(explanation, "pixel_values") is None


def test_padding_is_not_shown():
    model, inputs = architecture("bert")
    explanation = fxplain.explain(model, inputs)
    (view,) = input_views(explanation, {})
    for sample, mask in enumerate(inputs["attention_mask"]):
        hidden = view.of_sample(explanation.tokens("input_ids")[sample], sample)["padding"]
        assert hidden == (mask == 0).nonzero().flatten().tolist()
    assert any(view.padding)


def test_pictures_are_scaled_but_keep_their_proportions():
    image = torch.rand(1, 3, 600, 300)
    (pixels,) = images_of(frames_of(image[0], (6, 3)), 20_000)
    height, width, channels = pixels.shape
    assert channels == 3
    assert height * width <= 20_500
    assert height / width == pytest.approx(2, rel=0.03)
    (small,) = images_of([torch.tensor([[[0.0, 1.0], [0.5, 0.25]]])], 100)
    assert small.tolist() == [[0, 255], [128, 64]]


def test_video_has_a_picture_for_each_time():
    video = torch.zeros(1, 8, 3, 4, 4)
    video[0, 4:] = 1
    pictures = images_of(frames_of(video[0], (2, 2, 2)), 1000)
    assert len(pictures) == 2


def test_sound_is_drawn_over_its_time():
    wave = torch.cat([torch.zeros(1920), torch.sin(torch.arange(1920.0))])[None]
    pixels = strip_of(signal_of(wave[0], 20))
    ink = (pixels < 128).sum(0)
    quiet, loud = ink[: len(ink) // 2 - 1], ink[len(ink) // 2 :]
    assert quiet.min() > 0
    assert quiet.max() < loud.mean() / 5
    features = torch.rand(1, 40, 200)
    assert strip_of(signal_of(features[0], 100)).shape == (40, 200)
    assert strip_of(signal_of(features[0].T, 100)).shape == (40, 200)  # frames first
    assert signal_of(torch.rand(6, 12), 12) is None  # tokens with features, no time
    assert signal_of(torch.zeros(50, dtype=torch.long), 10) is None


@pytest.mark.parametrize("name", ["bert", "detr", "gpt2"])
def test_top_classes_are_those_of_the_output(name):
    model, inputs = architecture(name)
    explanation = fxplain.explain(model, inputs)
    target = explanation.target[0]
    place = target[:-1] if isinstance(target, tuple) else ()
    row = explanation.output.logits[0][place].detach()
    found = top_classes(explanation, 0, {int(row.argmax()): "best"})
    assert found["field"] == "logits"
    values, indices = row.topk(min(5, len(row)))
    assert [each["index"] for each in found["rows"]] == indices.tolist()
    assert [each["value"] for each in found["rows"]] == pytest.approx(values.tolist())
    assert found["rows"][0]["name"] == "best"
    assert sum(each["target"] for each in found["rows"]) == 1


def test_masked_classes_and_functions_of_the_output():
    masked = {"logits": torch.tensor([[float("-inf"), 2.0, -1.0]])}
    page = made_explanation(["a", "b"], output=masked).to_html()
    rows = data_of(page)["explanations"][0]["samples"][0]["classes"]["rows"]
    assert rows[-1]["value"] is None
    assert top_classes(made_explanation(["a"], target=("my_function",)), 0, None) is None
    assert top_classes(made_explanation(["a"], output=None), 0, None) is None


# ---- size -----------------------------------------------------------------------------------------


def test_page_holds_the_matrices_to_16_bits():
    model, inputs = architecture("lxmert")
    explanation = fxplain.explain(model, inputs)
    sample = data_of(explanation.to_html())["explanations"][0]["samples"][1]
    for a, row in enumerate(explanation.modalities):
        for b, column in enumerate(explanation.modalities):
            expected = explanation.matrix(row, column)[1].double().numpy()
            found = unpacked(sample["matrices"][f"{a},{b}"])
            assert np.abs(found - expected).max() <= np.abs(expected).max() / 60_000


def test_large_matrices_are_rounded_then_left_out_and_never_computed():
    def refuse(a, b):
        raise AssertionError("a matrix that is left out was computed")

    words = [f"w{i}" for i in range(300)]
    rounded = data_of(made_explanation(words).to_html(matrix_bytes=130_000))
    assert rounded["explanations"][0]["samples"][0]["matrices"]["0,0"]["bits"] == 8
    assert rounded["leftOut"] == []
    page = made_explanation(words, matrix_of=refuse).to_html(matrix_bytes=10_000)
    (sentence,) = data_of(page)["leftOut"]
    assert "input_ids by input_ids" in sentence
    assert "10 KB" in sentence


def test_typical_page_and_notebook_cell_are_small():
    model, inputs = architecture("vit")
    explanation = fxplain.explain(model, inputs)
    assert len(explanation.to_html()) < 250_000
    frame = explanation._repr_html_()
    assert frame == to_notebook(explanation)
    assert frame.startswith("<iframe srcdoc=")
    assert 'sandbox="allow-scripts"' in frame
    assert len(made_explanation([f"w{i}" for i in range(512)])._repr_html_()) < 400_000
    assert "<iframe" in explanation.graph._repr_html_()


# ---- safety ---------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements that a page has before any script runs."""

    def __init__(self, page):
        super().__init__()
        self.names = []
        self.attributes = []
        self.feed(page)

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        self.attributes += [key for key, _ in attributes]


@settings(deadline=None)  # a loaded machine is no fault of the page
@given(st.text(max_size=40))
def test_no_text_becomes_an_element(text):
    evil = f"</script></title></style><img src=x onerror=alert(1)>{text}"
    graph = made_graph([made_node(0)], {"input_ids": 2}, [evil], model=evil)
    page = made_explanation([evil, text], graph).to_html(class_names=[evil] * 3)
    plain = made_explanation(
        ["a", "b"], made_graph([made_node(0)], {"input_ids": 2}, ["w"], model="M")
    )
    found, expected = Elements(page), Elements(plain.to_html(class_names=["x"] * 3))
    assert [n for n in found.names if n != "wbr"] == [n for n in expected.names if n != "wbr"]
    assert not [key for key in found.attributes if key.startswith("on")]
    assert data_of(page)["samples"][0][0]["labels"] == [evil, text]


def test_page_allows_its_own_script_and_style_only():
    page = made_explanation(["a", "b"]).to_html()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src &#39;none&#39;" in policy or "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)=[\"']?https?:", page)


@pytest.mark.parametrize("folder", ["fxplain/html/assets/vendor", "tests/assets"])
def test_vendored_scripts_are_the_pinned_ones_with_their_licences(folder):
    root = Path(__file__).parents[1] / folder
    packages = json.loads((root / "packages.json").read_text(encoding="utf-8"))
    for package in packages:
        script = (root / f"{package['name']}.js").read_text(encoding="utf-8")
        assert f"v{package['version']}" in script[:100]
        assert package["integrity"].startswith("sha512-")
        assert (root / f"{package['name']}.LICENSE").stat().st_size > 500
    assert {path.stem for path in root.glob("*.js")} == {package["name"] for package in packages}


# ---- what belongs on one page ---------------------------------------------------------------------


def test_explanations_of_different_inputs_are_refused():
    one, other = made_explanation(["a", "b"]), made_explanation(["a", "b", "c"])
    with pytest.raises(InputError, match="different inputs"):
        fxplain.to_html([one, other])
    ids = {"input_ids": torch.tensor([[1, 2]])}
    moved = {"input_ids": torch.tensor([[2, 1]])}
    with pytest.raises(InputError, match="different inputs"):
        fxplain.to_html([replace(one, inputs=ids), replace(one, inputs=moved)])


@pytest.mark.parametrize("wrong", [[], "page", 3, [1]])
def test_only_results_have_pages(wrong):
    with pytest.raises(InputError, match="a report shows"):
        to_html(wrong)


def test_a_result_without_a_picture_has_a_page_of_what_it_prints(tmp_path):
    model = torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    found = fxplain.verify(model, (torch.randn(1, 4, 8),), level="light")
    page = found.to_html(tmp_path / "found.html")
    assert (tmp_path / "found.html").read_text(encoding="utf-8") == page
    assert "<h1>Verification</h1>" in page
    text = html.unescape(page.partition('tabindex="0">')[2].partition("</pre>")[0])
    assert text == found.to_text(96)
    assert "tags and versions" in text


@pytest.mark.parametrize(
    "pictures", [{"image": []}, {"input_ids": []}, {"input_ids": [np.zeros(3)]}]
)
def test_pictures_that_do_not_fit_are_refused(pictures):
    with pytest.raises(InputError, match=r"pictures\['"):
        made_explanation(["a", "b"]).to_html(pictures=pictures)


def test_every_explanation_has_a_name_of_its_own():
    one = made_explanation(["a", "b"])
    several = [one, replace(one, method="rollout"), replace(one, target=(2,)), one]
    titles = [each["title"] for each in data_of(fxplain.to_html(several))["explanations"]]
    assert len(set(titles)) == len(several)
    assert titles[2] == "generic: 2"


def test_targets_are_called_what_the_explanation_calls_them():
    one = made_explanation(["a", "b"], target_names=("yes",))
    other = replace(one, target=(2,), target_names=("no",))
    described = data_of(fxplain.to_html([one, other], class_names=["x", "y", "z"]))["explanations"]
    assert [each["title"] for each in described] == ["yes", "no"]
    assert described[0]["samples"][0]["target"] == "yes (class 1)"
    plain = data_of(replace(one, target_names=()).to_html(class_names=["x", "y", "z"]))
    assert plain["explanations"][0]["samples"][0]["target"] == "y (class 1)"


def test_written_page_is_the_returned_one(tmp_path):
    explanation = made_explanation(["a", "b"])
    page = explanation.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert explanation.to_html() == page  # the same again
    with pytest.raises(fxplain.SaveError, match="no folder"):
        explanation.to_html(tmp_path / "missing" / "page.html")


def test_loaded_explanation_has_a_page(tmp_path):
    model, inputs = architecture("vit")
    explanation = fxplain.explain(model, inputs)
    explanation.save(tmp_path / "e.safetensors", matrices=True)
    loaded = fxplain.load(tmp_path / "e.safetensors")
    sample = data_of(loaded.to_html())["explanations"][0]["samples"][0]
    live = data_of(explanation.to_html(signed=False))["explanations"][0]["samples"][0]
    assert sample["classes"] == live["classes"] is not None
    assert sample["matrices"]
    explanation.save(tmp_path / "e.safetensors")
    without = data_of(fxplain.load(tmp_path / "e.safetensors").to_html())
    assert not without["explanations"][0]["samples"][0]["matrices"]
    assert "not saved" in json.dumps(without)


def test_a_method_without_matrices_says_so():
    model, inputs = architecture("bert")
    explanation = fxplain.explain(model, inputs, method="input_x_gradient")
    (described,) = data_of(explanation.to_html())["explanations"]
    assert described["hasMatrices"] is False
    assert described["samples"][0]["matrices"] == {}


def test_relevance_is_by_modality_in_single_precision():
    relevance = ByModality({"input_ids": torch.tensor([[0.25, -1e-7]])})
    page = made_explanation(["a", "b"], relevance=relevance).to_html()
    (packed,) = data_of(page)["explanations"][0]["samples"][0]["relevance"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == pytest.approx([0.25, -1e-7])


# ---- the attention graph ---------------------------------------------------------------------------


def test_maps_of_nodes_are_their_mean_attention():
    model, inputs = architecture("bert")
    explanation = fxplain.explain(model, inputs)
    weights = fxplain.attention_weights(model, inputs)
    for extras in ({}, {"attention": weights}):
        nodes = data_of(explanation.to_html(**extras))["graph"]["nodes"]
        for node in nodes:
            expected = weights[node["name"]].mean(1)[1].detach().double().numpy()
            assert np.abs(unpacked(node["maps"][1]) - expected).max() < 1 / 200


def missing_maps(explanation, **extras):
    """What a page says of each map that it has not."""
    nodes = data_of(explanation.to_html(**extras))["graph"]["nodes"]
    assert all((node["maps"] is None) == bool(node["missing"]) for node in nodes)
    return [node["missing"] for node in nodes]


def test_a_map_that_is_missing_says_why(tmp_path):
    model, inputs = architecture("swin")
    assert all("other axes" in why for why in missing_maps(fxplain.explain(model, inputs)))
    model, inputs = architecture("bert")
    model = copy.deepcopy(model)
    explanation = fxplain.explain(model, inputs)
    nodes = explanation.graph.nodes
    most = sum(2 * packed_size(node.q_len, node.k_len, 8) for node in nodes) - 1
    first, *others = missing_maps(explanation, matrix_bytes=2 * most)  # maps may take half
    assert "for its size" in first
    assert set(others) == {""}
    assert all("not given" in why for why in missing_maps(explanation, attention={}))
    explanation.save(tmp_path / "e.safetensors")
    assert all("no model" in why for why in missing_maps(fxplain.load(tmp_path / "e.safetensors")))
    kept = replace(explanation, matrix_of=lambda a, b: torch.zeros(2, 9, 9))
    with torch.no_grad():
        next(p for p in model.parameters() if p.dim() == 2).normal_()
    assert all("Explain again" in why for why in missing_maps(kept))
