"""Models as people write them: each is captured, computes what the model computes, and says so."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import fxplain
from fxplain.capture import pace
from fxplain.capture.captured import OutputLayout
from fxplain.capture.members import members_beside_each_other
from tests.small_models import TextClassifier, seeded, words

IDS = words(2, 6)


class Item(TextClassifier):
    """A number that is read from the data."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids) * int(input_ids.max().item())


class Experts(TextClassifier):
    """A loop over the experts that were hit."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.gate = nn.Linear(16, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder(input_ids)
        chosen, out = self.gate(hidden).argmax(-1), torch.zeros_like(hidden)
        for i, expert in enumerate(self.experts):
            hit = torch.where(chosen == i)
            if len(hit[0]):
                out[hit] = expert(hidden[hit])
        return self.head(self.encoder.blocks[0](hidden + out)[:, 0])


class Lengths(TextClassifier):
    """Sizes that depend on data, through Python."""

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder(input_ids)
        lengths = (input_ids > 0).sum(1).tolist()
        return torch.stack([self.head(hidden[i, :n].mean(0)) for i, n in enumerate(lengths)])


class Checkpointed(TextClassifier):
    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder.words(input_ids)
        for block in self.encoder.blocks:
            hidden = checkpoint(block, hidden, use_reentrant=False)
        return self.head(hidden[:, 0])


class Cast(TextClassifier):
    """Autocast, which dispatch acts out, after what a capture sees first."""

    def __init__(self, *, enabled: bool = True, branch: bool = False) -> None:
        super().__init__()
        self.enabled, self.branch = enabled, branch

    def forward(self, input_ids: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.enabled):
            logits = super().forward(input_ids)
        return -logits if self.branch and logits.sum() > 1e9 else logits


class Mapped(TextClassifier):
    """``torch.vmap`` over a mask's positions, and over the samples of the head."""

    def __init__(self, *, branch: bool = False) -> None:
        super().__init__(fused=False)
        self.branch = branch

    def forward(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1])
        visible = torch.vmap(torch.vmap(lambda q, k: k >= q, (None, 0)), (0, None))(places, places)
        hidden = self.encoder.words(input_ids)
        scores = (hidden @ hidden.transpose(1, 2)).masked_fill(~visible, -1e9)
        mixed = torch.vmap(lambda x: 2 * x + 1)(scores.softmax(-1) @ hidden)
        logits = self.head(mixed[:, 0])
        return -logits if self.branch and logits.sum() > 1e9 else logits


class Differentiates(TextClassifier):
    """A gradient step inside the forward."""

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder(input_ids)
        with torch.enable_grad():
            x = hidden.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.head(x).pow(2).sum(), x)
        return self.head((hidden - 0.1 * gradient)[:, 0])


@dataclass
class Answer:
    logits: Tensor
    hidden: list[Tensor]
    note: str = "a text"
    nothing: None = None


class Answers(TextClassifier):
    def forward(self, input_ids: Tensor) -> Answer:
        hidden = self.encoder(input_ids)
        return Answer(self.head(hidden[:, 0]), [hidden])


def plain() -> TextClassifier:
    return seeded(TextClassifier)


def scripted_part() -> nn.Module:
    model = plain()
    model.encoder.blocks[0].feed_forward = torch.jit.script(model.encoder.blocks[0].feed_forward)
    return model


def compiled_part() -> nn.Module:
    model = plain()
    model.encoder = torch.compile(model.encoder, backend="eager")
    return model


def parametrized() -> nn.Module:
    model = plain()
    nn.utils.parametrizations.weight_norm(model.head)
    nn.utils.parametrizations.spectral_norm(model.encoder.blocks[0].attention.query)
    return model.eval()


def hooked() -> nn.Module:
    model = plain()
    model.head.register_forward_hook(lambda _module, _inputs, output: -2 * output)
    model.encoder.blocks[0].register_forward_pre_hook(lambda _, given: (given[0] / 2, *given[1:]))
    return model


def patched() -> nn.Module:
    model = plain()
    forward = model.forward
    model.forward = lambda *args, **kwargs: 2 * forward(*args, **kwargs)
    return model


def partial() -> nn.Module:
    model = plain()
    model.forward = functools.partial(model.forward, attention_mask=torch.ones(2, 6))
    return model


def without_gradients() -> nn.Module:
    with torch.inference_mode():
        return plain()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "a number from the data": lambda: seeded(Item),
    "a loop over experts": lambda: seeded(Experts),
    "sizes from the data": lambda: seeded(Lengths),
    "checkpoints": lambda: seeded(Checkpointed),
    "autocast": lambda: seeded(Cast),
    "autocast, recorded": lambda: seeded(Cast, branch=True),
    "autocast switched off": lambda: seeded(Cast, enabled=False, branch=True),
    "vmap": lambda: seeded(Mapped),
    "vmap, recorded": lambda: seeded(Mapped, branch=True),
    "a gradient inside": lambda: seeded(Differentiates),
    "a dataclass": lambda: seeded(Answers),
    "a script inside": scripted_part,
    "a trace": lambda: torch.jit.trace(plain(), IDS).eval(),
    "compiled inside": compiled_part,
    "data parallel": lambda: nn.DataParallel(plain()).eval(),
    "parametrizations": parametrized,
    "hooks": hooked,
    "a patched forward": patched,
    "a partial forward": partial,
    "inference mode": without_gradients,
    "no gradients": lambda: plain().requires_grad_(False),
    "half precision": lambda: plain().bfloat16(),
}


