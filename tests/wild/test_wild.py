"""The hand-written models of the wild zoo; those of packages have an environment of their own."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.wild import HANDWRITTEN
from tests.wild.case import Entry, read_tokens
from tests.wild.known import REASONS
from tests.wild.table import check


def test_names_are_unique():
    counts = Counter(entry.name for entry in HANDWRITTEN)
    assert not [name for name, count in counts.items() if count > 1]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("mean of ids[0..2, 5]", {"ids": {0, 1, 2, 5}}),
        ("ids[0] and image[4]", {"ids": {0}, "image": {4}}),
        ("mean of 36 tokens made of image", {"image": "made"}),
        ("text[1] and a.b[*]", {"text": {1}, "a.b": "*"}),
    ],
)
def test_readouts_are_understood(text, places):
    assert read_tokens(text) == places


def marked(entry: Entry):
    marks = []
    if entry.name in REASONS:
        marks.append(
            pytest.mark.xfail(reason=REASONS[entry.name], raises=AssertionError, strict=True)
        )
    return pytest.param(entry, id=entry.name, marks=marks)


@pytest.mark.parametrize("entry", [marked(entry) for entry in HANDWRITTEN])
def test_library_is_right(entry):
    row = check(entry)
    assert (row.outcome, row.error, row.problems) == ("right", "", [])
