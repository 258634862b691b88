"""The lens: the model's own head on every state of its residual stream."""

import json

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.errors import MethodError
from tests.long_run import quickly
from tests.small_models import TextClassifier, architecture, seeded, words

IDS = words(2, 6)


def test_before_a_norm_the_sums_themselves() -> None:
    model = seeded(TextClassifier, depth=3)
    found = fxplain.logit_lens(model, {"input_ids": IDS}, 3)
    with torch.no_grad():
        x = model.encoder.words(IDS) + model.encoder.positions(torch.arange(6))
        want = []
        for block in model.encoder.blocks:
            normed = block.norm_1(x)
            x = x + block.attention(normed, normed)
            want.append(model.head(x[:, 0]))
            x = x + block.feed_forward(block.norm_2(x))
            want.append(model.head(x[:, 0]))
    torch.testing.assert_close(found.scores, torch.stack(want)[..., 3])
    torch.testing.assert_close(torch.stack(list(found.outputs)), torch.stack(want))
    assert found.predicted[2][1] == f"class {int(want[2][1].argmax())}"


def test_after_a_norm_what_it_makes_of_them() -> None:
    class PostNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 4)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.layers = nn.ModuleList(
                [layer, nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)]
            )

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.words(input_ids)
            for layer in self.layers:
                x = layer(x)
            return self.head(x[:, 0])

    model = seeded(PostNorm)
    found = fxplain.logit_lens(model, (IDS,), 1)
    with torch.no_grad():
        x = model.layers[0](model.words(IDS))
        want = [model.head(x[:, 0])[:, 1], model(IDS)[:, 1]]
    torch.testing.assert_close(found.scores[1::2], torch.stack(want))


@pytest.mark.parametrize("name", quickly(["gpt2", "t5", "swin"], ["gpt2"]))
def test_the_last_layer_says_what_the_model_says(name: str) -> None:
    model, inputs = architecture(name)
    e = fxplain.explain(model, inputs)
    lens = e.lens()
    torch.testing.assert_close(lens.scores[-1], e.scores)
    assert len(lens.layers) > 2
    assert "after each layer" in lens.to_text()
    assert len(json.loads(json.dumps(lens.to_dict()))["rows"]) == lens.scores.numel()


def test_two_towers_have_no_one_head() -> None:
    e = fxplain.explain(*architecture("clip"))
    with pytest.raises(MethodError, match="beside the last state"):
        e.lens()
