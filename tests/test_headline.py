"""The sentence on top says what bars, list and panels say."""

import pytest
import torch

from fxplain.reports.headline import drawn
from tests.made_explanations import made_explanation, made_graph, made_node

BEYOND = " No word or place has as much as [SEP] ({}), a special token."


def of_text(values):
    words = ["[CLS]", "a", "dull", "[SEP]"]
    relevance = type(made_explanation(words).relevance)({"input_ids": torch.tensor([values])})
    return made_explanation(words, relevance=relevance)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, 0.01, 0.09, 0.9], f"It drew most on ‘dull’.{BEYOND.format('90%')}"),
        (
            [1.0, -0.1, 0.2, -0.7],
            f"‘dull’ spoke most for it, and ‘a’ most against it.{BEYOND.format('−70%')}",
        ),
        (
            [1.0, 0.1, 0.2, -0.7],
            f"‘dull’ spoke most for it, and nothing against it.{BEYOND.format('−70%')}",
        ),
        ([1.0, -1e-8, 0.2, 0.1], "‘dull’ spoke most for it, and nothing against it."),
        ([1.0, -0.1, 1e-8, 0.05], "No word spoke for it, and ‘a’ most against it."),
        ([1.0, -0.1, -0.2, 0.1], "No word spoke for it, and ‘dull’ most against it."),
        ([1.0, 0.2, 0.5, 0.3], "It drew most on ‘dull’."),
        ([1.0, 0.0, 0.0, 0.0], "It drew on nothing that could be measured."),
    ],
)
def test_a_special_token_with_more_is_named(values, told):
    e = of_text(values)
    assert drawn(e) == told
    assert "[SEP]" not in drawn(e, special="hide")


def test_special_tokens_that_are_written_alike_are_told_once():
    words = ["[CLS]", "<img>", "a", "<img>", "</s>"]
    relevance = type(made_explanation(words).relevance)(
        {"input_ids": torch.tensor([[1.0, 0.3, 0.1, 0.2, 0.4]])}
    )
    told = drawn(made_explanation(words, relevance=relevance))
    assert told == (
        "It drew most on ‘a’. No word or place has as much as </s> (40%) or <img> (2 of them, 50%), "
        "special tokens."
    )


def test_a_word_keeps_its_letters():
    words = ["[CLS]", "London", "in"]
    relevance = type(made_explanation(words).relevance)(
        {"input_ids": torch.tensor([[1.0, 0.5, -0.1]])}
    )
    told = drawn(made_explanation(words, relevance=relevance))
    assert told == "‘London’ spoke most for it, and ‘in’ most against it."


def test_shares_of_inputs_count_their_special_tokens():
    """An image has 48%, a text's special token the rest: the image has not 100%."""
    graph = made_graph([made_node(0)], {"input_ids": 3, "pixel_values": 2})
    values = {"input_ids": [[0.52, 0.0, 0.0]], "pixel_values": [[0.4, 0.08]]}
    e = made_explanation(["[CLS]", "the", "cat"], graph)
    relevance = type(e.relevance)({name: torch.tensor(each) for name, each in values.items()})
    e = made_explanation(
        ["[CLS]", "the", "cat"], graph, relevance=relevance, readout=("the output",),
        labels={**e.labels, "pixel_values": [["", ""]]},
        special={"input_ids": {}, "pixel_values": {}}, grids={"input_ids": (), "pixel_values": ()},
    )  # fmt: skip
    assert drawn(e) == (
        "It drew 48% on pixel_values, there most on token 0. "
        "No word or place has as much as [CLS] (52%), a special token."
    )
    assert drawn(e, special="hide") == "It drew most on token 0 of pixel_values."
