"""How texts are shaded where one word has far more than all others: the others keep their shades."""

import re

import pytest
import torch

import fxplain
from fxplain.explanation.explanation import ByModality
from fxplain.views import beyond_scale, strongest_shade
from tests.browser import MISSING, Visit, find_browser, launched
from tests.made_explanations import made_explanation

HUGE = 0.9
WORDS = [f"word{i}" for i in range(40)]
SMALL = [0.001 * (1 + i % 9) for i in range(40)]
VALUES = [*SMALL[:-1], HUGE]


def long_text(values=VALUES) -> fxplain.Explanation:
    relevance = ByModality({"input_ids": torch.tensor([values])})
    return made_explanation(
        WORDS, relevance=relevance, identity={"input_ids": torch.zeros(1, len(WORDS))}
    )


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ([0.1] * 5 + [0.9], 0.9),  # a short text
        ([0.2] * 30 + [0.9], 0.9),  # not far beyond
        ([0.1] * 30 + [-0.9], 0.2),
        ([0.1] * 30 + [0.9, 0.9], 0.9),  # one of so few may be beyond
        ([0.1] * 98 + [0.9, 0.9], 0.2),
        ([0.0] * 40 + [0.9], 0.9),  # there is no other
    ],
)
def test_what_gets_the_strongest_shade(values, most):
    assert strongest_shade(values) == pytest.approx(most)
    assert [values[i] for i in beyond_scale(values)] == [v for v in values if abs(v) > most]


def test_the_terminal_and_the_figure_say_how_a_text_is_shaded():
    said = "shaded up to 0.018"
    text = " ".join(long_text().to_text(width=100).split())
    assert f"({said}; beyond that: word39 0.9)" in text
    assert "\u2584" in text.partition("shaded up")[0]  # the next one is half way up
    captions = [text.get_text() for text in long_text().plot().texts]
    assert f"input_ids, {said}" in captions
    assert "shaded" not in long_text(SMALL).to_text()


def test_side_by_side_says_it_too():
    page = fxplain.compare([long_text(), long_text(SMALL)])
    assert page.count("Shaded up to 0.018; beyond that: \u201cword39\u201d.") == 1
    assert 'class="f5"' in page.partition("Shaded up")[0]


@pytest.mark.skipif(find_browser() is None, reason=MISSING)
def test_the_page_shades_as_python_says(tmp_path):
    file = tmp_path / "long.html"
    long_text().to_html(file)
    with launched() as browser, Visit(browser, file) as visit:
        shown = visit.page.locator(".panel .legend").first.inner_text()
        assert (
            re.sub(r"\s+", " ", shown)
            == "0 0.018 beyond the scale: \u201cword39\u201d (token 39) 0.9"
        )
        for values in ([0.1] * 30 + [-0.9], [0.1] * 98 + [0.9, 0.9], [0.1] * 5 + [0.9], []):
            found = visit.page.evaluate(f"fxplain.strongestShade({values})")
            assert found == pytest.approx(strongest_shade(values))
        assert visit.page.evaluate("[-0.254, -0.004, -0.0001, 0.004].map(fxplain.signedPercent)") == [
            "\u221225%", "\u22120.4%", "\u22120%", "<1%",
        ]  # fmt: skip
        assert visit.complaints == []
