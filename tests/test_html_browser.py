"""The HTML report in a real browser: what is seen, chosen and heard, from disk and without network."""

from dataclasses import replace

import pytest
import torch

import fxplain
from fxplain.demo import digits
from fxplain.html import to_html, to_notebook
from fxplain.tokens import RejectedSoftmax
from tests.browser import MISSING, Visit, each_form, find_browser, launched
from tests.made_explanations import made_explanation, made_graph, made_node
from tests.small_models import architecture

pytestmark = pytest.mark.skipif(find_browser() is None, reason=MISSING)

HOSTILE = [
    "[CLS]",
    "<script>document.title='stolen'</script>",
    "</script><img src=x onerror=alert(1)>",
    "\u2028\u2029",
    "{{ 7 * 7 }}",
    "'\"`--><svg onload=alert(2)>",
]
SHADE = 0.75
"""How strong a heat map is at first."""


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def answers():
    """The demo's first two questions by a method with matrices, and by one without."""
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()[:2]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, [s.question.text for s in samples], mosaics)
    explanations = [
        fxplain.explain(model, inputs, method=method, tokenizer=tokenizer)
        for method in ("generic", "rollout", "input_x_gradient")
    ]
    attention = fxplain.attention_weights(model, inputs)
    return explanations, attention, {"visual_feats": mosaics}


@pytest.fixture(scope="module")
def report(answers, tmp_path_factory):
    explanations, attention, pictures = answers
    file = tmp_path_factory.mktemp("html") / "report.html"
    to_html(explanations, file, class_names=digits.ANSWERS, attention=attention, pictures=pictures)
    return file


@pytest.fixture
def visit(browser, report):
    with Visit(browser, report) as page:
        yield page
        assert page.complaints == []
        assert page.beyond_disk() == []


def pick(visit, modality, place):
    visit.page.locator(".panel").nth(modality).locator(f"[data-place='{place}']").click()


# ---- from disk, whatever is shown -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "vit", "detr", "whisper", "swin"])
def test_opens_from_disk_without_network_complaint_or_fault(browser, tmp_path, name):
    model, inputs = architecture(name)
    file = tmp_path / f"{name}.html"
    fxplain.explain(model, inputs).to_html(file)
    with Visit(browser, file, color_scheme="dark") as visit:
        assert visit.page.locator(".panel").count() > 0
        assert visit.page.locator("svg.graph .mark").count() > 0
        assert visit.serious_faults() == []
        assert visit.complaints == []
        assert visit.beyond_disk() == []


def test_a_graph_has_a_page_of_its_own(browser, tmp_path):
    model, inputs = architecture("swin")
    graph = fxplain.inspect(model, inputs)
    graph.to_html(tmp_path / "graph.html")
    with Visit(browser, tmp_path / "graph.html") as visit:
        marks = visit.page.locator("svg.graph .mark")
        assert marks.count() == len(graph.nodes) + len(graph.routes)
        assert visit.page.locator(".panel").count() == 0
        assert visit.complaints == []


def test_notebook_frame_shows_the_report(browser, tmp_path, answers):
    file = tmp_path / "notebook.html"
    file.write_text(f"<!DOCTYPE html><title>cell</title>{to_notebook(answers[0][0])}", "utf-8")
    with Visit(browser, file) as visit:
        frame = visit.page.frame_locator("iframe")
        frame.locator("[data-place='2']").first.click()
        assert "drew on" in frame.locator(".showing").inner_text()
        assert visit.complaints == []


def test_without_script_the_page_still_says_what_matters(browser, report, answers):
    with Visit(browser, report, java_script_enabled=False) as visit:
        text = visit.page.locator("noscript").inner_text()
    explanation = answers[0][0]
    values = explanation.relevance["visual_feats"][0]
    assert digits.ANSWERS[explanation.target[0]] in text
    assert f"{float(values.max()):.4g}" in text


