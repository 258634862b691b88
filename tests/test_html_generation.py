"""The page of a generated text, in a real browser and by its data."""

import random
from functools import cache

import numpy as np
import pytest
import torch

import fxplain
from examples.tasks import lookup
from fxplain import Contrast, Span
from fxplain.explanation.explanation import ByModality
from fxplain.generation import EARLIER, Generation
from tests import small_pretrained
from tests.architectures.case import draw, randomise
from tests.browser import MISSING, Visit, each_form, find_browser, launched
from tests.made_explanations import made_explanation, made_graph, made_node
from tests.test_html import data_of, unpacked

in_a_browser = pytest.mark.skipif(find_browser() is None, reason=MISSING)

HOSTILE = "<script>document.title='stolen'</script>"
TARGETS = [0, 1, 2, 3, 4, 5, -1, Span(0, 2), Contrast(3, "c")]
SPAN, CONTRAST = 7, 8  # their rows


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@cache
def answered():
    """Two answers of the T5 that looks keys up, their words explained, a span, and a contrast."""
    model, tokenizer = lookup.load_model()
    inputs = lookup.encode(tokenizer, lookup.draw_lookups(2, random.Random(0)))
    del inputs["decoder_input_ids"]
    return fxplain.explain_generation(model, inputs, 8, TARGETS, tokenizer=tokenizer)


@cache
def tiny(name, **options):
    """A text of four tokens, by a model that reads an image, a recording, or words."""
    with torch.random.fork_rng():
        model, *_ = small_pretrained.MAKERS[name]()
    model = randomise(model, seed=3)
    ids, normal = draw(5)
    options = {"suppress_tokens": [0, 1, 2, 3], "pad_token_id": 0, **options}
    if name == "whisper":
        inputs = {"input_features": normal(1, 8, 100)}
    elif name == "llava":
        image = model.config.image_token_id
        options["suppress_tokens"] = [0, 1, 2, image]
        words = torch.tensor([[5, *[image] * 16, 6, 7]])
        inputs = {"pixel_values": normal(1, 3, 16, 16), "input_ids": words}
        inputs |= {"attention_mask": torch.ones_like(words)}
    else:
        inputs = {"input_ids": ids(4, 20, 1, 5)}
    return fxplain.explain_generation(model, inputs, 4, **options)


@pytest.fixture
def visit(browser, tmp_path):
    file = tmp_path / "text.html"
    answered().to_html(file)
    with Visit(browser, file) as page:
        yield page
        assert page.complaints == []
        assert page.beyond_disk() == []


TEXT, SOURCE = 0, 1  # panels: the text first


def token(visit, panel, place):
    return visit.page.locator(".panel").nth(panel).locator(f"[data-place='{place}']")


def shows(visit, target, sample=0):
    """Whether the panels have the row of a target."""
    g = answered()
    length = int(g.written[sample].sum())
    drawn = {TEXT: g.matrix(EARLIER)[sample, target, :length]}
    real = g.explanations[0].inputs["attention_mask"][sample].bool()
    drawn[SOURCE] = g.matrix("input_ids")[sample, target][real]
    for panel, expected in drawn.items():
        near = pytest.approx(expected.tolist(), abs=float(expected.abs().max()) / 30_000 + 1e-9)
        assert visit.values(panel) == near


# ---- in a browser ---------------------------------------------------------------------------------


@in_a_browser
@pytest.mark.parametrize("name", ["llava", "whisper", "gpt2"])
def test_opens_from_disk_without_network_complaint_or_fault(browser, tmp_path, name):
    g = tiny(name)
    g.to_html(tmp_path / "text.html")
    with Visit(browser, tmp_path / "text.html") as visit:
        assert visit.page.locator(".panel").count() == len(g.modalities)
        assert visit.page.locator("h1").inner_text().startswith("Generation of")
        assert visit.serious_faults() == []
        assert visit.complaints == []
        assert visit.beyond_disk() == []


