"""What may be given as a model: modules, exported programs, traced graphs; the rest is refused."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import BertConfig, BertForSequenceClassification

import fxplain
from tests.small_models import seeded

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


class Reader(nn.Module):
    """One attention over words, read at the first."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.words(input_ids)
        x = x + self.dropout(self.attention(x, x, x, need_weights=False)[0])
        return self.head(x[:, 0])


def relevance(model):
    (found,) = fxplain.explain(model, (IDS,), target=1).relevance.values()
    return found


@pytest.fixture(scope="module")
def reader():
    return seeded(Reader)


@pytest.mark.parametrize(
    "made",
    [
        lambda model: torch.export.export(model, (IDS,)),
        lambda model: torch.export.export(model, (IDS,)).module(),
        lambda model: torch.export.export(model, (IDS,)).run_decompositions(),
        lambda model: make_fx(lambda ids: model(ids))(IDS),
        lambda model: make_fx(lambda ids: model(ids), pre_dispatch=True)(IDS),
        lambda model: torch.jit.trace(model, (IDS,), check_trace=False),
    ],
    ids=["program", "module", "decomposed", "dispatched", "pre-dispatch", "jit.trace"],
)
def test_a_graph_is_explained_as_its_module(reader, made):
    torch.testing.assert_close(relevance(made(reader)), relevance(reader))


def test_an_exported_program_is_captured_once(reader):
    program = torch.export.export(reader, (IDS,))
    assert torch.equal(relevance(program), relevance(program))
    (found,), (expected,) = (fxplain.inspect(m, (IDS,)).nodes for m in (program, reader))
    assert (found.kind, found.heads, found.form) == (expected.kind, expected.heads, expected.form)
    assert fxplain.attention_weights(program, (IDS,)).keys()


@pytest.mark.parametrize(
    "take", [lambda p: p, lambda p: p.module(), lambda p: p.run_decompositions()]
)
def test_an_exported_graph_knows_its_modules(take):
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.ModuleDict(
                {"reader": seeded(Reader)}
            )  # named as the wrapper of a capture

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.model["reader"](input_ids)

    graph = fxplain.inspect(take(torch.export.export(Outer().eval(), (IDS,))), (IDS,))
    assert [node.module for node in graph.nodes] == ["model.reader.attention"]


def test_every_kernel_of_fused_attention_is_attention():
    class Kernel(nn.Module):
        def __init__(self, call) -> None:
            super().__init__()
            self.words, self.call = nn.Embedding(10, 16), call

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            x = self.words(input_ids).unsqueeze(1)
            return (x + self.call(x)).squeeze(1)[:, 0]

    whole = nn.functional.scaled_dot_product_attention
    for_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    plain = seeded(lambda: Kernel(lambda x: whole(x, x, x, scale=0.5, is_causal=True)))
    kernel = seeded(lambda: Kernel(lambda x: for_cpu(x, x, x, 0.0, True, scale=0.5)[0]))
    found, expected = (fxplain.explain(m, (IDS,), target=3) for m in (kernel, plain))
    torch.testing.assert_close(found.relevance["input_ids"], expected.relevance["input_ids"])
    (node,) = fxplain.inspect(kernel, (IDS,)).nodes
    assert node.form == "fused"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "got NoneType"),
        ("bert-base-uncased", "from_pretrained"),
        (Reader, "the class Reader"),
        (lambda ids: ids, "function '<lambda>'"),
        ({"weight": torch.ones(1)}, "load_state_dict"),
        (torch.ones(2), "got Tensor"),
    ],
    ids=["none", "name", "class", "function", "weights", "tensor"],
)
def test_what_is_no_model_is_refused(model, message):
    for door in (fxplain.explain, fxplain.inspect, fxplain.attention_weights, fxplain.verify):
        with pytest.raises(fxplain.InputError, match=message):
            door(model, (IDS,))


def test_torchscript_is_refused(reader):
    scripted = torch.jit.script(reader)
    for model in (scripted, torch.jit.freeze(scripted)):
        with pytest.raises(fxplain.InputError, match="TorchScript"):
            fxplain.explain(model, (IDS,))
    with pytest.raises(fxplain.NoAttentionError, match=r"outside of TorchScript.*part '0'"):
        fxplain.explain(nn.Sequential(scripted).eval(), (IDS,))


def test_a_graph_made_in_training_mode_is_refused():
    model = seeded(lambda: Reader(dropout=0.5)).train()
    with pytest.raises(fxplain.TrainingModeError, match="Make it again"):
        fxplain.explain(torch.export.export(model, (IDS,)), (IDS,))
    model.eval()
    torch.testing.assert_close(relevance(torch.export.export(model, (IDS,))), relevance(model))


def test_a_symbolically_traced_graph_has_a_mode():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Reader()

        def forward(self, input_ids):
            return self.inner(input_ids)

    class Leaves(torch.fx.Tracer):
        def is_leaf_module(self, module, path):
            return isinstance(module, Reader)

    model = seeded(Plain)
    traced = torch.fx.GraphModule(model, Leaves().trace(model))
    torch.testing.assert_close(relevance(traced.eval()), relevance(model))
    with pytest.raises(fxplain.TrainingModeError, match=r"model\.eval"):
        relevance(traced.train())
    model.eval()


@pytest.mark.skipif(
    not getattr(BertForSequenceClassification, "_supports_flex_attn", True),
    reason="this release of transformers has BERT without flex_attention",
)
def test_flex_attention_with_a_mask_of_both_directions() -> None:
    inputs = {"input_ids": torch.tensor([[3, 1, 4, 1]]), "attention_mask": torch.ones(1, 4).long()}
    found = []
    for way in ("eager", "flex_attention"):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, initializer_range=0.3, attn_implementation=way,
        )  # fmt: skip
        model = BertForSequenceClassification(config).eval()
        found.append(fxplain.explain(model, inputs, target=1).relevance["input_ids"])
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
