"""Rows of R by products with vectors, against the matrices."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.errors import MethodError
from fxplain.explanation import matrices
from fxplain.methods import relevancy
from tests import small_models
from tests.random_models import Recipe, build, make_inputs, make_target, recipes
from tests.small_models import BY_NAME, architecture
from tests.test_random_models import some_examples

OPTIONS = [{}, {"normalize": False}, {"self_in_bimodal": False}, {"signed": True}]


def both(model: nn.Module, inputs: object, **kwargs: object) -> list[fxplain.Explanation]:
    return [fxplain.explain(model, inputs, engine=e, **kwargs) for e in ("rows", "matrices")]


def check_equal(
    rows: fxplain.Explanation, matrices: fxplain.Explanation, to: float = 1e-10
) -> None:
    assert (rows.engine, matrices.engine) == ("rows", "matrices")
    for name, want in matrices.relevance.items():
        got = rows.relevance[name]
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=0, atol=to * max(1.0, want.abs().max().item()))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o)) or "plain")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("bert", "lxmert", "t5", "swin") else [pytest.mark.slow])
        for n in BY_NAME
    ],
)
def test_on_every_kind_of_architecture(name: str, options: dict) -> None:
    case = BY_NAME[name]
    model, inputs = architecture(name, case.implementations[0], torch.float64)
    check_equal(*both(model, inputs, target=case.target, output=case.output, **options))


class Mutual(nn.Module):
    """Two modalities attend to each other, then each to itself, several times over."""

    def __init__(self, depth: int, *, to_itself: bool) -> None:
        super().__init__()
        self.words, self.boxes = nn.Embedding(30, 8), nn.Linear(5, 8)
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Linear(8, 8) for _ in range(4)) for _ in range(depth)
        )
        self.head = nn.Linear(8, 3)
        self.to_itself = to_itself

    def forward(self, input_ids: Tensor, boxes: Tensor) -> Tensor:
        x, y = self.words(input_ids), self.boxes(boxes)
        for to_x, to_y, of_x, of_y in self.layers:
            heard_x = F.scaled_dot_product_attention(x, to_x(y), y)
            heard_y = F.scaled_dot_product_attention(y, to_y(x), x)
            x, y = x + heard_x, y + heard_y
            if self.to_itself:
                x = x + F.scaled_dot_product_attention(x, of_x(x), x)
                y = y + F.scaled_dot_product_attention(y, of_y(y), y)
        return self.head(x[:, 0] + y.mean(1))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o)) or "plain")
@pytest.mark.parametrize(("depth", "to_itself"), [(3, False), (3, True)])
def test_self_relevancies_as_products(
    depth: int, to_itself: bool, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What equation 10 looks back at, where matrices would be large: none is made."""
    model = small_models.seeded(Mutual, depth, to_itself=to_itself).double()
    inputs = {"input_ids": small_models.words(2, 5), "boxes": torch.randn(2, 4, 5).double()}
    matrices = fxplain.explain(model, inputs, target=1, engine="matrices", **options)
    monkeypatch.setattr(relevancy, "LARGE", 0)
    monkeypatch.setattr(relevancy, "PRODUCTS", 100)
    monkeypatch.setattr(relevancy.Relevancies, "at", None)
    check_equal(fxplain.explain(model, inputs, target=1, **options), matrices)


@pytest.mark.slow
@some_examples(5)  # the fuzzer compares the engines too
@given(recipes())
def test_on_random_models(recipe: Recipe) -> None:
    model, inputs, target = build(recipe), make_inputs(recipe), make_target(recipe)
    check_equal(*both(model, inputs, target=target))


class Halves(nn.Module):
    """The first half attends within itself, then all do, each half within itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        first = x[:, :3]
        first = first + F.scaled_dot_product_attention(first, first, first)
        x = torch.cat([first, x[:, 3:]], 1)
        of_first = torch.arange(6) < 3
        within = of_first == of_first[:, None]
        x = x + F.scaled_dot_product_attention(x, x, x, attn_mask=within)
        return self.head(x[:, -1])


def test_a_node_of_which_nothing_is_read() -> None:
    rows, matrices = both(Halves().double().eval(), (small_models.words(2, 6),), target=0)
    check_equal(rows, matrices)
    assert (rows.relevance["input_ids"][:, :3] == 0).all()


class Pixels(nn.Module):
    """The pictures of all samples are one sequence; each text attends to all of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.see = nn.Embedding(30, 8), nn.Linear(5, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, patches: Tensor) -> Tensor:
        x, y = self.words(input_ids), self.see(patches)
        y = y + F.scaled_dot_product_attention(y, y, y)
        x = x + F.scaled_dot_product_attention(x, x, x)
        y = y.expand(len(x), -1, -1)
        x = x + F.scaled_dot_product_attention(x, y, y)
        return self.head(x[:, 0])


def test_samples_that_share_tokens() -> None:
    inputs = {"input_ids": small_models.words(2, 4), "patches": torch.randn(1, 3, 5).double()}
    model = Pixels().double().eval()
    by_itself = fxplain.explain(model, inputs, target=[0, 1])
    matrices = fxplain.explain(model, inputs, target=[0, 1], engine="matrices")
    for name, want in matrices.relevance.items():
        torch.testing.assert_close(by_itself.relevance[name], want)


# -- the choice -------------------------------------------------------------------------------------


def test_the_engine_is_chosen_and_said(tmp_path: Path) -> None:
    model, inputs = Halves().eval(), (small_models.words(1, 6),)
    assert fxplain.explain(model, inputs).engine == "rows"
    for method, engine in [("rollout", "matrices"), ("lrp", "tokens")]:
        assert fxplain.explain(model, inputs, method=method).engine == engine
    assert fxplain.explain(model, inputs, aggregate=False).engine == "matrices"
    fxplain.explain(model, inputs).save(tmp_path / "e.safetensors")
    assert fxplain.load(tmp_path / "e.safetensors").engine == "rows"


@pytest.mark.parametrize(
    ("engine", "method"), [("rows", "rollout"), ("matrices", "lrp"), ("vectors", "generic")]
)
def test_an_engine_that_a_method_does_not_have(engine: str, method: str) -> None:
    with pytest.raises(MethodError, match=engine):
        fxplain.explain(Halves().eval(), (small_models.words(1, 6),), method=method, engine=engine)


def test_matrices_that_take_much_memory_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    e = fxplain.explain(Halves().eval(), (small_models.words(1, 6),))
    monkeypatch.setattr(matrices, "LARGE", 100)
    with pytest.warns(UserWarning, match="GiB"):
        e.matrix("input_ids", "input_ids")