@in_a_browser
def test_pointing_at_an_output_shows_what_it_drew_on(visit):
    shows(visit, 0)
    token(visit, TEXT, 4).hover()
    shows(visit, 4)
    assert token(visit, TEXT, 3).get_attribute("class") == "token read"  # it is read one before
    assert "what “i” (output 4) drew on" in visit.page.locator(".showing").inner_text()
    score = float(answered().explanations[4].scores[0])
    assert f"logit {score:.4g}" in visit.page.locator(".panel .status").first.inner_text()
    visit.page.locator("h1").hover()
    shows(visit, 0)
    token(visit, TEXT, 2).click()
    visit.page.locator("h1").hover()
    shows(visit, 2)


@in_a_browser
def test_outputs_by_keyboard(visit):
    token(visit, TEXT, 0).focus()
    for _ in range(3):
        visit.page.keyboard.press("ArrowRight")
    shows(visit, 3)
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Tab")
    shows(visit, 3)
    assert token(visit, TEXT, 3).get_attribute("aria-selected") == "true"


@pytest.mark.slow
@in_a_browser
def test_outputs_by_touch(browser, tmp_path):
    answered().to_html(tmp_path / "text.html")
    screen = {"viewport": {"width": 375, "height": 812}, "has_touch": True, "is_mobile": True}
    with Visit(browser, tmp_path / "text.html", **screen) as visit:
        token(visit, TEXT, 5).tap()
        shows(visit, 5)
        assert visit.complaints == []


@in_a_browser
def test_choosing_a_token_of_an_input_shows_which_outputs_drew_on_it(visit):
    g = answered()
    token(visit, SOURCE, 1).click()
    length = int(g.written[0].sum())
    column = g.matrix("input_ids")[0, :length, 1]
    assert visit.values(TEXT) == pytest.approx(column.tolist(), abs=float(column.max()) / 1000)
    assert "which outputs drew on “a” (token 1)" in visit.page.locator(".showing").inner_text()
    visit.page.get_by_role("radio", name="What “a” (output 0) drew on").check()
    shows(visit, 0)


@in_a_browser
def test_what_later_outputs_drew_on_an_output(visit):
    token(visit, TEXT, 1).click()
    visit.page.get_by_role("radio", name="What it drew on").focus()
    visit.page.keyboard.press("ArrowRight")
    assert visit.page.evaluate("document.activeElement.value") == "column"
    visit.page.locator("h1").hover()
    length = int(answered().written[0].sum())
    column = answered().matrix(EARLIER)[0, :length, 1]
    assert visit.values(TEXT) == pytest.approx(column.tolist(), abs=1e-4)


@in_a_browser
@pytest.mark.parametrize(
    ("row", "name"),
    [(SPAN, "“a 4” (outputs 0 to 1 together)"), (CONTRAST, "“8 rather than c” (output 3)")],
)
def test_spans_and_contrasts_are_rows_too(visit, row, name):
    button = visit.page.get_by_role("button", name=name)
    button.click()
    visit.page.locator("h1").hover()
    shows(visit, row)
    assert button.get_attribute("aria-pressed") == "true"
    places = answered().places(row, 0)
    picked = visit.page.locator(".panel .token.picked")
    assert [int(each.get_attribute("data-place")) for each in picked.all()] == places


@pytest.mark.slow
@in_a_browser
def test_samples_have_their_own_text(visit):
    visit.page.get_by_label("Sample").select_option("1")
    shows(visit, 0, sample=1)
    assert visit.page.locator(".panel").first.locator(".token").first.inner_text() == "j"


@in_a_browser
def test_a_text_without_an_explained_output_says_so(browser, tmp_path):
    model, *_ = small_pretrained.MAKERS["gpt2"]()
    inputs = {"input_ids": torch.tensor([[5, 7, 3], [2, 8, 4]])}
    texts = [[4, 6, 8], [7]]
    g = fxplain.explain_generation(model.eval(), inputs, targets=[2], generated=texts)
    g.to_html(tmp_path / "text.html")
    with Visit(browser, tmp_path / "text.html") as visit:
        visit.page.get_by_label("Sample").select_option("1")
        assert visit.page.get_by_text("None of the explained outputs").first.is_visible()
        assert visit.page.locator(".matrix canvas").first.is_hidden()
        visit.page.get_by_label("Sample").select_option("0")
        assert visit.page.locator(".matrix canvas").first.is_visible()
        assert visit.complaints == []


