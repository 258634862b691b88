"""The laws beside the law, each broken by what breaks no other; and the check that is on by default."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.explanation.detection import program_of
from fxplain.laws import cheap
from fxplain.laws.slopes import null_players
from fxplain.program import build_program
from fxplain.tokens import follow_tokens, op_table
from tests.small_models import TextClassifier

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    fxplain.clear_captures()


class Reader(nn.Module):
    """Two attentions over words, read at the first, with something done in between."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.between = between or nn.Identity()

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.words(input_ids)
        hidden = None if mask is None else mask[:, None].bool()
        x = self.between(x + F.scaled_dot_product_attention(x, x, x, hidden))
        x = x + F.scaled_dot_product_attention(x, x, x, hidden)
        return self.head(x[:, 0])


class Cut(nn.Module):
    """Half of what comes in goes on without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x * 0.5).detach()


class Rounded(nn.Module):
    """What 8-bit activations do, finely enough that the output looks smooth."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x * 1e4).round() / 1e4


class OverAll(nn.Module):
    """The mean of the batch is taken off every sample."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Grouped(nn.Module):
    """A norm whose statistics are of all words."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def broken(model: nn.Module, **inputs: Tensor) -> dict[str, str]:
    found = fxplain.verify(model.eval(), inputs)
    return {law.law: str(law.faults[0]) for law in found.broken}


def test_nothing_is_broken_in_a_plain_reader() -> None:
    assert not broken(Reader(), input_ids=IDS)
    found = fxplain.verify(Reader().eval(), {"input_ids": IDS, "mask": torch.ones(2, 5)})
    apart = ("pooled", "in another order")  # nothing is pooled, and the first word is read
    tried = [law for law in found.laws if not any(name in law.law for name in apart)]
    assert {law.state for law in tried} == {"holds"}


@pytest.mark.parametrize("between", [Cut(), Rounded()], ids=lambda m: type(m).__name__)
def test_a_gradient_that_is_cut(between: nn.Module) -> None:
    law = "the output moves as gradients say"
    found = broken(Reader(between), input_ids=IDS)
    assert list(found) == [law]
    assert "aten.scaled_dot_product_attention.default" in found[law]


class Remembers(Reader):
    """It returns what it said with the memory for its next call, of which no gradient comes."""

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head(x[:, 0]), x.detach()


def test_a_memory_without_a_gradient_breaks_nothing() -> None:
    assert broken(Remembers().eval(), input_ids=IDS) == {}
    with pytest.raises(fxplain.NoGradientError, match=r"aten\.detach"):
        fxplain.explain(
            Remembers().eval(), {"input_ids": IDS}, target=lambda out: out[1].sum((1, 2))
        )


class Distances(Reader):
    """Scores with a learned number for each distance between two words."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Embedding(9, 1)

    def forward(self, input_ids: Tensor, distance: Tensor) -> Tensor:  # type: ignore[override]
        x = self.words(input_ids)
        return self.head((x + (x @ x.mT + self.near(distance)[..., 0]).softmax(-1) @ x)[:, 0])


class DistancesAsMask(Distances):
    """The same as a mask of fused attention, of two distances that are added before."""

    def forward(self, input_ids: Tensor, distance: Tensor) -> Tensor:  # type: ignore[override]
        x, near = self.words(input_ids), self.near(distance) + self.near(distance.mT)
        return self.head((x + F.scaled_dot_product_attention(x, x, x, near[..., 0]))[:, 0])


@pytest.mark.parametrize("model", [Distances, DistancesAsMask])
def test_what_is_said_of_pairs_of_tokens_is_not_forgotten(model: type[Distances]) -> None:
    distance = torch.randint(9, (2, 5, 5))
    assert broken(model().eval(), input_ids=IDS, distance=distance) == {}


def test_samples_that_are_mixed() -> None:
    assert "samples do not depend on each other" in broken(Reader(OverAll()), input_ids=IDS)


class Squeezed(Reader):
    """What it says of one sample has no axis of samples."""

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids).squeeze()


def test_one_sample_of_which_a_model_says_something_else_is_not_compared() -> None:
    assert broken(Squeezed().eval(), input_ids=IDS) == {}


def test_relevance_of_a_token_that_nothing_reads() -> None:
    model = Reader().eval()
    inputs = {"input_ids": IDS, "mask": torch.tensor([[1.0] * 5, [1, 1, 1, 0, 0]])}
    bound, captured, _ = program_of(model, inputs)
    program = build_program(follow_tokens(captured, model, bound, keep_tags=True))
    explained = fxplain.explain(model, inputs)
    assert null_players(captured, model, bound, program, explained).state == "holds"
    relevance = explained.relevance["input_ids"] + 0.1
    wrong = replace(explained, relevance={"input_ids": relevance})
    result = null_players(captured, model, bound, program, wrong)
    assert result.state == "broken"
    assert result.faults[0].modalities == ("input_ids",)


def test_padding_that_changes_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reader().eval()
    inputs = {"input_ids": IDS, "mask": torch.ones(2, 5)}
    explained = fxplain.explain(model, inputs)
    assert cheap.padding_independence(model, inputs, explained).state == "holds"
    unmasked = fxplain.explain(model, {"input_ids": IDS})
    checked = cheap.padding_independence(model, {"input_ids": IDS}, unmasked)
    assert checked.state == "not checked"

    def of_length(model: nn.Module, inputs: Any, **options: Any) -> fxplain.Explanation:
        found = fxplain.explain(model, inputs, **options)
        longer = {name: r * r.shape[1] for name, r in found.relevance.items()}
        return replace(found, relevance=longer)

    monkeypatch.setattr(cheap, "explain", of_length)
    explained = of_length(model, inputs)
    assert cheap.padding_independence(model, inputs, explained).state == "broken"


class Bag(nn.Module):
    """Words without positions that attend; their mean is read."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        return self.head((x + nn.functional.scaled_dot_product_attention(x, x, x)).mean(1))


