"""Regions of pictures, stretches of recordings and columns of tables as units, summed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.html.report_data import Extras, explanation_data
from tests.small_models import ImageClassifier, seeded

MODEL = seeded(ImageClassifier)
IMAGE = "pixel_values"
HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def seen() -> fxplain.Explanation:
    """Patches of a picture, in the model's own pixels."""
    drawn = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return fxplain.explain(MODEL, {IMAGE: drawn}, 1)


def by_hand(e: fxplain.Explanation, sample: int, inside: np.ndarray) -> float:
    """The sum over patches of which half or more lies in a mask, each looked at pixel by pixel."""
    rows, columns = e.grids[IMAGE]
    (picture,) = e.pictures(IMAGE)
    high, wide = inside.shape[0] // rows, inside.shape[1] // columns
    return sum(
        float(e.relevance[IMAGE][sample, token])
        for place, token in enumerate(picture.tokens)
        for row, column in [divmod(place, columns)]
        if inside[row * high : (row + 1) * high, column * wide : (column + 1) * wide].mean() >= 0.5
    )


@pytest.mark.parametrize("as_mask", [False, True])
def test_a_box_holds_the_patches_that_lie_in_it_by_half(seen, as_mask):
    left, top, right, bottom = 0, 0, WIDTH * 5 // 8, HEIGHT // 2
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[top:bottom, left:right] = True
    part = inside if as_mask else (left, top, right, bottom)
    for sample, found in enumerate(seen.units(IMAGE, {"sun": part})):
        own = dict(zip(found.labels, found.relevance.tolist(), strict=True))
        assert own["sun"] == pytest.approx(by_hand(seen, sample, inside), rel=1e-5)
        whole = float(seen.relevance[IMAGE][sample].sum())
        assert sum(own.values()) == pytest.approx(whole, rel=1e-5)
        assert fxplain.explanation.units.REST in own


