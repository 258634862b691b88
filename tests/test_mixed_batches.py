"""Batches whose samples were given different pictures: each has its own heat map, as it has alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import fxplain
from fxplain.views import View

IMAGE, PAD = 90, 1
LAYERS = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**LAYERS, "vocab_size": 100, "hidden_size": 32, "num_key_value_heads": 2}
SEES = {**LAYERS, "hidden_size": 32, "image_size": 32, "patch_size": 8}
LLAMA, QWEN = {**TEXT, "model_type": "llama"}, {**TEXT, "model_type": "qwen2"}
Inputs = dict[str, Tensor]


def batch(rows: Sequence[Sequence[int]]) -> Inputs:
    """Texts with padding before them."""
    longest = max(map(len, rows))
    ids = [[PAD] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def asking(*images: int) -> Inputs:
    """For each sample so many places of images."""
    return batch([[5, *[IMAGE] * count, 7, 8 + i] for i, count in enumerate(images)])


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def llava() -> tuple[nn.Module, Inputs, list[Inputs]]:
    """One image, and two: each image of a batch is a row of the input."""
    seen = {**SEES, "model_type": "clip_vision_model"}
    config = hf.LlavaConfig(
        vision_config=seen, text_config=LLAMA, image_token_index=IMAGE, vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    pixels = noise(3, 3, 32, 32)
    return (
        hf.LlavaForConditionalGeneration(config), {**asking(16, 32), "pixel_values": pixels},
        [{"pixel_values": pixels[:1]}, {"pixel_values": pixels[1:]}],
    )  # fmt: skip


def internvl() -> tuple[nn.Module, Inputs, list[Inputs]]:
    """One tile, and three: as many rows as would be two for each. Patches are merged."""
    config = hf.InternVLConfig(
        vision_config={**SEES, "image_size": [32, 32], "patch_size": [8, 8]}, text_config=QWEN,
        image_token_id=IMAGE, downsample_ratio=0.5,
    )  # fmt: skip
    pixels = noise(4, 3, 32, 32)
    return (
        hf.InternVLForConditionalGeneration(config), {**asking(4, 12), "pixel_values": pixels},
        [{"pixel_values": pixels[:1]}, {"pixel_values": pixels[1:]}],
    )  # fmt: skip


def pixtral() -> tuple[nn.Module, Inputs, list[Inputs]]:
    """Images of different sizes, in one padded tensor."""
    seen = {**SEES, "model_type": "pixtral", "image_size": 64, "head_dim": 16}
    config = hf.LlavaConfig(
        vision_config=seen, text_config=LLAMA, image_token_index=IMAGE, vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )  # fmt: skip
    pixels, sizes = noise(2, 3, 32, 32), torch.tensor([[16, 32], [32, 32]])
    pixels[0, :, 16:] = 0
    return (
        hf.LlavaForConditionalGeneration(config),
        {**asking(8, 16), "pixel_values": pixels, "image_sizes": sizes},
        [
            {"pixel_values": pixels[:1, :, :16], "image_sizes": sizes[:1]},
            {"pixel_values": pixels[1:], "image_sizes": sizes[1:]},
        ],
    )  # fmt: skip


def lfm2() -> tuple[nn.Module, Inputs, list[Inputs]]:
    """Padded lists of patches, of which squares are merged."""
    config = hf.Lfm2VlConfig(
        vision_config={
            **LAYERS, "hidden_size": 32, "patch_size": 8, "num_patches": 16,
            "model_type": "siglip2_vision_model",
        },
        text_config={**TEXT, "model_type": "lfm2", "layer_types": ["full_attention"]},
        image_token_id=IMAGE, downsample_factor=2, projector_hidden_size=32,
    )  # fmt: skip
    shapes = torch.tensor([[2, 4], [4, 4], [4, 2]])
    mask = (torch.arange(16) < shapes.prod(1, keepdim=True)).long()
    images = {
        "pixel_values": noise(3, 16, 3 * 64) * mask[..., None], "spatial_shapes": shapes,
        "pixel_attention_mask": mask,
    }  # fmt: skip
    return (
        hf.Lfm2VlForConditionalGeneration(config), {**asking(2, 6), **images},
        [
            {name: value[:1] for name, value in images.items()},
            {name: value[1:] for name, value in images.items()},
        ],
    )  # fmt: skip


SLOW = [pytest.param(made, marks=pytest.mark.slow) for made in (llava, pixtral, lfm2)]


@pytest.mark.parametrize("made", [internvl, *SLOW])
def test_each_sample_has_the_heat_map_that_it_has_alone(made, tmp_path):
    torch.manual_seed(0)
    model, inputs, images = made()
    together = fxplain.explain(model.eval(), inputs)
    together.save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    across = made is pixtral  # all images are one sequence there, kept apart by a mask alone
    assert bool(together.graph.warnings) == across
    assert not together.lacks_heat_map("pixel_values")
    with pytest.raises(fxplain.ModalityError, match="sample="):
        together.pixels("pixel_values")
    for sample, own in enumerate(images):
        text = {name: inputs[name][sample : sample + 1] for name in ("input_ids", "attention_mask")}
        alone = fxplain.explain(model, {**text, **own}, target=together.target[sample])
        pictures = alone.pictures("pixel_values")
        size = tuple(8 * n for n in pictures[0].grid)
        for e in (together, loaded):
            assert [p.grid for p in e.pictures("pixel_values", sample)] == [
                p.grid for p in pictures
            ]
            for i in range(len(pictures)):
                torch.testing.assert_close(
                    e.pixels("pixel_values", "nearest", size, image=i, sample=sample),
                    alone.pixels("pixel_values", "nearest", size, image=i),
                    rtol=1e-4, atol=1e-7,
                )  # fmt: skip


def test_each_sample_lies_on_its_own_picture():
    torch.manual_seed(0)
    model, inputs, _ = llava()
    e = fxplain.explain(model.eval(), inputs)
    for sample, rows in enumerate(([0], [1, 2])):
        beneath = View(e, "pixel_values", sample).frames()
        assert torch.equal(torch.stack(beneath), inputs["pixel_values"][rows])
    data = re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', e.to_html(), re.DOTALL)
    assert data, "the page's data"
    samples = json.loads(data[1])["samples"]
    assert [len(sample[1]["tiles"]) for sample in samples] == [1, 2]
    assert [len(sample[1]["special"]) for sample in samples] == [1, 2]


class EndsRows(nn.Module):
    """Tiles of images, each row of patches ended by a learned vector, in the place of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(100, 32), nn.Conv2d(3, 32, 8, 8)
        self.newline = nn.Parameter(torch.randn(32))
        self.sees, self.reads = (nn.MultiheadAttention(32, 2, batch_first=True) for _ in range(2))
        self.head = nn.Linear(32, 100)

    def forward(self, input_ids: Tensor, tiles: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        rows = []
        for image in tiles:
            x = self.patches(image)  # (tiles, features, rows, columns)
            x = x.flatten(2).transpose(1, 2)
            x = (x + self.sees(x, x, x)[0]).transpose(1, 2).unflatten(2, (4, 4))
            x = x.permute(1, 2, 0, 3).flatten(2)  # the tiles side by side
            end = self.newline[:, None, None].expand(*x.shape[:-1], 1)
            rows.append(torch.cat([x, end], -1).flatten(1).transpose(0, 1))
        packed, x = torch.cat(rows), self.words(input_ids)
        x = x.masked_scatter((input_ids == IMAGE)[..., None], packed)
        return self.head((x + self.reads(x, x, x)[0])[:, -1]), packed


@pytest.mark.parametrize("images", [(1, 2), (2, 2), (1, 0, 2), (2, 0)])
def test_each_sample_has_its_own_images_however_many(images):
    """Also where there are as many as samples, and not one of each; the rows' ends are theirs."""
    torch.manual_seed(0)
    model, tiles = EndsRows().eval(), noise(sum(images), 2, 3, 32, 32)
    sizes = torch.full((len(tiles), 2), 32)
    ids = asking(*(36 * count for count in images))["input_ids"]
    e = fxplain.explain(model, {"input_ids": ids, "tiles": tiles, "sizes": sizes})
    assert e.graph.warnings == ()
    assert set(e.relevance) == {"input_ids", "tiles"}
    for sample, own in enumerate(tiles.split(images)):
        found = e.relevance["tiles"][sample]
        if not len(own):
            assert not found.any()
            continue
        alone = fxplain.explain(
            model,
            {"input_ids": ids[[sample]], "tiles": own, "sizes": sizes[: len(own)]},
            target=e.target[sample],
        ).relevance["tiles"][0]
        assert len(alone) == len(own) * (32 + 4)
        torch.testing.assert_close(found[: len(alone)], alone, rtol=1e-4, atol=1e-7)
        assert not found[len(alone) :].any()


class Shaped(nn.Module):
    """Patches of several images; of each image a number names its shape, added before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.before, self.after = nn.Embedding(4, 32), nn.Embedding(4, 32)
        self.sees, self.all = (nn.MultiheadAttention(32, 2, batch_first=True) for _ in range(2))
        self.token, self.head = nn.Parameter(torch.randn(32)), nn.Linear(32, 5)

    def forward(self, images: Tensor, shapes: Tensor) -> Tensor:
        count, shapes = images.shape[:2], shapes.flatten()
        x = self.patches(images.flatten(0, 1)).flatten(2).transpose(1, 2)
        x = x + self.before(shapes)[:, None]
        x = torch.cat([self.token.expand(len(x), 1, -1), x], 1)
        x = x + self.sees(x, x, x)[0]
        x = nn.functional.pad(x, (0, 0, 0, 3)) + self.after(shapes)[:, None]
        x = x.unflatten(0, count).flatten(1, 2)
        hidden = (torch.arange(20) >= 17).repeat(count[1]).expand(len(x), -1)
        return self.head((x + self.all(x, x, x, key_padding_mask=hidden)[0])[:, 0])


@pytest.mark.parametrize("images", [1, 2])
def test_number_of_each_image_is_context(images):
    """As that of a sample is: it is part of what the patches are, and what is padded is no one's."""
    torch.manual_seed(0)
    model = Shaped().eval()
    pixels, shapes = noise(2, images, 3, 32, 32), torch.arange(2 * images).reshape(2, images)
    e = fxplain.explain(model, (pixels, shapes), target=1, verify="full")
    assert (e.graph.warnings, e.graph.context) == ((), ("shapes",))
    for i in range(2):
        alone = fxplain.explain(model, (pixels[[i]], shapes[[i]]), target=1)
        assert set(alone.relevance) == set(e.relevance) == {"images"}
        torch.testing.assert_close(e.relevance["images"][i], alone.relevance["images"][0])
