"""What a value made of scores is: statistics and factors of scores carry no token of their own."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.between_attentions import WIDTH, Between, between
from tests.small_models import seeded, words

# Channel attention


class ChannelAttention(nn.Module):
    """Features attend to features (XCiT): scores are q^T k over the tokens, times a temperature."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.qkv = form, nn.Linear(WIDTH, 3 * WIDTH)
        self.temperature = nn.Parameter(torch.rand(2, 1, 1) + 1)
        self.bias = nn.Parameter(torch.randn(2, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 8)).permute(0, 2, 3, 1) for t in self.qkv(x).chunk(3, -1))
        if self.form == "on the queries":
            scores = (q * self.temperature) @ k.mT
        elif self.form == "einsum":
            scores = torch.einsum("bhcn,bhdn->bhcd", q, k) * self.temperature
        elif self.form == "bias":
            scores = q @ k.mT / self.temperature.exp() + self.bias
        else:
            scores = q @ k.mT * self.temperature
        weights = scores.sigmoid() if self.form == "sigmoid" else scores.softmax(-1)
        return (weights @ v).permute(0, 3, 1, 2).flatten(2)


CHANNEL_FORMS = ["on the scores", "on the queries", "einsum", "bias", "sigmoid"]


@pytest.mark.parametrize("form", CHANNEL_FORMS)
def test_a_temperature_of_channel_attention_is_no_token(form: str) -> None:
    graph = between(lambda: ChannelAttention(form)).graph
    over = [] if form == "sigmoid" else ["it normalises over 8 features, classes or experts"]
    assert [found.reason.removesuffix(", not over tokens") for found in graph.rejected] == over
    assert "mixes tokens without attention" in graph.warnings[0]


@pytest.mark.parametrize("form", CHANNEL_FORMS)
def test_channel_attention_alone_is_no_attention(form: str) -> None:
    model = seeded(Between, lambda: ChannelAttention(form), attention=False)
    assert fxplain.inspect(model, (words(2, 6),)).nodes == ()
    with pytest.raises(fxplain.NoAttentionError):
        fxplain.explain(model, (words(2, 6),), target=1)