def test_a_grid_parts_the_picture_evenly(seen):
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[HEIGHT // 2 :, : WIDTH // 2] = True
    found = seen.units(IMAGE, (2, 2))[0]
    assert found.labels[:4] == ["region 0,0", "region 0,1", "region 1,0", "region 1,1"]
    assert float(found.relevance[2]) == pytest.approx(by_hand(seen, 0, inside), rel=1e-5)


def test_of_two_that_hold_a_patch_the_smaller_has_it(seen):
    sun = (0, 0, WIDTH // 2, HEIGHT // 2)
    alone = seen.units(IMAGE, {"sun": sun})[0]
    both = seen.units(IMAGE, {"sky": (0, 0, WIDTH, HEIGHT), "sun": sun})[0]
    assert both.relevance[both.labels.index("sun")] == alone.relevance[alone.labels.index("sun")]
    assert fxplain.explanation.units.REST not in both.labels


def test_every_report_takes_regions(seen):
    units = {IMAGE: {"left half": (0, 0, WIDTH // 2, HEIGHT)}}
    assert "left half" in seen.to_text(units=units)
    assert "left half" in [entry["text"] for entry in seen.to_dict(units=units)["units"][0]]
    assert "left half" in [entry.text for entry in seen.top(5, units=units)]
    data = explanation_data([seen], Extras(units=units))
    assert "left half" in [name for name, *_ in data["samples"][0][0]["regions"]]
    shares = [entry.share for entry in seen.top(99, units=units)]
    assert sum(shares) == pytest.approx(1)


def test_the_only_modality_needs_no_name(seen):
    box = {"left": (0, 0, WIDTH // 2, HEIGHT)}
    assert seen.top(3, units=box) == seen.top(3, units={IMAGE: box})


@pytest.mark.parametrize(
    ("units", "told"),
    [
        ({"x": (1, 1, 1.5, 1.5)}, "Make it larger"),
        ({"x": (9, 9, 5, 5)}, "left < right"),
        ({"x": np.ones((2, 3), bool)}, r"mask of 'x' is \(2, 3\)"),
        ({"x": "sun"}, "neither a box"),
        ({"x": (1, (0, 0, 8, 8))}, "no image 1 .* Leave the image's number out"),
        ((0, 2), "neither a box"),
        ({}, "by name or in a list"),
        (5, "by name or in a list"),
    ],
)
def test_what_is_no_region_is_refused(seen, units, told):
    with pytest.raises(fxplain.FxplainError, match=told):
        seen.units(IMAGE, units)


def test_an_unknown_modality_is_refused(seen):
    with pytest.raises(fxplain.ModalityError, match="'pixels'"):
        seen.top(3, units={IMAGE: (2, 2), "pixels": (2, 2)})


class Table(nn.Module):
    """Numbers, each embedded by itself, that attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(5, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.layer(numbers[..., None] * self.scale + self.shift)
        return self.head(x.mean(1))


def test_columns_of_a_table_are_put_together_by_place():
    torch.manual_seed(0)
    e = fxplain.explain(Table().eval(), {"numbers": torch.randn(2, 5)}, 0)
    found = e.units("numbers", {"address": [1, 2], "age": 0})
    for sample, own in enumerate(found):
        values = e.relevance["numbers"][sample]
        assert own.labels == ["address", "age", "(the rest)"]
        right = torch.stack([values[1] + values[2], values[0], values[3:].sum()])
        torch.testing.assert_close(own.relevance, right)
    for wrong, told in (
        ({"a": [0, 1], "b": 1}, "token 1 is of 'a' and of 'b'"),
        ({"a": 9}, "9 is no token's place"),
        ({"a": []}, "'a' has no token"),
        ({"a": "height"}, "no token is called 'height'"),
        ([0, 1], "say by name"),
    ):
        with pytest.raises(fxplain.MethodError, match=told):
            e.units("numbers", wrong)


def test_unit_methods_judge_regions():
    """A region is worth f(all) - f(all but it), zeros in its place."""
    left = {IMAGE: {"left": (0, 0, WIDTH // 2, HEIGHT)}}
    image = torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    how = {"method": "leave_one_out", "removal": "zero"}
    e = fxplain.explain(MODEL, {IMAGE: image}, 1, units=left, **how)
    found = e.units(IMAGE, left)[0]
    removed = image.clone()
    removed[..., : WIDTH // 2] = 0
    fallen = MODEL(image)[0, 1] - MODEL(removed)[0, 1]
    torch.testing.assert_close(found.relevance[0], fallen.detach(), rtol=1e-4, atol=1e-5)


COLUMNS = ["age", "street", "town", "income", "children"]


def of_table(names: object) -> fxplain.Explanation:
    torch.manual_seed(0)
    return fxplain.explain(Table().eval(), {"numbers": torch.randn(2, 5)}, 0, names=names)


def test_columns_are_called_as_the_caller_calls_them(tmp_path):
    e = of_table({"numbers": COLUMNS})
    assert e.tokens("numbers") == [COLUMNS] * 2
    most = e.top(1)[0]
    assert most.text == COLUMNS[int(e.beyond_identity()["numbers"][0].argmax())]
    assert all(column in e.to_text() for column in COLUMNS[:1])
    assert f"\u2018{most.text}\u2019" in e.to_text()
    found = e.units("numbers", {"address": ["street", "town"]})[0]
    assert found.labels == ["address", "(the rest)"]
    assert e.signed().tokens("numbers") == e.tokens("numbers")
    assert explanation_data([e], Extras())["modalities"][0]["kind"] == "tokens"
    e.save(tmp_path / "e.safetensors")
    assert not fxplain.load(tmp_path / "e.safetensors").is_text("numbers")
    one = fxplain.explain(
        Table().eval(),
        (torch.randn(1, 5),),
        0,
        "leave_one_out",
        names={"numbers": COLUMNS},
        removal="zero",
    )
    assert one.tokens("numbers") == [COLUMNS]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"numbers": COLUMNS[:4]}, "has 4 names, but 'numbers' has 5 tokens"),
        ({"rows": COLUMNS}, "no modality 'rows'"),
        ({"numbers": "abcde"}, "must be a mapping"),
        (COLUMNS, "must be a mapping"),
    ],
)
def test_names_that_are_not_one_for_each_token_are_refused(names, told):
    with pytest.raises(fxplain.FxplainError, match=told):
        of_table(names)
