"""Token activation maps: each step of the paper written out slowly, and a tiny model that sees."""

from __future__ import annotations

import json
import math
from importlib import resources

import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor

import fxplain
from fxplain.generation.activation_maps import (
    _of_sample,
    rank_gaussian,
    without_interference,
)
from tests import small_pretrained

transformers = pytest.importorskip("transformers")


def filtered(img: np.ndarray) -> np.ndarray:
    """The filter, place by place."""
    padded = np.pad(img, 1, mode="reflect")
    found = np.zeros_like(img)
    for i in range(img.shape[0]):
        for j in range(img.shape[1]):
            window = np.sort(padded[i : i + 3, j : j + 3].flatten())
            if window.mean() <= 0:
                continue
            sigma = window.std() / window.mean()
            if sigma == 0:
                found[i, j] = window[4]
                continue
            kernel = np.array([math.exp(-(r**2) / (2 * sigma**2)) for r in range(-4, 5)])
            found[i, j] = (window * kernel / kernel.sum()).sum()
    return found


def test_the_filter_is_that_of_the_paper() -> None:
    x = torch.rand(5, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0)) ** 3
    x[3:, 3:] = 0
    x[0, :4] = 0.5
    torch.testing.assert_close(rank_gaussian(x), torch.from_numpy(filtered(x.numpy())))
    flat = torch.full((3, 3), 2.0)
    torch.testing.assert_close(rank_gaussian(flat), flat)
    alone = torch.full((5, 5), 1.0)
    alone[2, 2] = 30.0
    assert rank_gaussian(alone)[2, 2] < 15


def test_what_is_taken_off_is_the_least_squares_share() -> None:
    generator = torch.Generator().manual_seed(1)
    own = torch.rand(7, generator=generator)
    others, weights = torch.rand(3, 7, generator=generator), torch.tensor([1.0, 0.0, 3.0])
    interference = (others[0] + 3 * others[2]) / 4
    steps = torch.linspace(-2, 4, 60001)
    left = (own[None] - steps[:, None] * interference).square().sum(1)
    best = steps[left.argmin()]
    wanted = (own - best * interference).clamp(min=0)
    torch.testing.assert_close(
        without_interference(own, others, weights), wanted, atol=1e-3, rtol=1e-3
    )
    assert torch.equal(without_interference(own, others, torch.zeros(3)), own)


def by_hand(logits: Tensor, ids: Tensor, image: list[int], place: int) -> list[float]:
    """Equations of one word, in loops."""
    word = int(ids[place])
    s = [max(0.0, float(logits[i, word])) for i in image]
    weights, maps = [], []
    for j in range(place):
        if j in image or int(ids[j]) == word:
            continue
        weights.append(max(0.0, float(logits[j, word])))
        maps.append([max(0.0, float(logits[i, int(ids[j])])) for i in image])
    total = sum(weights)
    mixed = [
        sum(w * m[k] for w, m in zip(weights, maps, strict=True)) / total for k in range(len(image))
    ]
    a = sum(x * y for x, y in zip(s, mixed, strict=True)) / sum(y * y for y in mixed)
    return [max(0.0, x - a * y) for x, y in zip(s, mixed, strict=True)]


def test_maps_of_words_are_the_paper_in_loops() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(9, 12, generator=generator) + 0.5
    ids = torch.tensor([1, 11, 11, 11, 11, 4, 7, 4, 9])
    image = [1, 2, 3, 4]
    found = _of_sample(logits, ids, torch.tensor(image), range(6, 9), torch.ones(9).bool())
    for row, place in zip(found, range(6, 9), strict=True):
        torch.testing.assert_close(row, torch.tensor(by_hand(logits, ids, image, place)))
    # padding before the prompt is no earlier word
    padded = torch.cat([torch.randn(2, 12, generator=generator) + 3, logits])
    longer = torch.cat([torch.tensor([3, 3]), ids])
    real = torch.arange(11) >= 2
    again = _of_sample(padded, longer, torch.tensor(image) + 2, range(8, 11), real)
    torch.testing.assert_close(again, found)


def test_a_model_that_reads_words_and_patches_as_one() -> None:
    torch.manual_seed(0)
    model, processor = small_pretrained.llava()
    model = model.eval()
    inputs = processor(
        images=small_pretrained.picture(), text="<image>the movie", return_tensors="pt"
    )
    g = fxplain.explain_generation(
        model, inputs, max_new_tokens=3, tokenizer=processor.tokenizer,
        suppress_tokens=[model.config.image_token_id],
    )  # fmt: skip
    found = g.activation_maps()
    image = (inputs["input_ids"][0] == model.config.image_token_id).nonzero().flatten()
    assert found.grid == (4, 4)
    assert len(found.maps[0]) == int(g.written.sum())
    ids = torch.cat([inputs["input_ids"][0], g.ids[0]])
    logits = g.explanations[0].output.logits[0].float()
    start = len(inputs["input_ids"][0])
    raw = torch.tensor(by_hand(logits, ids, image.tolist(), start + 1)).reshape(4, 4)
    torch.testing.assert_close(
        found.map(1), torch.from_numpy(filtered(raw.numpy())), atol=1e-5, rtol=1e-4
    )
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    schema = resources.files("fxplain") / "schemas" / "activation-maps-1.json"
    jsonschema.validate(told, json.loads(schema.read_text(encoding="utf-8")))
    page = found.to_html()
    assert page.count("<figure>") == len(found.maps[0])
    assert "data:image/png" in page
    assert "<script" not in page
    row, column = divmod(int(found.maps[0][1].argmax()), 4)
    assert f"{row}, {column}" in str(found)


def test_words_alone_have_no_maps() -> None:
    torch.manual_seed(0)
    model, tokenizer = small_pretrained.gpt2()
    g = fxplain.explain_generation(
        model.eval(), tokenizer("the movie", return_tensors="pt"), max_new_tokens=2
    )
    with pytest.raises(fxplain.MethodError, match="image"):
        g.activation_maps()


def test_displays_write_words_without_a_tokenizers_marks() -> None:
    maps = (torch.tensor([[1.0, 2.0], [3.0, 0.0]]),)
    labels = (("\u2581house", "\u2581"),)
    found = fxplain.generation.ActivationMaps("pixel_values", (1, 2), maps, labels)
    for said in (str(found), found.to_html()):
        assert "house" in said
        assert "\u2423" in said  # a space, as it can be seen
        assert "\u2581" not in said
