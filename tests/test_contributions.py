"""Direct contributions: the terms that a score is the sum of."""

import json

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.long_run import quickly
from tests.small_models import BY_NAME, TextClassifier, architecture, seeded, words

EVERY = quickly(BY_NAME, ["gpt2", "lxmert"])


@pytest.mark.parametrize("name", EVERY)
def test_terms_add_up_on_every_kind_of_architecture(name: str) -> None:
    case = BY_NAME[name]
    model, inputs = architecture(name, case.implementations[0], torch.float64)
    found = fxplain.direct_contributions(model, inputs, case.target, output=case.output)
    torch.testing.assert_close(found.total, found.scores)
    assert found.rest.abs().max() < 1e-5 * max(1.0, float(found.scores.abs().max()))
    assert {"head", "layer"} <= {term.kind for term in found}


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_terms_are_what_layers_add_times_the_head(fused: bool) -> None:
    model = seeded(TextClassifier, depth=2, fused=fused).double()
    ids = words(2, 6)
    said: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if name.endswith(("feed_forward", "attention", "out")):
            module.register_forward_hook(
                lambda module, given, made, name=name: said.update(
                    {name: made, f"to {name}": given[0]}
                )
            )
    x = model.encoder.words(ids) + model.encoder.positions(torch.arange(6))
    with torch.no_grad():
        score = model(ids)[:, 3]
    hooks = [hook for module in model.modules() for hook in list(module._forward_hooks)]
    for module in model.modules():
        module._forward_hooks.clear()
    assert hooks

    found = fxplain.direct_contributions(model, {"input_ids": ids}, 3)
    row = model.head.weight[3]
    by_name = {(term.kind, term.name, term.head): term.values for term in found}
    torch.testing.assert_close(found.scores, score)
    for block in (0, 1):
        path = f"encoder.blocks.{block}"
        (added,) = [v for (kind, name, _), v in by_name.items()
                    if kind == "layer" and name.startswith(path)]  # fmt: skip
        torch.testing.assert_close(added, said[f"{path}.feed_forward"][:, 0] @ row)
        mixed = said[f"to {path}.attention.out"][:, 0]
        out = model.get_submodule(f"{path}.attention.out")
        heads = [v for (kind, name, _), v in by_name.items() if kind == "head" and path in name]
        for value, own, weight in zip(
            heads, mixed.chunk(2, -1), out.weight.chunk(2, -1), strict=True
        ):
            torch.testing.assert_close(value, own @ weight.T @ row)
        torch.testing.assert_close(
            by_name["bias", f"{path}.attention.out.bias", None], (out.bias @ row).expand(2)
        )
    torch.testing.assert_close(by_name["bias", "head.bias", None], model.head.bias[3].expand(2))
    (before,) = [v for (kind, _, _), v in by_name.items() if kind == "constant"]
    torch.testing.assert_close(before, x[:, 0] @ row)


def test_what_is_no_sum_is_the_rest() -> None:
    model = seeded(TextClassifier)
    found = fxplain.direct_contributions(model, (words(2, 6),), lambda out: out[:, 0].square())
    torch.testing.assert_close(found.total, found.scores)
    torch.testing.assert_close(found.rest, -found.scores)  # y = 2 s (s) - s^2


def test_they_print_and_the_model_is_untouched() -> None:
    model = seeded(TextClassifier)
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    e = fxplain.explain(model, (words(2, 6),))
    found = e.contributions()
    assert "the sum of" in found.to_text()
    assert len(json.loads(json.dumps(found.to_dict()))["terms"]) == 2 * len(found.terms)
    assert found.top(1, sample=1)[0].values[1].abs() == max(t.values[1].abs() for t in found)
    assert len(found.to_frame()) == 2 * len(found.terms)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1]
        assert parameter.grad is None


def test_a_model_without_a_residual_stream() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.mix = (
                nn.Embedding(30, 8),
                nn.MultiheadAttention(8, 2, batch_first=True),
            )
            self.head = nn.Linear(8, 3)

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.words(input_ids)
            return self.head(self.mix(x, x, x)[0][:, 0])

    model = seeded(Bare)
    nn.init.ones_(model.mix.out_proj.bias)
    found = fxplain.direct_contributions(model, (words(2, 5),), 1)
    assert [term.head for term in found if term.kind == "head"] == [0, 1]
    assert {term.name for term in found if term.kind == "bias"} == {
        "mix.out_proj.bias",
        "head.bias",
    }
    assert found.rest.abs().max() < 1e-5


def test_what_is_written_among_others_and_what_kept_statistics_add() -> None:
    class Patched(nn.Module):
        """A vector among words, then a norm by kept statistics, a number, an upscaling."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.mix = (
                nn.Embedding(30, 8),
                nn.MultiheadAttention(8, 2, batch_first=True),
            )
            self.put, self.norm = nn.Parameter(torch.randn(8)), nn.BatchNorm1d(8)
            self.larger, self.head = nn.ConvTranspose1d(8, 8, 2, 2), nn.Linear(8, 3)

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.words(input_ids)
            x = x + self.mix(x, x, x)[0]
            here = torch.zeros_like(x, dtype=torch.bool)
            here[:, 1:2] = True
            x = x.masked_scatter(here, self.put.expand_as(x[:, 1:2])).mT
            x = self.larger(self.norm(x) + 2)
            return self.head(x.mean(-1) - 0.5)

    model = seeded(Patched)
    with torch.no_grad():
        for own in (model.norm.running_mean, model.norm.bias, model.larger.bias):
            own.normal_()
    found = fxplain.direct_contributions(model, (words(2, 5),), 1)
    assert found.rest.abs().max() < 1e-5
    biases = {term.name for term in found if term.kind == "bias"}
    assert biases >= {"put", "norm.bias", "larger.bias", "head.bias"}