# ---- choosing tokens ------------------------------------------------------------------------------


def test_target_view_shows_the_relevance(visit, answers):
    explanation = answers[0][0]
    real = int(explanation.inputs["attention_mask"][0].sum())
    for m, name in enumerate(explanation.modalities):
        expected = explanation.relevance[name][0][: real if m == 0 else None]
        assert visit.values(m) == pytest.approx(expected.tolist(), rel=1e-6)
    read = visit.page.locator(".panel .token.read")
    assert read.all_inner_texts() == ["[CLS]"]


def test_choosing_a_word_shows_its_row_then_its_column(visit, answers):
    explanation = answers[0][0]
    real = int(explanation.inputs["attention_mask"][0].sum())
    own = explanation.matrix("input_ids", "input_ids")[0]
    across = explanation.matrix("input_ids", "visual_feats")[0]
    pick(visit, 0, 2)
    assert visit.values(0) == pytest.approx(own[2, :real].tolist(), abs=1e-4 * float(own[2].max()))
    assert visit.values(1) == pytest.approx(across[2].tolist(), abs=1e-4 * float(across[2].max()))
    assert "“digit” (token 2) of input_ids drew on" in visit.page.locator(".showing").inner_text()

    visit.page.get_by_role("radio", name="What drew on it").check()
    back = explanation.matrix("visual_feats", "input_ids")[0]
    assert visit.values(0) == pytest.approx(own[:real, 2].tolist(), abs=1e-4 * float(own.max()))
    assert visit.values(1) == pytest.approx(back[:, 2].tolist(), abs=1e-4 * float(back.max()))

    pick(visit, 0, 2)  # once more: back to the target
    expected = explanation.relevance["visual_feats"][0]
    assert visit.values(1) == pytest.approx(expected.tolist(), rel=1e-6)


def test_choosing_by_keyboard_alone(visit, answers):
    page = visit.page
    page.locator(".panel [role=option]").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator(".token.picked").get_attribute("data-place") == "3"
    assert page.locator(".token.picked").get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.dataset.place") == "3"


def test_choosing_a_box_in_the_picture(visit, answers):
    visit.page.locator("svg.over rect").nth(5).click()  # boxes of one size keep their order
    picked = visit.page.locator(".token.picked")
    assert picked.get_attribute("data-place") == "5"
    expected = answers[0][0].matrix("visual_feats", "visual_feats")[0][5]
    assert visit.values(1) == pytest.approx(expected.tolist(), abs=1e-4 * float(expected.max()))


def test_many_samples_are_a_list_to_search_and_to_sort(browser, tmp_path):
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()[:5]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)
    e = fxplain.explain(model, inputs, tokenizer=tokenizer)
    e.to_html(tmp_path / "many.html")
    with Visit(browser, tmp_path / "many.html") as visit:
        page = visit.page
        page.locator(".all-samples summary").click()
        rows = page.locator(".samples tbody tr")
        assert rows.count() == 5
        page.get_by_label("Search").fill("odd")
        assert rows.count() == sum("odd" in sample.question.text for sample in samples)
        page.get_by_label("Search").fill("")
        page.locator(".all-samples select").select_option("lowest")
        order = e.scores.argsort().tolist()
        assert rows.first.locator("td").first.text_content() == str(order[0] + 1)
        rows.nth(1).locator("button").click()
        assert page.locator(".chooser select").input_value() == str(order[1])
        page.get_by_role("button", name="Next", exact=True).click()
        assert page.locator(".chooser select").input_value() == str((order[1] + 1) % 5)
        assert not visit.complaints
        assert not visit.serious_faults()


