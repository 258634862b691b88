"""Patches whose rows a text parts lie on a picture: of Fuyu, whose processor says no sizes."""

import pytest
import torch
import transformers as hf

import fxplain
from fxplain.explanation.pictures import pictures_of
from fxplain.explanation.rows_in_text import grids_in_text

PATCH, LINE, WORD = 90, 91, 5


def text(*rows: int) -> torch.Tensor:
    """Rows of so many patches, each ended by a new line; then words."""
    return torch.tensor([[i for n in rows for i in ([PATCH] * n + [LINE])] + [WORD, 6, 7]])


@pytest.mark.parametrize(
    ("ids", "grids"),
    [
        (text(4, 4, 4), [(3, 4)]),
        (text(4, 4, 2, 2), [(2, 4), (2, 2)]),
        (torch.cat([text(3, 3), text(3, 3)], 1), [(2, 3), (2, 3)]),
        (text(4), []),  # one row may be any grid
        (text(1, 1, 1), []),  # nor are single places rows
        (text(5, 5)[:, :5], []),  # nor is nothing after them a new line
    ],
)
def test_a_text_says_where_rows_end(ids, grids):
    count = int((ids == PATCH).sum())
    assert grids_in_text({"input_ids": ids}, count) == grids
    assert grids_in_text({"input_ids": ids}, count + 1) == []


def test_samples_that_say_different_things_say_nothing():
    ids = torch.cat([text(4, 4), torch.tensor([[PATCH] * 2 + [LINE] + [PATCH] * 6 + [WORD] * 4])])
    assert grids_in_text({"input_ids": ids}, 8) == []


def test_each_picture_has_its_own_patches():
    inputs = {"input_ids": text(4, 4, 2, 2), "patches": torch.zeros(1, 12, 3 * 8 * 8)}
    first, second = pictures_of("patches", 12, {}, (), inputs)
    assert (first.grid, first.tokens) == ((2, 4), tuple(range(8)))
    assert (second.grid, second.tokens, second.source) == ((2, 2), (8, 9, 10, 11), 1)


def test_fuyu_has_a_heat_map():
    torch.manual_seed(0)
    size = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 40}
    size |= {"num_hidden_layers": 1, "num_attention_heads": 4}
    config = hf.FuyuConfig(
        **size, patch_size=8, image_token_id=PATCH, text_config={"model_type": "persimmon", **size}
    )
    inputs = {"input_ids": text(4, 4, 4), "image_patches": torch.randn(1, 12, 3 * 8 * 8)}
    e = fxplain.explain(hf.FuyuForCausalLM(config).eval(), inputs)
    assert e.grids["image_patches"] == (3, 4)
    heat = e.pixels("image_patches", "nearest")[0]
    assert heat.shape == (24, 32)
    assert torch.equal(heat[4::8, 4::8].flatten(), e.relevance["image_patches"][0])
