"""The page of an evaluation."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

import fxplain
from tests.evaluated_models import bag, contributions, right


@pytest.fixture(scope="module")
def found() -> fxplain.Evaluation:
    return bag(
        contributions(6, 5),
        methods={"right": right, "<b>odd</b>": right},
        metrics=["positive", "insertion"],
    )


class Balance(HTMLParser):
    """Notes elements that are not closed, and texts of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "path", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("meta", "path", "rect", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells.append(data.strip())


def test_it_says_every_number_and_needs_nothing_else(found, tmp_path) -> None:
    path = tmp_path / "evaluation.html"
    page = found.to_html(path)
    assert path.read_text(encoding="utf-8") == page
    parsed = Balance()
    parsed.feed(page)
    assert parsed.open == []
    for row in found.rows:
        assert f"{row.value:.3f}" in parsed.cells
        assert f"{row.low:.3f} to {row.high:.3f}" in parsed.cells
    assert not re.search(r"(src|href)=|@import|<script", page)
    assert "default-src 'none'" in page
    assert "<b>odd" not in page
    assert "&lt;b&gt;odd" in page
    assert "intervals" in page
    assert fxplain.to_html(found) == page


def test_curves_are_drawn_where_their_means_are(found) -> None:
    page = found.to_html()
    curve = found.curves["right", "positive", "feats"]
    chart = page[page.index("positive, feats") :]
    line = re.search(r'class="mean" d="M([^"]+)"', chart)
    assert line is not None
    points = [tuple(map(float, point.split())) for point in line[1].split("L")]
    assert len(points) == len(curve.x)
    by_height = sorted(range(len(points)), key=lambda i: -points[i][1])
    values = [curve.mean[i] for i in by_height]
    assert values == sorted(values)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


def test_classes_have_tables_of_their_own(found) -> None:
    page = found.to_html()
    labels = {label for label in found.labels["class"] if label is not None}
    parts = re.findall(r"<summary>class ([^<]*?) <span", page)
    assert len(labels) < 2 or sorted(parts) == sorted(map(str, labels))