def test_switching_method_and_sample(visit, answers):
    generic, rollout, gradient = answers[0]
    visit.page.get_by_text("Numbers of this matrix").click()  # of a method without matrices none
    for method, explanation in (("rollout", rollout), ("input_x_gradient", gradient)):
        visit.page.get_by_role("radio", name=method).check()
        expected = explanation.relevance["visual_feats"][0].tolist()
        assert visit.values(1) == pytest.approx(expected, rel=1e-6)
    assert "has no relevancy matrices" in visit.page.locator("#report").inner_text()
    visit.page.get_by_role("radio", name="generic").check()
    visit.page.get_by_label("Sample").select_option("1")
    expected = generic.relevance["visual_feats"][1].tolist()
    assert visit.values(1) == pytest.approx(expected, rel=1e-6)
    assert (
        digits.ANSWERS[generic.target[1]]
        in visit.page.locator(".answer .target").first.inner_text()
    )


def test_ranking_names_the_largest(visit, answers):
    values = answers[0][0].relevance["visual_feats"][0]
    first = visit.page.locator(".ranking tbody tr", has=visit.page.locator("button")).first
    assert f"box {int(values.argmax())}" in first.inner_text()
    assert f"{float(values.max()):.4g}" in first.inner_text()


def test_how_far_a_number_may_be_off_stands_beside_it(browser, tmp_path):
    model, inputs = architecture("vit")
    explanation = fxplain.explain(model, inputs, method="smoothgrad", of="generic", draws=2)
    explanation.to_html(tmp_path / "drawn.html")
    top = max(explanation.top(1), key=lambda entry: abs(entry.relevance))
    with Visit(browser, tmp_path / "drawn.html") as visit:
        first = visit.page.locator(".ranking tbody tr").first.inner_text()
    assert f"{top.relevance:.4g} \u00b1 {top.error:.4g}" in first


# ---- pictures by their pixels ---------------------------------------------------------------------


def test_heat_map_is_as_strong_as_the_relevance(browser, tmp_path):
    model, inputs = architecture("vit")
    explanation = fxplain.explain(model, inputs)
    file = tmp_path / "vit.html"
    explanation.to_html(file)
    with Visit(browser, file) as visit:
        strength = visit.page.evaluate(
            """() => {
                const canvas = document.querySelector(".tile canvas");
                const context = canvas.getContext("2d");
                const middle = (place, size) => (place + 0.5) * size / 3;
                return Array.from({length: 9}, (_, k) => context.getImageData(
                    middle(k % 3, canvas.width), middle(Math.floor(k / 3), canvas.height), 1, 1,
                ).data[3] / 255);
            }"""
        )
        size = explanation.relevance["pixel_values"][0][1:]
        expected = SHADE * size / size.max()
        assert strength == pytest.approx(expected.tolist(), abs=0.01)

        canvas = visit.page.locator(".tile canvas")
        box = canvas.bounding_box()
        canvas.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.9})
        visit.page.get_by_text("Numbers of pixel_values").click()
        numbers = visit.page.locator(".panel table tbody td.number")
        numbers.first.wait_for()
        cells = numbers.all_inner_texts()
    row = explanation.matrix("pixel_values", "pixel_values")[0][8]  # CLS, then row 2, column 1
    assert [float(cell) for cell in cells] == pytest.approx(
        row.tolist(), abs=1e-3 * float(row.abs().max())
    )


def test_matrix_is_drawn_and_chosen_by_cell(visit, answers):
    page = visit.page
    page.get_by_label("Rows: tokens of").select_option("0")
    page.get_by_label("Columns: what they drew on").select_option("1")
    page.get_by_text("Numbers of this matrix").click()
    table = page.locator("section", has_text="Relevancy matrices").locator("details table").first
    table.locator("td.number").first.wait_for()
    numbers = [float(text) for text in table.locator("td.number").all_inner_texts()]
    expected = answers[0][0].matrix("input_ids", "visual_feats")[0]
    assert numbers == pytest.approx(expected.flatten().tolist(), abs=2e-3 * float(expected.max()))

    canvas = page.locator(".matrix canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    status = page.locator(".matrix + .status").first
    for down in range(4, 30):  # move down until the pointer is on the third row
        page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 12 * down)
        if status.inner_text().startswith("digit (2)"):
            break
    page.mouse.down()
    page.mouse.up()
    assert page.locator(".token.picked").get_attribute("data-place") == "2"


