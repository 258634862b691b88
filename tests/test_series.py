"""Series of numbers: what they are normalised with, windows of several arguments, a loss beside."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import Block, seeded

STEPS = 12


def series(steps: int = STEPS) -> Tensor:
    return torch.randn(2, steps, generator=torch.Generator().manual_seed(steps))


class Normalised(nn.Module):
    """Patches of a normalised series; the prediction is scaled back."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block, self.head = nn.Linear(3, 16), Block(), nn.Linear(16, 2)

    def forward(self, values: Tensor) -> dict[str, Tensor]:
        mean, spread = values.mean(1, keepdim=True), values.std(1, keepdim=True)
        x = self.block(self.patches(((values - mean) / spread).unflatten(1, (4, 3))))
        return {"prediction": self.head(x[:, 0]) * spread + mean, "mean": mean, "spread": spread}


def test_what_a_series_is_normalised_with_is_context() -> None:
    model, values = seeded(Normalised), series()
    e = fxplain.explain(model, (values,), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"values": 4}
    assert e.graph.context == ("values",)
    assert "statistics of values: acts on all tokens alike" in str(e.graph)
    assert not fxplain.verify(model, (values,)).broken
    with pytest.raises(fxplain.FxplainError):  # no attention has a part in it
        fxplain.explain(model, (values,), target=0, output="mean")


class Tempered(Normalised):
    """A number of each sample sharpens what is read."""

    def forward(self, values: Tensor, temperature: Tensor) -> Tensor:
        x = self.block(self.patches(values.unflatten(1, (4, 3))) * temperature[:, None, None])
        return self.head(x[:, 0])


def test_a_number_for_each_sample_is_context() -> None:
    graph = fxplain.inspect(seeded(Tempered), (series(), torch.rand(2)))
    assert graph.modalities == {"values": 4}
    assert graph.context == ("temperature",)


class Forecast(nn.Module):
    """Each step holds the two values before it; the decoder's reach back into the past."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.future = nn.Linear(3, 16), nn.Linear(3, 16)
        self.encoder, self.decoder = Block(), Block()
        self.head = nn.Linear(16, 1)

    def forward(self, past: Tensor, clock: Tensor, future: Tensor) -> dict[str, Tensor]:
        scale = past.abs().mean(1, keepdim=True)
        steps = torch.cat([past, future], 1) / scale
        windows = torch.stack([steps[:, 1:-1], steps[:, :-2], clock[:, 2:]], -1)
        known = self.encoder(self.past(windows[:, : past.shape[1] - 2]))
        x = self.future(windows[:, past.shape[1] - 2 :])
        scores = x @ known.transpose(1, 2) / 4
        prediction = self.head(self.decoder(x + scores.softmax(-1) @ known))[..., 0] * scale
        return {"loss": (prediction - future).square().mean(), "prediction": prediction}


def forecast_inputs() -> dict[str, Tensor]:
    return {"past": series(6), "clock": series(10), "future": series(4)}


def test_a_decoders_window_has_the_name_that_it_is_given_by() -> None:
    model, inputs = seeded(Forecast), forecast_inputs()
    graph = fxplain.inspect(model, inputs)
    assert graph.modalities == {"past": 4, "future": 4}
    assert [node.kind for node in graph.nodes] == ["self", "encoder-decoder", "self"]
    assert graph.warnings == (
        "tokens of future are made of past, clock as well: their relevance is of all",
    )
    assert not fxplain.verify(model, inputs).broken


def test_a_loss_for_the_whole_batch_is_not_the_main_output() -> None:
    model, inputs = seeded(Forecast), forecast_inputs()
    assert fxplain.inspect(model, inputs).readout == "each of future[0..3]"
    e = fxplain.explain(model, inputs, target=(2,))
    torch.testing.assert_close(e.scores, model(**inputs)["prediction"][:, 2])


class Sparse(nn.Module):
    """Only the queries that the longest keys meet attend; the others take the mean of all values."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.value, self.out = (
            nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        )  # fmt: skip
        self.head = nn.Linear(16, 3)

    def forward(self, values: Tensor) -> Tensor:
        x = self.words(values.unflatten(1, (4, 3)))
        value = self.value(x)
        weights = (x[:, 1:3] @ x.transpose(1, 2) / 4).softmax(-1)
        heard = value.mean(1, keepdim=True).expand(-1, 4, -1).clone()
        heard[:, 1:3] = weights @ value
        return self.head(x + self.out(heard))


def test_the_mean_that_others_take_is_made_of_all_tokens() -> None:
    """Query 0 attends to nothing and hears the mean of four values: eq. 6 with a map of 1/4."""
    model, values = seeded(Sparse), series()
    e = fxplain.explain(model, (values,), target=(0, 1))
    assert e.graph.modalities == {"values": 4}
    expected = torch.full((2, 4), 0.25)
    expected[:, 0] += 1
    torch.testing.assert_close(e.relevance["values"], expected)