@in_a_browser
def test_matrix_says_its_numbers_on_hover(visit):
    g, page = answered(), visit.page
    canvas = page.locator(".matrix canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    status = page.locator(".matrix + .status").first
    expected = {
        f"{place} of {name}": g.matrix(name)[0, :, place]
        for name in g.modalities
        for place in range(g.matrix(name).shape[-1])
    }
    seen = set()
    for across in range(120, int(box["width"]), 41):
        for down in range(90, int(box["height"]), 31):
            page.mouse.move(box["x"] + across, box["y"] + down)
            said = status.inner_text()
            if not said:
                continue
            output, _, rest = said.partition(" from ")
            where, _, number = rest.rpartition("): ")
            column = expected[where.rpartition(" (")[2]]
            rows = [k for k, _ in enumerate(g.targets) if output.startswith(f"{g.names[k][0]} (")]
            assert any(
                float(number) == pytest.approx(float(column[row]), rel=2e-3, abs=1e-5)
                for row in rows
            )
            seen |= {(rows[0], where)}
    assert len({row for row, _ in seen}) >= 7
    assert len({where for _, where in seen}) >= 15


@in_a_browser
def test_what_auto_chose_and_why(browser, tmp_path):
    """A decoder that reads an encoder: a method whose rows have no 1 of their own to leave out."""
    g = tiny("t5", method="auto")
    why = g.explanations[0].chosen
    printed = " ".join(str(g).split())
    assert f"input_x_gradient, corrected gradients chosen by auto {why}" in printed
    g.to_html(tmp_path / "text.html")
    with Visit(browser, tmp_path / "text.html") as visit:
        shown = visit.page.locator("main").inner_text()
        assert f"Chosen by auto\n{why}" in shown.replace("\n\n", "\n")
        assert "Each row is an output" in shown
        assert "starts from 1" not in shown


@in_a_browser
def test_choosing_a_row_of_the_matrix_shows_it_on_the_inputs(visit):
    visit.page.locator(".matrix canvas").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        visit.page.keyboard.press(key)
    shows(visit, 2)


@in_a_browser
def test_the_table_behind_the_matrix_has_all_numbers(visit):
    g, page = answered(), visit.page
    page.get_by_label("Columns: tokens of").select_option(str(len(g.modalities) - 1))
    page.get_by_text("Numbers of this matrix").click()
    section = page.locator("section", has_text="Outputs against inputs").first
    section.locator("details table td.number").first.wait_for()
    cells = section.locator("details table td.number").all_inner_texts()
    length = int(g.written[0].sum())
    expected = g.matrix(EARLIER)[0, :, :length]
    numbers = torch.tensor([float(cell) for cell in cells]).reshape(len(g.targets), length)
    assert torch.allclose(numbers, expected, rtol=2e-3, atol=1e-4)


def long_generation(prompt, outputs):
    """A text after a long prompt, its rows random."""
    words = [f"w{i}" for i in range(prompt + outputs)]
    graph = made_graph([made_node(0)], {"input_ids": len(words)})
    rows = torch.rand(outputs, len(words), generator=torch.Generator().manual_seed(0))
    explanations = [
        made_explanation(
            words,
            graph,
            relevance=ByModality({"input_ids": row[None]}),
            readout=(f"input_ids[{prompt + i - 1}]",),
            output=None,
        )
        for i, row in enumerate(rows)
    ]
    return Generation(
        text=(" ".join(words[prompt:]),),
        ids=torch.arange(outputs)[None],
        written=torch.ones(1, outputs, dtype=torch.bool),
        targets=tuple(range(outputs)),
        names=tuple((word,) for word in words[prompt:]),
        real=torch.ones(1, outputs, dtype=torch.bool),
        explanations=tuple(explanations),
        score="logit",
        text_input="input_ids",
    )


@in_a_browser
def test_long_texts_stay_quick(browser, tmp_path):
    assert len(long_generation(1024, 128).to_html(tmp_path / "text.html")) < 1_000_000
    with Visit(browser, tmp_path / "text.html") as visit:
        limit = 200
        pointed = "new PointerEvent('pointerover', {bubbles: true})"
        words = "document.querySelector('.panel').querySelectorAll('[data-place]')"
        assert visit.milliseconds(f"{words}[i + 3].dispatchEvent({pointed})") < limit
        zoom = "document.querySelector('.matrix-bar button').click()"
        assert visit.milliseconds(zoom) < limit
        assert visit.complaints == []


@in_a_browser
def test_hostile_tokens_are_shown_and_do_nothing(browser, tmp_path):
    class Hostile:
        def convert_ids_to_tokens(self, ids):
            return [HOSTILE for _ in ids]

    g = tiny("gpt2", tokenizer=Hostile(), targets=(0, 1, Span(1, 3), Contrast(2, 9)))
    g.to_html(tmp_path / "text.html")
    with Visit(browser, tmp_path / "text.html") as visit:
        token(visit, TEXT, 1).click()
        visit.page.locator(".together button").first.click()
        for name in ("Numbers of input_ids", "Numbers of this matrix"):
            visit.page.get_by_text(name).click()
        assert visit.page.title().startswith("Generation of")
        assert visit.page.locator(".panel .token").first.inner_text() == HOSTILE
        assert visit.page.locator("script").count() == 2
        assert visit.complaints == []


@in_a_browser
@each_form
def test_no_serious_accessibility_fault(browser, tmp_path, mode, width):
    answered().to_html(tmp_path / "text.html")
    viewport = {"width": width, "height": 812}
    with Visit(browser, tmp_path / "text.html", color_scheme=mode, viewport=viewport) as visit:
        for summary in visit.page.locator("summary").all():
            summary.click()
        token(visit, TEXT, 2).click()
        visit.page.locator(".together button").first.click()
        assert visit.serious_faults() == []
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert visit.page.evaluate(overflow) <= 0


@in_a_browser
def test_pointing_at_an_output_moves_nothing(visit):
    top = token(visit, TEXT, 0).bounding_box()
    visit.page.locator(".together button").last.hover()
    assert token(visit, TEXT, 0).bounding_box() == top


# ---- its data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llava", "whisper"])
def test_page_holds_the_matrices_of_every_modality(name):
    g = tiny(name)
    (sample,) = data_of(g.to_html())["outputs"]["samples"]
    for modality, packed in zip(g.modalities, sample["matrices"], strict=True):
        expected = g.matrix(modality)[0].detach().double().numpy()
        assert np.abs(unpacked(packed) - expected).max() <= np.abs(expected).max() / 60_000


def test_texts_that_have_ended_have_fewer_rows():
    model, *_ = small_pretrained.MAKERS["gpt2"]()
    ids = torch.tensor([[5, 7, 3], [2, 8, 4]])
    g = fxplain.explain_generation(model.eval(), {"input_ids": ids}, generated=[[4, 6, 8], [7]])
    data = data_of(g.to_html())
    assert [len(sample["rows"]) for sample in data["outputs"]["samples"]] == [3, 1]
    assert data["samples"][1][-1]["padding"] == [1, 2]


@pytest.mark.slow
def test_large_matrices_are_rounded_then_left_out():
    g = answered()
    whole = data_of(g.to_html())["outputs"]["samples"]
    size = sum(packed_length(packed) for sample in whole for packed in sample["matrices"])
    rounded = data_of(g.to_html(matrix_bytes=size * 2 // 3))
    assert {m["bits"] for s in rounded["outputs"]["samples"] for m in s["matrices"]} == {8}
    assert rounded["leftOut"] == []
    cut = data_of(g.to_html(matrix_bytes=size // 3))
    assert cut["outputs"]["samples"][1]["matrices"] == [None] * len(g.modalities)
    assert "sample 2" in cut["leftOut"][0]


def packed_length(packed):
    return len(packed["values"]) + len(packed["scales"])


def test_without_script_the_page_says_what_each_output_drew_on():
    page = answered().to_html()
    short = page[page.index("<noscript>") : page.index("</noscript>")]
    assert "a 4 h 8 i 2" in short
    assert "0 a" in short
    assert "input_ids 100%: a 53%" in short


@pytest.mark.slow
def test_notebooks_show_it():
    assert 'title="Generation of GPT2LMHeadModel"' in tiny("gpt2")._repr_html_()
