"""Tables of pandas as a model's inputs: the same numbers as the tensors by hand, columns by name."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.capture.inputs import bind_inputs
from tests.small_models import Block, seeded


class Numbers(nn.Module):
    """A token for each number of a table's row, and one for a category."""

    def __init__(self) -> None:
        super().__init__()
        self.scales, self.shifts = (
            nn.Parameter(torch.randn(3, 16)),
            nn.Parameter(torch.randn(3, 16)),
        )
        self.city = nn.Embedding(4, 16)
        self.block, self.head = Block(), nn.Linear(16, 2)

    def forward(self, numbers: Tensor, city: Tensor) -> Tensor:
        x = numbers[..., None] * self.scales + self.shifts
        x = self.block(torch.cat([x, self.city(city)[:, None]], 1))
        return self.head(x[:, -1])


class ByColumn(nn.Module):
    """An argument for each column."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Numbers()

    def forward(self, age: Tensor, income: Tensor, height: Tensor, city: Tensor) -> Tensor:
        return self.model(torch.stack([age, income, height], 1), city)


MODEL = seeded(Numbers)
TABLE = pd.DataFrame(
    {"age": [31, 45], "income": [2.5, 1.0], "height": [1.7, 1.8], "city": [3, 0]}, index=["a", "b"]
)
COLUMNS = ["age", "income", "height"]
TENSORS = {
    "numbers": torch.tensor([[31, 2.5, 1.7], [45, 1.0, 1.8]]),
    "city": torch.tensor([3, 0]),
}


@pytest.fixture(scope="module")
def explained() -> fxplain.Explanation:
    return fxplain.explain(MODEL, {"numbers": TABLE[COLUMNS], "city": TABLE["city"]}, 0)


def test_a_table_among_the_arguments_names_its_columns(explained):
    by_hand = fxplain.explain(MODEL, TENSORS, 0, names={"numbers": COLUMNS})
    for name in by_hand.modalities:
        assert torch.equal(explained.relevance[name], by_hand.relevance[name])
    assert explained.labels["numbers"] == by_hand.labels["numbers"] == [COLUMNS] * 2
    assert explained.to_text() == by_hand.to_text()
    (parts, _) = explained.units("numbers", {"body": ["age", "height"]})
    assert parts.labels[0] == "body"


def test_what_callers_say_goes_before_the_columns():
    own = ["x", "y", "z"]
    e = fxplain.explain(
        MODEL, {"numbers": TABLE[COLUMNS], "city": TABLE["city"]}, 0, names={"numbers": own}
    )
    assert e.labels["numbers"][0] == own


def test_companions_and_unit_methods_are_given_the_same_table(explained):
    assert explained.signed().labels["numbers"][0] == COLUMNS
    without = fxplain.explain(
        MODEL, {"numbers": TABLE[COLUMNS], "city": TABLE["city"]}, 0, "leave_one_out"
    )
    assert without.labels["numbers"][0] == COLUMNS


@pytest.mark.parametrize("row", [TABLE, TABLE.iloc[[1]], TABLE.iloc[1]], ids=["all", "one", "bare"])
def test_a_table_is_the_arguments_of_its_columns_names(row):
    model = ByColumn()
    bound = bind_inputs(model, row)
    assert bound.names == tuple(TABLE.columns)
    expected = torch.tensor(TABLE.values[1:] if len(bound.leaves[0]) == 1 else TABLE.values).float()
    assert torch.equal(torch.stack([leaf.float() for leaf in bound.leaves], 1), expected)


def test_a_table_is_the_first_argument_where_columns_are_none():
    class First(nn.Module):
        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return x * scale

    bound = bind_inputs(First(), TABLE.iloc[0][COLUMNS])
    assert bound.columns == {"x": tuple(COLUMNS)}
    assert bound.leaves[0].shape == (1, 3)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE.assign(age=["old", "young"])[COLUMNS], "holds no numbers ('age')"),
        (TABLE.assign(age=[1.0, float("nan")])[COLUMNS], "a number is missing ('age')"),
    ],
)
def test_what_is_no_number_is_told_by_its_column(table, said):
    with pytest.raises(fxplain.InputError, match="numbers") as error:
        fxplain.explain(MODEL, {"numbers": table, "city": TABLE["city"]}, 0)
    assert said in str(error.value)
