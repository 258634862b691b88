"""Figures are drawn with fonts that have the letters of the words, and say where there is none."""

import warnings

import pytest

pytest.importorskip("matplotlib")

import fxplain
from fxplain.plots.fonts import _fonts_for
from fxplain.views import reading_order
from tests.made_explanations import made_explanation

UNKNOWN = "\U00050000"
"""A letter of no script."""


def test_the_usual_font_stays_where_it_has_all():
    assert _fonts_for(frozenset("éñ"), ("DejaVu Sans",)) == ((), "")


def test_another_font_is_taken_for_letters_that_the_usual_one_lacks():
    """The mathematical letters of STIX, which matplotlib brings, are not in its typewriter font."""
    found, missing = _fonts_for(frozenset("\u2a0c"), ("cmtt10",))
    assert found
    assert not missing


def test_letters_that_no_font_has_are_named_once():
    e = made_explanation(["[CLS]", "a\u0f00", "dull"])
    found, missing = _fonts_for(frozenset("\u0f00"), ("DejaVu Sans",))
    if not missing:
        pytest.skip("a font of this machine has Tibetan letters")
    with pytest.warns(UserWarning, match="no installed font has \u0f00"):
        e.plot()
    assert not found


def test_drawing_leaves_the_users_fonts_alone():
    import matplotlib as mpl

    before = list(mpl.rcParams["font.family"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fxplain.plot_text(made_explanation(["[CLS]", "電影", "dull"]))
    assert list(mpl.rcParams["font.family"]) == before


@pytest.mark.parametrize(
    ("words", "backwards", "order"),
    [
        (["א", "1", ",", "234", "ב"], True, [4, 1, 2, 3, 0]),
        (["א", "see", "this", "ב"], True, [3, 1, 2, 0]),
        (["so", "א", "ב", "!"], False, [0, 2, 1, 3]),
        (["so", "good"], False, [0, 1]),
        (["[", "א", "]"], True, [2, 1, 0]),
        ([], True, []),
    ],
)
def test_numbers_and_other_directions_keep_their_own(words, backwards, order):
    assert reading_order(words, backwards=backwards) == order