@pytest.mark.filterwarnings(
    "ignore"
)  # of torch: what is deprecated, and what a trace takes for fixed
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_explained_as_it_runs(name: str) -> None:
    model = MODELS[name]()
    e = fxplain.explain(model, (IDS,), target=0)
    assert list(e.relevance) == ["input_ids"]
    assert e.relevance["input_ids"].abs().sum() > 2.0, "more than the tokens that are read"
    assert e.graph.warnings == ()
    with torch.no_grad():
        want = OutputLayout.of(model(IDS))[1]
    for got, expected in zip(OutputLayout.of(e.output)[1], want, strict=True):
        assert got.dtype == expected.dtype
        tolerance = 2e-2 if got.dtype is torch.bfloat16 else 1e-5
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


class SideBySide(nn.Module):
    """Layers of weights that ``torch.vmap`` gives one after the other: of several models, or heads."""

    def __init__(self, layers: int, *, of_samples: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.weights = nn.Parameter(torch.randn(3, layers, 8, 8) / 3)
        self.of_samples = of_samples

    def forward(self, input_ids: Tensor) -> Tensor:
        words = self.words(input_ids)
        if self.of_samples:
            return torch.vmap(self._read, (None, 0))(self.weights[0], words)[:, :4]
        read = torch.vmap(self._read_all, (0, None))(self.weights, words)
        return read.mean(0)[:, :4]

    def _read_all(self, weights: Tensor, words: Tensor) -> Tensor:
        for weight in weights:
            words = words + F.scaled_dot_product_attention(words @ weight, words, words)
        return words[:, 0]

    def _read(self, weights: Tensor, words: Tensor) -> Tensor:
        return self._read_all(weights, words[None])[0]


def said_of(model: nn.Module) -> list[str]:
    graph = torch.export.export(model, (IDS,), strict=False).graph
    given = [node for node in graph.find_nodes(op="placeholder") if node.name == "input_ids"]
    assert len(given) == 1
    return members_beside_each_other(graph, given)


def test_models_side_by_side_under_vmap_are_warned_of() -> None:
    """They are followed as heads of one, which is off where attention follows attention."""
    graph = fxplain.inspect(seeded(SideBySide, 2), (IDS,))
    assert any("torch.vmap runs 3 models side by side" in said for said in graph.warnings)
    assert [len(said_of(m)) for m in (SideBySide(2), SideBySide(1))] == [
        1,
        0,
    ]  # the latter is heads
    assert said_of(SideBySide(2, of_samples=True)) == []


@pytest.mark.parametrize("dynamic", [True, False], ids=["exported", "recorded"])
def test_what_vmap_does_holds_for_other_inputs(dynamic: bool) -> None:
    model = seeded(Mapped, branch=not dynamic)
    for ids in (IDS, words(2, 6, seed=2)):
        torch.testing.assert_close(fxplain.explain(model, (ids,)).output, model(ids).detach())


class KeepsMapped(nn.Module):
    """Keeps what it saw under ``torch.vmap``, which nobody can read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head, self.seen = nn.Embedding(20, 8), nn.Linear(8, 3), None

    def _twice(self, row: Tensor) -> Tensor:
        self.seen = row
        return 2 * row

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.vmap(self._twice)(self.words(ids))
        return self.head((x + nn.functional.scaled_dot_product_attention(x, x, x))[:, 0])


def test_what_vmap_left_on_a_model_is_let_be() -> None:
    model, ids = seeded(KeepsMapped), torch.tensor([[3, 1, 4], [1, 5, 9]])
    model(ids)
    kept = model.seen
    explained = fxplain.explain(model, (ids,))
    torch.testing.assert_close(explained.output, model(ids))
    fxplain.clear_captures()
    model.seen = kept
    again = fxplain.explain(model, (ids,))
    torch.testing.assert_close(again.relevance["ids"], explained.relevance["ids"])
    assert model.seen is kept


def test_giving_up_on_free_sizes_leaves_no_vmap_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_PATIENCE", 0.0)
    monkeypatch.setattr(pace, "_recorded", lambda: -torch._C._functorch.maybe_current_level() - 1
                        if torch._C._functorch.maybe_current_level() else 1 << 30)  # fmt: skip
    e = fxplain.explain(seeded(Mapped), (IDS,))
    assert "free sizes are too costly" in e.graph.capture.failures[0]
    assert torch._C._functorch.maybe_current_level() is None


def test_weights_that_are_not_made_yet() -> None:
    class Lazy(TextClassifier):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.LazyLinear(5)

    model = Lazy().eval()
    with pytest.raises(fxplain.InputError, match=r"'head.weight' is not made yet"):
        fxplain.explain(model, (IDS,))
    model(IDS)
    assert fxplain.explain(model, (IDS,)).relevance["input_ids"].shape == (2, 6)


@pytest.mark.parametrize("part", [False, True], ids=["all", "a part"])
def test_weights_without_values(part: bool) -> None:
    model: Any = plain()
    (model.head if part else model).to("meta")
    with pytest.raises(fxplain.InputError, match="on the meta device"):
        fxplain.explain(model, (IDS,))


class Reversed(torch.autograd.Function):
    """The identity, with a gradient that points the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


reverse = Reversed.apply


class Adversarial(TextClassifier):
    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(reverse(self.encoder(input_ids))[:, 0])


def test_a_backward_of_its_own_is_said_so() -> None:
    before = vars(Reversed)["forward"]
    (warning,) = fxplain.inspect(seeded(Adversarial), (IDS,)).warnings
    assert warning.startswith("Reversed has a backward of its own")
    assert vars(Reversed)["forward"] is before
