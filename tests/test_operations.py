"""Operations: what each does to the tokens of a sequence, and which of them say so."""

from collections.abc import Callable
from functools import cache
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.capture import bind_inputs, capture
from fxplain.tokens import TokenFlow, follow_tokens
from tests.small_models import VOCABULARY, seeded, words

BATCH, SIDE, WIDTH = 2, 4, 8
LENGTH = SIDE * SIDE
aten = torch.ops.aten


def image(x: Tensor) -> Tensor:
    """(batch, tokens, features) to (batch, features, height, width)."""
    return x.transpose(1, 2).unflatten(2, (SIDE, SIDE))


def volume(x: Tensor) -> Tensor:
    return x.transpose(1, 2).unflatten(2, (2, 2, SIDE))


def turned(x: Tensor) -> Tensor:
    """Rotary positions as Llama's first code has them: pairs of features as complex numbers."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    angles = torch.outer(torch.arange(LENGTH), torch.ones(WIDTH // 2)).float()
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(2)


KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "rotary by complex numbers": turned,
    "real part": lambda x: torch.complex(x, x).real,
    "glu": lambda x: F.glu(x),
    "glu of channels": lambda x: F.glu(x.transpose(1, 2), 1).transpose(1, 2),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3),
    "renorm": lambda x: x.flatten(0, 1).renorm(2, 0, 1.0).unflatten(0, (BATCH, LENGTH)),
    "logsigmoid": F.logsigmoid,
    "cross": lambda x: torch.linalg.cross(x[..., :3], x[..., 3:6]),
    "unit length": lambda x: x / torch.linalg.norm(x, dim=-1, keepdim=True),
    "unit vector length": lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True),
    "logsumexp": lambda x: x.logsumexp(-1, keepdim=True),
    "similarity to itself": lambda x: F.cosine_similarity(x, x + 1, dim=-1).unsqueeze(-1),
    "fft of features": lambda x: torch.fft.rfft(x).real,
    "fft of all": lambda x: torch.fft.fftn(x, dim=(1, 2)).real,
    "cumsum of features": lambda x: x.cumsum(-1),
    "cumsum": lambda x: x.cumsum(1),
    "cummax": lambda x: x.cummax(1).values,
    "native layer norm": lambda x: aten.native_layer_norm(x, [WIDTH], None, None, 1e-5)[0],
    "native dropout": lambda x: aten.native_dropout(x, 0.1, False)[0],
    "batch norm": lambda x: aten._native_batch_norm_legit(
        x.transpose(1, 2), None, None, True, 0.1, 1e-5)[0].transpose(1, 2),
    "same grid": lambda x: F.interpolate(image(x), (SIDE, SIDE), mode="bilinear").flatten(2)
    .transpose(1, 2),
    "conv with a norm": lambda x: F.conv1d(
        x.transpose(1, 2), aten._weight_norm(torch.ones(WIDTH, WIDTH, 1), torch.ones(WIDTH, 1, 1), 0)
    ).transpose(1, 2),
    "distances to places": lambda x: torch.cdist(x, torch.ones(BATCH, 3, WIDTH)),
}  # fmt: skip
"""Each token keeps its row."""

MADE: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "nearest": (64, lambda x: F.interpolate(image(x), scale_factor=2).flatten(2)),
    "nearest exact": (4, lambda x: F.interpolate(image(x), (2, 2), mode="nearest-exact").flatten(2)),
    "bilinear": (64, lambda x: F.interpolate(image(x), scale_factor=2, mode="bilinear").flatten(2)),
    "bicubic": (36, lambda x: F.interpolate(image(x), (6, 6), mode="bicubic").flatten(2)),
    "smaller": (4, lambda x: F.interpolate(image(x), scale_factor=0.5, mode="bilinear").flatten(2)),
    "antialiased": (4, lambda x: F.interpolate(image(x), (2, 2), mode="bilinear", antialias=True)
                    .flatten(2)),
    "linear": (32, lambda x: F.interpolate(x.transpose(1, 2), scale_factor=2, mode="linear")),
    "trilinear": (128, lambda x: F.interpolate(volume(x), scale_factor=2, mode="trilinear").flatten(2)),
    "max pool": (4, lambda x: F.max_pool2d(image(x), 2).flatten(2)),
    "max pool with indices": (4, lambda x: F.max_pool2d(
        image(x), 2, return_indices=True)[0].flatten(2)),
    "max pool in a line": (8, lambda x: F.max_pool1d(x.transpose(1, 2), 2, return_indices=True)[0]),
    "adaptive max": (5, lambda x: F.adaptive_max_pool1d(x.transpose(1, 2), 5)),
    "adaptive mean": (9, lambda x: F.adaptive_avg_pool2d(image(x), 3).flatten(2)),
    "adaptive mean of a volume": (4, lambda x: F.adaptive_avg_pool3d(volume(x), (1, 2, 2)).flatten(2)),
    "adaptive max of a volume": (4, lambda x: F.adaptive_max_pool3d(volume(x), (1, 2, 2)).flatten(2)),
    "rfft": (9, lambda x: torch.fft.rfft(x, dim=1).real.transpose(1, 2)),
    "rfft2": (12, lambda x: torch.fft.rfft2(image(x)).real.flatten(2)),
    "rfft and back": (LENGTH, lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1), dim=1)
                      .transpose(1, 2)),
    "kernel of two": (32, lambda x: F.conv_transpose1d(
        x.transpose(1, 2), torch.ones(WIDTH, WIDTH, 2), stride=2)),
    "reflected edge": (6 * 6, lambda x: F.pad(image(x), (1, 1, 1, 1), mode="reflect").flatten(2)),
}  # fmt: skip
"""As many positions, each with one token, in (batch, features, positions)."""

WARNED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "lstm": ("aten.lstm", lambda x: nn.LSTM(WIDTH, WIDTH, batch_first=True)(x)[0]),
    "grid sample": ("aten.grid_sampler", lambda x: F.grid_sample(
        image(x), torch.zeros(BATCH, SIDE, SIDE, 2), align_corners=False).flatten(2)),
    "renorm of a sequence": ("aten.renorm", lambda x: x.renorm(2, 0, 1.0)),
}  # fmt: skip
"""What cannot be followed: the warning names the operation."""


class Operations(nn.Module):
    """Words, and what some operations make of them."""

    def __init__(self, operations: dict[str, Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.operations = MappingProxyType(operations)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        x = self.words(input_ids)
        return (x, *(operation(x) for operation in self.operations.values()))


def flow_of(operations: dict[str, Callable[[Tensor], Tensor]]) -> TokenFlow:
    model, inputs = seeded(Operations, operations), (words(BATCH, LENGTH),)
    bound = bind_inputs(model, inputs)
    return follow_tokens(capture(model, bound), model, bound)


@cache
def kept() -> TokenFlow:
    return flow_of(KEPT)


@cache
def made() -> TokenFlow:
    return flow_of({name: operation for name, (_, operation) in MADE.items()})


@pytest.mark.parametrize("name", KEPT)
def test_tokens_keep_their_rows(name: str) -> None:
    flow = kept()
    (born,), tags = flow.outputs[0], flow.outputs[1 + list(KEPT).index(name)]
    (tag,) = tags
    assert tag.ids.shape == (BATCH, LENGTH, 1)
    assert torch.equal(flow.book.find(tag.tokens), flow.book.find(born.tokens))
    assert flow.warnings == []


@pytest.mark.parametrize("name", MADE)
def test_tokens_are_made_of_others(name: str) -> None:
    flow = made()
    (tag,) = flow.outputs[1 + list(MADE).index(name)]
    assert tag.ids.shape == (BATCH, 1, MADE[name][0])
    samples = flow.book.samples(flow.book.find(tag.tokens))
    assert bool((samples == torch.arange(BATCH)[:, None, None]).all())
    assert flow.warnings == []


@pytest.mark.parametrize("name", WARNED)
def test_what_is_not_followed_is_said(name: str) -> None:
    operation, function = WARNED[name]
    (warning,) = flow_of({name: function}).warnings
    assert operation in warning
    assert "in the model" in warning


class Resized(nn.Module):
    """Attention on a grid, which is then enlarged and read at one of its new places."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.words, self.head, self.mode = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Linear(WIDTH, 3),
            mode,
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head(F.interpolate(image(x), scale_factor=2, mode=self.mode)[:, :, 1, 2])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_interpolation_is_a_route_by_its_weights(mode: str) -> None:
    model, ids = seeded(Resized, mode), words(1, LENGTH)
    e = fxplain.explain(model, (ids,), target=0)
    unit = torch.eye(LENGTH).reshape(LENGTH, 1, SIDE, SIDE)
    shares = F.interpolate(unit, scale_factor=2, mode=mode)[:, 0, 1, 2].abs()
    shares = shares / shares.sum()
    matrix = e.matrix("input_ids", "input_ids")[0]
    torch.testing.assert_close(e.relevance["input_ids"][0], shares @ matrix)
    assert e.graph.warnings == ()
