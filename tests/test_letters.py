"""What people read as one letter, in any script, is never parted, and what nobody sees has a sign."""

import pytest
import regex

from fxplain.explanation import Word
from fxplain.explanation.merging import words_of
from fxplain.explanation.shown import escaped, visible
from fxplain.explanation.units import written_text
from fxplain.pipelines.spelling import spell
from tests import small_pretrained

FAMILY = "👨\u200d👩\u200d👧"
FLAG = "🏴\U000e0067\U000e0062\U000e0073\U000e007f"
GLUED = {
    "khmer": ("ភាពយន្តនេះ", "ន្ត"),
    "burmese": ("ရုပ်ရှင်", "ရု"),
    "thai": ("ตอนนี้ดี", "นี้"),
    "family": (f"so {FAMILY} good", FAMILY),
    "flag": (f"so {FLAG} good", FLAG),
    "persian": ("\u0645\u06cc\u200c\u062e\u0648\u0631\u0645", "\u06cc\u200c\u062e"),
    "accents": ("cafe\u0301 naïve", "cafe\u0301"),
    "wide": ("\uff48\uff45\uff4c ok", "\uff48\uff45\uff4c"),
}


def words_in(text: str) -> list[Word]:
    """As a byte-level tokenizer that knows none of the letters, and the spelling, cut a text."""
    tokenizer = small_pretrained.byte_pairs()
    encoding = tokenizer([text], return_offsets_mapping=True)
    return spell(tokenizer, encoding["input_ids"][0], encoding, 0, [text])


@pytest.mark.parametrize(("text", "whole"), GLUED.values(), ids=GLUED)
def test_one_letter_is_never_parted(text, whole):
    words = words_in(text)
    assert written_text(words) == text
    assert any(whole in word.text for word in words)
    assert not any(regex.match(r"\p{M}|\u200d", word.text) for word in words)
    assert whole in visible(whole) == escaped(whole)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["▁ន", "្ត", "▁ok"], ["ន្ត", "ok"]),
        (["caf", "##e", "##\u0301"], ["cafe\u0301"]),
        (["▁👨", "\u200d", "👩"], ["👨\u200d👩"]),
    ],
)
def test_nor_where_only_the_pieces_are_known(pieces, words):
    assert [word.text for word in words_of(pieces)] == words


def test_white_space_is_shown_by_signs():
    text = "a\tb\r\nc\u00a0d"
    assert [visible(word.text) for word in words_in(text)] == ["a", "⇥", "b", "↵", "c", "⍽", "d"]