def test_matrix_is_read_by_keyboard(visit, answers):
    section = visit.page.locator("section", has_text="Relevancy matrices").first
    section.locator("canvas").first.focus()
    visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("ArrowRight")
    value = answers[0][0].matrix("input_ids", "visual_feats")[0][1, 1]
    said = section.locator(".matrix + .status").inner_text()
    assert said.startswith("what (1) from 1 (1): ")
    assert float(said.rpartition(" ")[2]) == pytest.approx(float(value), rel=1e-2)


def test_matrix_zooms(visit):
    page = visit.page
    canvas = page.locator(".matrix canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    status = page.locator(".matrix + .status").first

    def cells_along_a_line():
        said = set()
        for step in range(20):
            page.mouse.move(box["x"] + 100 + 20 * step, box["y"] + 200)
            said.add(status.inner_text())
        return len(said)

    before = cells_along_a_line()
    page.get_by_label("Zoom in").first.click()
    page.get_by_label("Zoom in").first.click()
    assert cells_along_a_line() < before
    page.get_by_text("Whole").first.click()
    assert cells_along_a_line() == before


def test_sound_is_told_in_seconds(browser, tmp_path):
    model, inputs = architecture("whisper")
    explanation = replace(fxplain.explain(model, inputs), seconds={"input_features": 2.0})
    explanation.to_html(tmp_path / "whisper.html")
    with Visit(browser, tmp_path / "whisper.html") as visit:
        panel = visit.page.locator(".panel").first
        canvas = panel.locator("canvas")
        canvas.hover(position={"x": canvas.bounding_box()["width"] * 0.35, "y": 30})
        value = float(explanation.relevance["input_features"][0][3])
        said, _, number = panel.locator(".status").inner_text().rpartition(": ")
        assert said == "0.60–0.80 s"
        assert float(number) == pytest.approx(value, rel=1e-3)


# ---- the attention graph --------------------------------------------------------------------------


def test_graph_nodes_are_clickable(visit, answers):
    graph, attention = answers[0][0].graph, answers[1]
    for index in (0, 4, 11):
        visit.page.locator(f".mark[data-index='{index}']").click()
        details = visit.page.locator(".node-details").inner_text()
        node = graph.nodes[index]
        for text in (node.module, f"{node.q_len} queries × {node.k_len} keys", str(node.heads)):
            assert text in details
    canvas = visit.page.locator(".node-details canvas")
    assert canvas.count() == 1
    assert attention[graph.nodes[11].name].shape[0] == 2


def test_a_node_shows_its_map_without_being_told(browser, tmp_path):
    model, inputs = architecture("bert")
    explanation = fxplain.explain(model, inputs)
    explanation.to_html(tmp_path / "bert.html")
    expected = fxplain.attention_weights(model, inputs)[explanation.graph.nodes[1].name].mean(1)[0]
    with Visit(browser, tmp_path / "bert.html") as visit:
        visit.page.locator(".mark[data-index='1']").click()
        canvas = visit.page.locator(".node-details canvas")
        canvas.focus()
        visit.page.keyboard.press("ArrowRight")
        said = visit.page.locator(".node-details .status").inner_text()
        assert float(said.rpartition(" ")[2]) == pytest.approx(float(expected[0, 1]), abs=1 / 200)
        assert visit.complaints == []


def test_graph_marks_the_line_that_is_read_out(browser, tmp_path):
    model, inputs = architecture("bart")
    fxplain.inspect(model, inputs).to_html(tmp_path / "graph.html")
    with Visit(browser, tmp_path / "graph.html") as visit:
        read = visit.page.locator("svg.graph .read-out")
        assert read.count() == 1
        names = visit.page.locator("svg.graph .lane-name").all_text_contents()
        assert names == ["input_ids, 8 tokens", "decoder_input_ids, 5 tokens"]
        heights = [text.bounding_box()["y"] for text in visit.page.locator(".lane-name").all()]
        assert read.bounding_box()["y"] > max(heights)


def test_graph_by_keyboard(visit, answers):
    page = visit.page
    page.locator(".mark").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator(".mark[aria-pressed=true]").get_attribute("data-index") == "1"
    assert answers[0][0].graph.nodes[1].module in page.locator(".node-details").inner_text()


# ---- hostile, large, warned -----------------------------------------------------------------------


def test_hostile_tokens_are_shown_and_do_nothing(browser, tmp_path):
    evil = "<img src=x onerror=alert(3)>"
    graph = made_graph(
        [made_node(0)], {"input_ids": len(HOSTILE)}, [evil], [RejectedSoftmax(evil, evil, evil)],
        model="</title><script>alert(4)</script>",
    )  # fmt: skip
    explanation = made_explanation(HOSTILE, graph)
    file = tmp_path / "hostile.html"
    explanation.to_html(file, class_names=[evil, evil, evil])
    with Visit(browser, file) as visit:
        pick(visit, 0, 1)
        visit.page.locator(".mark").first.click()
        for name in ("Numbers of input_ids", "Numbers of this matrix", "All nodes as a table"):
            visit.page.get_by_text(name).click()
        visit.page.wait_for_timeout(50)
        assert visit.page.title().startswith("Explanation of </title>")
        words = visit.page.locator(".panel .token").all_inner_texts()
        assert words[1:3] == HOSTILE[1:3]
        assert visit.page.locator("img").count() == 0
        assert visit.page.locator("script").count() == 2
        assert evil in visit.page.locator(".warnings").inner_text()
        assert visit.complaints == []


def test_large_matrices_and_deep_graphs_stay_quick(browser, tmp_path):
    nodes = [
        made_node(i, *ends)
        for i in range(48)
        for ends in (("input_ids",) * 2, ("image", "input_ids"))
    ]
    graph = made_graph(nodes, {"input_ids": 512, "image": 512})
    explanation = made_explanation([f"word{i}" for i in range(512)], graph)
    file = tmp_path / "large.html"
    assert len(explanation.to_html(file)) < 1_000_000
    with Visit(browser, file) as visit:
        limit = 200
        choose = "document.querySelectorAll('[data-place]')[i + 3].click()"
        assert visit.milliseconds(choose) < limit
        zoom = "document.querySelector('.matrix-bar button').click()"
        assert visit.milliseconds(zoom) < limit
        node = "document.querySelectorAll('.mark')[40 + i].dispatchEvent(new Event('click'))"
        assert visit.milliseconds(node) < limit
        assert visit.page.locator(".mark").count() == 96
        assert visit.complaints == []


def test_warnings_and_rejected_softmaxes_are_in_plain_sight(browser, tmp_path):
    rejected = [RejectedSoftmax("softmax_3", "model.router", "its weights choose experts")]
    graph = made_graph([made_node(0)], {"input_ids": 3}, ["scan mixes tokens"], rejected)
    file = tmp_path / "warned.html"
    made_explanation(["a", "b", "c"], graph).to_html(file)
    with Visit(browser, file) as visit:
        assert visit.page.get_by_text("scan mixes tokens").is_visible()
        assert visit.page.get_by_text("its weights choose experts").is_visible()


# ---- for everyone ---------------------------------------------------------------------------------


@each_form
def test_no_serious_accessibility_fault(browser, report, mode, width):
    viewport = {"width": width, "height": 812}
    with Visit(browser, report, color_scheme=mode, viewport=viewport) as visit:
        for summary in visit.page.locator("summary").all():
            summary.click()
        pick(visit, 0, 2)
        assert visit.serious_faults() == []
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert visit.page.evaluate(overflow) <= 0
