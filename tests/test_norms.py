"""Norms whose statistics are of several tokens: no attention carries them, and that is said."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import Block, pixels, seeded

WIDTH = 16
MIXES = "mixes tokens without attention"


class Normed(nn.Module):
    """Patches, attention, a norm of (batch, channels, tokens) or (batch, tokens, channels), a head."""

    def __init__(self, norm: nn.Module, *, channels_first: bool, before: bool = False) -> None:
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, WIDTH, 4, 4), Block(WIDTH)
        self.norm, self.head = norm, nn.Linear(WIDTH, 3)
        self.channels_first, self.before = channels_first, before

    def normed(self, x: Tensor) -> Tensor:
        return self.norm(x.mT).mT if self.channels_first else self.norm(x)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        x = self.block(self.normed(x)) if self.before else self.normed(self.block(x))
        return self.head(x[:, 0])


OVER_TOKENS = [
    (lambda: nn.GroupNorm(4, WIDTH), True, "aten.group_norm.default"),
    (lambda: nn.InstanceNorm1d(WIDTH), True, "aten.instance_norm.default"),
    (lambda: nn.LayerNorm([4, WIDTH]), False, "aten.layer_norm.default"),
]


@pytest.mark.parametrize(("norm", "channels_first", "name"), OVER_TOKENS)
def test_statistics_of_all_tokens_are_said(norm, channels_first, name) -> None:
    model = seeded(Normed, norm(), channels_first=channels_first)
    image = pixels(2, 3, 8, 8)
    (warning,) = fxplain.inspect(model, (image,)).warnings
    assert warning.startswith(f"{name} in norm {MIXES}")


@pytest.mark.parametrize(
    ("norm", "channels_first"),
    [
        (lambda: nn.LayerNorm(WIDTH), False),
        (lambda: nn.BatchNorm1d(WIDTH).eval(), True),
        (lambda: nn.InstanceNorm1d(WIDTH, track_running_stats=True).eval(), True),
        (lambda: nn.GroupNorm(4, 4), False),
    ],
)
def test_statistics_of_one_token_each_are_none(norm, channels_first) -> None:
    """Of features, of the weights, or of groups that are a token each."""
    model = seeded(Normed, norm(), channels_first=channels_first).eval()
    assert fxplain.inspect(model, (pixels(2, 3, 8, 8),)).warnings == ()


def test_a_grid_that_is_normalised_before_any_attention_is_born_there() -> None:
    model = seeded(Normed, nn.GroupNorm(4, WIDTH), channels_first=True, before=True)
    assert fxplain.inspect(model, (pixels(2, 3, 8, 8),)).warnings == ()
    assert not fxplain.verify(model, (pixels(2, 3, 8, 8),)).broken


def test_a_token_alone_shares_its_statistics_with_nobody() -> None:
    model = seeded(Normed, nn.GroupNorm(4, WIDTH), channels_first=True)
    assert fxplain.inspect(model, (torch.rand(2, 3, 4, 4),)).warnings == ()


class BeforeTokens(Normed):
    """Attention between patches, a norm of images behind it, and the mean of the patches read."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.block(self.patches(image).flatten(2).mT)
        x = self.norm(x.mT.contiguous().unflatten(2, (2, 2))).flatten(2).mT
        return self.head(x.tanh().mean(1))


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm2d(WIDTH).eval(),
        lambda: nn.BatchNorm2d(WIDTH, affine=False).eval(),
        lambda: nn.InstanceNorm2d(WIDTH, affine=True, track_running_stats=True).eval(),
    ],
)
def test_a_batch_norm_in_front_of_tokens_is_the_same_of_one_sample(norm) -> None:
    """PyTorch's own backward is another there, where the gradient lies in memory as tokens do."""
    model = seeded(BeforeTokens, norm(), channels_first=True).eval().double()
    for buffer in model.norm.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.linspace(0.5, 2, WIDTH))
    image = pixels(2, 3, 8, 8).double()
    pair, alone = (fxplain.explain(model, (i,), target=1) for i in (image, image[:1]))
    torch.testing.assert_close(alone.relevance["image"], pair.relevance["image"][:1])