def test_the_order_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model, reader = Bag().eval(), Reader().eval()
    explained = fxplain.explain(model, (IDS,))
    assert cheap.token_order(model, (IDS,), explained).state == "holds"
    first = fxplain.explain(reader, {"input_ids": IDS})
    assert cheap.token_order(reader, {"input_ids": IDS}, first).state == "not checked"

    def by_place(model: nn.Module, inputs: Any, **options: Any) -> fxplain.Explanation:
        found = fxplain.explain(model, inputs, **options)
        at = torch.arange(1, IDS.shape[1] + 1)
        return replace(found, relevance={name: r * at for name, r in found.relevance.items()})

    monkeypatch.setattr(cheap, "explain", by_place)
    assert cheap.token_order(model, (IDS,), by_place(model, (IDS,))).state == "broken"


# -- by default -----------------------------------------------------------------------------------


def test_what_is_broken_is_a_warning_unless_the_check_is_off() -> None:
    model = Reader()
    model.words = nn.Sequential(model.words, Grouped())
    model.eval()
    (warning,) = fxplain.explain(model, (IDS,)).graph.warnings
    assert "aten.group_norm.default in words.1.norm" in warning
    assert "touches input_ids" in warning
    fxplain.clear_captures()
    assert not fxplain.explain(model, (IDS,), verify="off").graph.warnings
    with pytest.raises(fxplain.VerificationError, match=r"words\.1\.norm"):
        fxplain.inspect(model, (IDS,), strict=True)


def test_a_size_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fxplain.explanation import detection

    checked = []
    plain = detection.check_program

    def counted(*args: Any) -> Any:
        checked.append(args[-1])
        return plain(*args)

    monkeypatch.setattr(detection, "check_program", counted)
    model = TextClassifier().eval()
    for ids in (IDS, IDS + 1, IDS[:, :4], IDS):
        fxplain.explain(model, {"input_ids": ids})
    assert checked == ["light", "light"]


def test_a_check_that_fails_is_said_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fxplain.explanation import detection

    def out_of_memory(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(detection, "check_program", out_of_memory)
    warnings = fxplain.explain(TextClassifier().eval(), {"input_ids": IDS}).graph.warnings
    assert warnings == ("what is detected could not be checked: RuntimeError: out of memory",)


class OfTwo(nn.Module):
    """Words of two inputs: side by side in one attention, or the others' mean beside the first word."""

    def __init__(self, side_by_side: bool) -> None:
        super().__init__()
        self.words, self.head, self.side_by_side = (
            nn.Embedding(20, 8),
            nn.Linear(8, 3),
            side_by_side,
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x, y = self.words(a), self.words(b)
        x = torch.cat([x, y], 1) if self.side_by_side else x
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head(x[:, 0] if self.side_by_side else x[:, 0] + y.mean(1))


def _first_alone(analysis: Any, node: Any) -> Any:
    """The tags of what is put side by side, without those of what comes after the first."""
    first = analysis.shape(node.args[0][0])[1]
    return tuple(
        tag.with_ids(torch.where(torch.arange(tag.ids.shape[1])[:, None] < first, tag.ids, -1))
        for tag in op_table.TABLE["aten.concat"](analysis, node)
    )


@pytest.mark.parametrize(
    ("side_by_side", "operation", "rule"),
    [(True, "aten.cat", _first_alone), (False, "aten.mean", lambda analysis, node: ())],
)
def test_a_token_that_no_rule_follows_is_found(
    monkeypatch: pytest.MonkeyPatch, side_by_side: bool, operation: str, rule: Any
) -> None:
    """What is said of the others stays true, so that no other law sees it."""
    model, inputs = OfTwo(side_by_side).eval(), {"a": IDS, "b": IDS[:, :3]}
    assert fxplain.verify(model, inputs).ok
    fxplain.clear_captures()
    monkeypatch.setitem(op_table.TABLE, operation, rule)
    (law,) = fxplain.verify(model, inputs).broken
    assert law.law == "no token is forgotten"
    assert law.faults[0].modalities == ("b",)
    assert "6 tokens" in law.faults[0].detail
    warned = fxplain.explain(model, inputs).graph.warnings
    assert any("6 tokens that nothing is said of (touches b)" in warning for warning in warned)
