"""Spectrograms: patches along time and frequency are tokens each, as those of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import seeded


class Patches(nn.Module):
    """A spectrogram of (batch, time, frequency), cut into overlapping patches that attend."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Conv2d(1, 8, 4, stride=3), nn.Linear(8, 3)

    def forward(self, values: Tensor) -> Tensor:
        x = self.project(values.unsqueeze(1).transpose(2, 3)).flatten(2).transpose(1, 2)
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head(x[:, 0])


def test_patches_of_a_spectrogram_are_tokens() -> None:
    """10 frequencies and 16 frames are 3 x 5 patches of 4 x 4, three apart."""
    e = fxplain.explain(seeded(Patches), (torch.rand(2, 16, 10),), target=1)
    assert e.graph.modalities == {"values": 15}
    assert [(node.q_len, node.k_len) for node in e.graph.nodes] == [(15, 15)]
    assert e.readout == ("values[0]", "values[0]")
    assert not e.graph.warnings
