"""Capture: when it is made, reused and dropped; what goes in and out; what happens when it fails."""

import gc
import itertools
import math
import warnings
import weakref
from collections import UserDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, CLIPConfig, CLIPModel

import fxplain
from fxplain.capture import bind_inputs, cache, capture, module_path, pace, routes
from fxplain.capture.comparison import share_apart
from tests.small_models import (
    ImageClassifier,
    TextClassifier,
    TextEncoder,
    architecture,
    pixels,
    seeded,
    words,
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model's class name, once for each capture that is made."""
    names: list[str] = []
    make = cache._make

    def counted(model: nn.Module, *args: Any) -> Any:
        names.append(type(model).__name__)
        return make(model, *args)

    monkeypatch.setattr(cache, "_make", counted)
    return names


def bert(implementation: str = "sdpa") -> tuple[nn.Module, dict[str, Tensor]]:
    """A fresh BERT of one layer."""
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        attn_implementation=implementation,
    )
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    model = seeded(BertForSequenceClassification, config)
    return model, {"input_ids": words(2, 6), "attention_mask": mask}


def clip() -> tuple[nn.Module, dict[str, Tensor]]:
    """A fresh CLIP of one layer in each tower."""
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 30, "eos_token_id": 29, "max_position_embeddings": 8},
        vision_config={**tower, "image_size": 8, "patch_size": 4},
        projection_dim=8,
        attn_implementation="sdpa",
    )
    inputs = {"input_ids": words(2, 6), "pixel_values": pixels(2, 3, 8, 8)}
    return seeded(CLIPModel, config), inputs


def captured(model: nn.Module, *inputs: Any, **named: Any) -> Any:
    return capture(model, bind_inputs(model, named or inputs))


def operations(made: Any) -> set[str]:
    return {str(n.target).removeprefix("aten.").split(".")[0] for n in made.graph.nodes}


# Reuse


def test_another_batch_and_length_need_no_new_capture(made: list[str]) -> None:
    model, fresh = seeded(TextClassifier), seeded(TextClassifier)
    for shape in ((2, 6), (3, 9), (2, 4), (5, 6)):
        ids = words(*shape, seed=1)
        e = fxplain.explain(model, (ids,), target=1)
        assert e.relevance["input_ids"].shape == shape
        scores = fresh(ids)[:, 1]
        torch.testing.assert_close(e.scores, scores.detach())
    assert made == ["TextClassifier"]
    fxplain.clear_captures(model)
    alone = fxplain.explain(model, (words(5, 6, seed=1),), target=1)
    torch.testing.assert_close(e.relevance["input_ids"], alone.relevance["input_ids"])
    assert len(made) == 2


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_well_known_models_are_dynamic(name: str, made: list[str]) -> None:
    model, inputs = architecture(name)
    fxplain.clear_captures(model)
    first = captured(model, **inputs)
    shorter = {k: v[:, :5] for k, v in inputs.items()}
    assert captured(model, **shorter) is first
    longer = {k: torch.cat([v, v[:1]]) for k, v in inputs.items()}
    assert captured(model, **longer) is first
    assert len(made) == 1


def test_a_batch_of_one_and_then_of_two(made: list[str]) -> None:
    """An axis of size 1 is captured as fixed, so this takes two captures, but not three."""
    model = seeded(TextClassifier)
    results = [fxplain.explain(model, (words(b, 6),), target=0) for b in (1, 2, 1, 3)]
    assert len(made) == 2
    torch.testing.assert_close(results[0].relevance["input_ids"], results[2].relevance["input_ids"])


def test_image_axes_are_fixed_and_the_batch_is_free(made: list[str]) -> None:
    model = seeded(ImageClassifier)
    first = captured(model, pixels())
    slot = next(iter(first.inputs.values()))
    assert slot.name == "pixel_values"
    assert slot.shape[1:] == (3, 8, 8)
    assert not isinstance(slot.shape[0], int)
    assert captured(model, pixels(4, 3, 8, 8)) is first
    wide = captured(model, pixels(2, 3, 8, 12))
    assert wide is not first
    assert captured(model, pixels(2, 3, 8, 8)) is first
    assert len(made) == 2
    assert fxplain.explain(model, (pixels(2, 3, 8, 12),)).relevance["pixel_values"].shape == (2, 7)


def test_captures_do_not_keep_a_model_alive() -> None:
    model = seeded(TextClassifier)
    weight = weakref.ref(model.head.weight)
    gone = weakref.ref(model)
    e = fxplain.explain(model, (words(2, 6),))
    relevance = e.relevance["input_ids"]
    assert model in cache._captures
    del model
    assert e.matrix("input_ids", "input_ids").shape == (2, 6, 6)  # by another run of the model
    del e
    gc.collect()
    assert gone() is None
    assert weight() is None
    assert relevance.shape == (2, 6)


def test_a_transformers_model_is_freed() -> None:
    model, inputs = bert()
    gone = weakref.ref(model)
    fxplain.inspect(model, inputs)
    del model
    gc.collect()
    assert gone() is None


def test_a_changed_flag_makes_a_new_capture(made: list[str]) -> None:
    model = seeded(TextClassifier)
    ids = (words(2, 6),)
    fused = fxplain.explain(model, ids, target=0)
    assert {node.form for node in fused.graph.nodes} == {"fused"}
    for block in model.encoder.blocks:
        block.attention.fused = False
    plain = fxplain.explain(model, ids, target=0)
    assert {node.form for node in plain.graph.nodes} == {"product"}
    assert len(made) == 2
    torch.testing.assert_close(fused.relevance["input_ids"], plain.relevance["input_ids"])


def test_another_attention_implementation_makes_a_new_capture() -> None:
    model, inputs = bert()
    assert {node.form for node in fxplain.inspect(model, inputs).nodes} == {"fused"}
    model.set_attn_implementation("eager")
    assert {node.form for node in fxplain.inspect(model, inputs).nodes} == {"product"}


def test_one_towers_attention_implementation_makes_a_new_capture() -> None:
    model, inputs = clip()
    assert {node.form for node in fxplain.inspect(model, inputs).nodes} == {"fused"}
    model.set_attn_implementation({"text_config": "eager"})
    nodes = fxplain.inspect(model, inputs).nodes
    assert {(n.form, n.query) for n in nodes} == {
        ("fused", ("pixel_values",)),
        ("product", ("input_ids",)),
    }


def test_a_replaced_module_makes_a_new_capture() -> None:
    model, ids = seeded(TextClassifier), words(2, 6)
    assert fxplain.explain(model, (ids,)).output.shape == (2, 5)
    model.head = nn.Linear(16, 7).eval()
    torch.testing.assert_close(fxplain.explain(model, (ids,)).output, model(ids).detach())
    model.encoder.blocks[0].feed_forward = nn.Identity().eval()
    torch.testing.assert_close(fxplain.explain(model, (ids,)).output, model(ids).detach())


def test_parameters_are_read_live(made: list[str]) -> None:
    model = seeded(TextClassifier)
    ids = (words(2, 6),)
    before = fxplain.explain(model, ids, target=0)
    with torch.no_grad():
        model.encoder.blocks[0].attention.value.weight.mul_(-1.5)
    after = fxplain.explain(model, ids, target=0)
    assert len(made) == 1
    assert not torch.allclose(before.relevance["input_ids"], after.relevance["input_ids"])
    torch.testing.assert_close(after.output, model(*ids).detach())
    fxplain.clear_captures(model)
    again = fxplain.explain(model, ids, target=0)
    torch.testing.assert_close(after.relevance["input_ids"], again.relevance["input_ids"])
    model.head.weight = nn.Parameter(model.head.weight.detach() * 3)
    torch.testing.assert_close(fxplain.explain(model, ids, target=0).output, model(*ids).detach())


def test_a_model_in_another_precision_is_another_capture() -> None:
    model = seeded(ImageClassifier)
    single = fxplain.explain(model, (pixels(),), target=0)
    double = fxplain.explain(model.double(), (pixels().double(),), target=0)
    assert double.output.dtype == torch.float64
    torch.testing.assert_close(
        single.relevance["pixel_values"].double(), double.relevance["pixel_values"],
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip
    back = fxplain.explain(model.float(), (pixels(),), target=0)
    torch.testing.assert_close(single.relevance["pixel_values"], back.relevance["pixel_values"])


class Careful(TextClassifier):
    """A softmax in float32, cast back to the model's precision, as most models have it."""

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder.words(input_ids)
        scores = hidden @ hidden.transpose(1, 2)
        weights = scores.softmax(-1, dtype=torch.float32).to(hidden.dtype)
        return self.head((weights @ hidden)[:, 0])


def test_a_model_cast_to_another_precision_makes_a_new_capture() -> None:
    """Integer inputs are the same as before, so only the parameters tell."""
    model, ids = seeded(Careful), words(2, 6)
    fxplain.explain(model, (ids,))
    e = fxplain.explain(model.double(), (ids,))
    assert e.output.dtype == torch.float64
    torch.testing.assert_close(e.output, model(ids).detach())


def test_flags_among_the_inputs_are_part_of_the_capture(made: list[str]) -> None:
    class Flagged(TextClassifier):
        def forward(self, input_ids: Tensor, double: bool = False, scale: float = 1.0) -> Tensor:
            logits = super().forward(input_ids) * scale
            return 2 * logits if double else logits

    model, ids = seeded(Flagged), words(2, 6)
    plain = fxplain.explain(model, {"input_ids": ids})
    double = fxplain.explain(model, {"input_ids": ids, "double": True})
    scaled = fxplain.explain(model, {"input_ids": ids, "scale": 3.0})
    torch.testing.assert_close(double.output, 2 * plain.output)
    torch.testing.assert_close(scaled.output, 3 * plain.output)
    assert len(made) == 3


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = TextClassifier()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.encoder(a) * self.encoder(b)


def test_one_tensor_may_be_two_arguments(made: list[str]) -> None:
    model, one, other = seeded(Towers), words(2, 6), words(2, 6, seed=1)
    told = [fxplain.explain(model, given, 1) for given in ((one, one), (one, one.clone()))]
    for name in ("a", "b"):
        torch.testing.assert_close(told[0].relevance[name], told[1].relevance[name])
    apart = fxplain.explain(model, (other, one), 1)
    torch.testing.assert_close(apart.output, model(other, one).detach())
    assert made == ["Towers"]


# What goes in


def test_positional_and_named_inputs_are_the_same() -> None:
    model = seeded(TextClassifier)
    ids, mask = words(2, 6), torch.ones(2, 6, dtype=torch.long)
    want = fxplain.explain(model, {"input_ids": ids, "attention_mask": mask}, target=0)
    for inputs in (
        (ids, mask),
        [ids, mask],
        {"attention_mask": mask, "input_ids": ids},
        UserDict(input_ids=ids, attention_mask=mask),
    ):
        got = fxplain.explain(model, inputs, target=0)
        assert list(got.relevance) == ["input_ids"]
        torch.testing.assert_close(got.relevance["input_ids"], want.relevance["input_ids"])
    alone = fxplain.explain(model, ids, target=0)
    torch.testing.assert_close(alone.relevance["input_ids"], want.relevance["input_ids"])


def test_a_processors_output_goes_in_as_it_is() -> None:
    from transformers import BatchEncoding

    model = seeded(TextClassifier)
    batch = BatchEncoding({"input_ids": words(2, 6), "attention_mask": torch.ones(2, 6)})
    assert fxplain.explain(model, batch).relevance["input_ids"].shape == (2, 6)


class Nested(nn.Module):
    """Two texts, given as a list of ids and a dict of images."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.image = TextEncoder(), ImageClassifier()
        self.head = nn.Linear(16, 5)

    def forward(self, texts: list[Tensor], images: dict[str, Tensor]) -> Tensor:
        first, second = (self.text(ids)[:, 0] for ids in texts)
        return self.head(first - second) + self.image(images["front"])


def test_nested_inputs_are_named_by_their_place() -> None:
    model = seeded(Nested)
    inputs = {"texts": [words(2, 6), words(2, 6, seed=1)], "images": {"front": pixels()}}
    e = fxplain.explain(model, inputs)
    assert set(e.relevance) == {"texts[0]", "texts[1]", "images.front"}
    assert e.relevance["texts[1]"].shape == (2, 6)
    torch.testing.assert_close(e.output, model(**inputs).detach())


# What comes out

Pair = namedtuple("Pair", ["logits", "hidden"])


@pytest.mark.parametrize("kind", ["tensor", "tuple", "dict", "named tuple", "nested"])
def test_outputs_keep_their_form(kind: str) -> None:
    class Formed(TextClassifier):
        def forward(self, input_ids: Tensor) -> Any:
            hidden = self.encoder(input_ids)
            logits = self.head(hidden[:, 0])
            return {
                "tensor": logits,
                "tuple": (logits, hidden),
                "dict": {"hidden": hidden, "logits": logits, "note": "a text", "none": None},
                "named tuple": Pair(logits, hidden),
                "nested": {"logits": logits, "all": [hidden, {"first": hidden[:, 0]}]},
            }[kind]

    model, ids = seeded(Formed), words(2, 6)
    e, want = fxplain.explain(model, (ids,)), model(ids)
    assert type(e.output) is type(want)
    got_leaves, want_leaves = (torch.utils._pytree.tree_flatten(x)[0] for x in (e.output, want))
    for got, expected in zip(got_leaves, want_leaves, strict=True):
        if isinstance(expected, Tensor):
            torch.testing.assert_close(got, expected.detach())
        else:
            assert got == expected
    assert e.readout == ("input_ids[0]",) * 2


def test_caches_stay_out_of_the_way() -> None:
    """GPT-2 returns a cache of keys and values, as it does for every user."""
    model, inputs = architecture("gpt2")
    want = model(**inputs)
    assert want.past_key_values is not None
    e = fxplain.explain(model, inputs)
    torch.testing.assert_close(e.output.logits, want.logits.detach())
    assert type(e.output) is type(want)
    assert captured(model, **inputs).output.names == ("logits",)


# The graph


def test_nodes_know_their_module() -> None:
    made = captured(seeded(TextClassifier, depth=2), words(2, 6))
    paths = {module_path(n) for n in made.graph.nodes if "scaled_dot_product" in str(n.target)}
    assert paths == {"encoder.blocks.0.attention", "encoder.blocks.1.attention"}


class InPlace(TextClassifier):
    """Writes into buffers, views and fresh tensors, as real models do."""

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder(input_ids)
        joined = hidden.new_empty(hidden.shape[0], 2 * hidden.shape[1], hidden.shape[2])
        joined[:, : hidden.shape[1]] = hidden
        joined[:, hidden.shape[1] :].copy_(hidden)
        joined.mul_(0.5).add_(joined)
        joined = torch.cat([joined.mean(1).unsqueeze_(1), joined[:, 1:]], 1)
        view = joined[:, 0]
        view += 1.0
        return self.head(self.encoder.blocks[0](joined)[:, 0])


def test_writes_in_place_become_functional() -> None:
    model, ids = seeded(InPlace), words(2, 6)
    made = captured(model, ids)
    for node in made.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        assert schema is None or not schema.is_mutable, node
    e = fxplain.explain(model, (ids,))
    torch.testing.assert_close(e.output, model(ids).detach())
    assert [node.q_len for node in e.graph.nodes] == [6, 12]
    assert e.graph.modalities == {"input_ids": 6}


class Guarded(TextClassifier):
    """Long texts take another path."""

    def forward(self, input_ids: Tensor) -> Tensor:
        logits = super().forward(input_ids)
        return 2 * logits if input_ids.shape[1] > 8 else logits


def test_a_branch_on_the_length_is_guarded(made: list[str]) -> None:
    model = seeded(Guarded)
    for length in (6, 5, 12, 14, 7):
        ids = words(2, length)
        torch.testing.assert_close(
            fxplain.explain(model, (ids,)).output, model(ids).detach(), rtol=1e-4, atol=1e-5
        )
    assert len(made) == 2


def test_no_gradient_regions_do_not_hide_a_tower() -> None:
    class Frozen(TextClassifier):
        def forward(self, input_ids: Tensor) -> Tensor:
            with torch.no_grad():
                hidden = self.encoder(input_ids)
            return self.head(hidden[:, 0])

    e = fxplain.explain(seeded(Frozen), (words(2, 6),))
    want = fxplain.explain(seeded(TextClassifier), (words(2, 6),))
    assert len(e.graph.nodes) == 1
    torch.testing.assert_close(e.relevance["input_ids"], want.relevance["input_ids"])


class Aside(TextClassifier):
    """What words say is read in some way that autograd does not see, and added to the first one."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder(input_ids)
        return self.head(hidden[:, 0] + self.read(hidden).mean(1))


def test_data_is_followed_as_detached() -> None:
    given = {"input_ids": words(2, 6)}
    e, want = (
        fxplain.explain(seeded(Aside, read), given, target=1)
        for read in (lambda x: x.data, lambda x: x.detach())
    )
    assert "mean of" in e.readout[0]
    torch.testing.assert_close(e.relevance["input_ids"], want.relevance["input_ids"])
    assert "data" not in vars(Tensor)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda x: torch.from_numpy(x.detach().numpy()), "outside of torch"),
        (lambda x: torch.tensor(x.tolist()), "makes a number of what tokens say"),
        (lambda x: x * x.max().item(), "makes a number of what tokens say"),
    ],
)
def test_numbers_that_leave_the_trace_are_warned_of(
    read: Callable[[Tensor], Tensor], said: str
) -> None:
    warnings = fxplain.inspect(seeded(Aside, read), {"input_ids": words(2, 6)}).warnings
    assert [said in warning for warning in warnings] == [True]


# Differences and failures


class Pretender(TextClassifier):
    """Computes something else while it is exported."""

    def forward(self, input_ids: Tensor) -> Tensor:
        logits = super().forward(input_ids)
        return 2 * logits if torch.compiler.is_exporting() else logits


def test_a_model_that_is_another_while_exported_is_recorded() -> None:
    model, ids = seeded(Pretender), words(2, 6)
    e = fxplain.explain(model, (ids,))
    assert e.graph.capture.route == "recorded"
    assert "differs from the model's own" in e.graph.capture.failures[0]
    assert e.graph.warnings == ()
    torch.testing.assert_close(e.output, model(ids).detach())


CALLS = itertools.count(1)


class Forgetful(TextClassifier):
    """Computes something else at each call, and keeps no memory of its own."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids) + next(CALLS)


def test_a_capture_that_differs_from_the_model_is_said_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = fxplain.inspect(seeded(Forgetful), (words(2, 6),))
    (message,) = graph.warnings
    assert "differs from the model's own" in message
    assert "scaled_dot_product_attention" in message
    assert "''" not in message
    assert fxplain.inspect(seeded(TextClassifier), (words(2, 6),)).warnings == ()


def test_what_is_told_of_small_outputs_is_a_part_of_them() -> None:
    got, want = torch.tensor([3e-3, 0.0]), torch.tensor([2e-3, -1e-3])
    assert share_apart(got, want) == pytest.approx(0.5)
    assert share_apart(got, torch.zeros(2)) == math.inf


def test_the_warning_names_the_models_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = bert()
    forward = type(model).forward

    def pretend(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        output.logits = output.logits + next(CALLS)
        return output

    monkeypatch.setattr(type(model), "forward", pretend)
    (message,) = fxplain.explain(model, dict(inputs)).graph.warnings
    assert "'logits'" in message
    assert "'sdpa' attention" in message


class Refused(TextClassifier):
    """A branch on data, which export refuses."""

    def forward(self, input_ids: Tensor) -> Tensor:
        logits = super().forward(input_ids)
        return logits if logits.sum() > 0 else -logits


def refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("this route is closed\nfor many reasons")


def test_transformers_exporter_where_the_plain_call_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, inputs = bert()
    want = fxplain.explain(model, dict(inputs))
    assert want.graph.capture.route == "export"
    fxplain.clear_captures(model)
    monkeypatch.setattr(routes, "capture_by_export", refuse)
    e = fxplain.explain(model, dict(inputs))
    assert e.graph.capture.route == "transformers"
    assert len(e.graph.capture.failures) >= 1
    assert all("this route is closed" in failure for failure in e.graph.capture.failures)
    assert all("many reasons" not in failure for failure in e.graph.capture.failures)
    torch.testing.assert_close(e.relevance["input_ids"], want.relevance["input_ids"])
    assert [n.module for n in e.graph.nodes] == [n.module for n in want.graph.nodes]


def test_no_route_at_all_lists_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "capture_by_export", refuse)
    monkeypatch.setattr(routes, "capture_by_transformers", refuse)
    monkeypatch.setattr(routes, "capture_by_recording", refuse)
    model, inputs = bert()
    with pytest.raises(fxplain.CaptureError) as raised:
        fxplain.explain(model, dict(inputs))
    message = str(raised.value)
    assert message.startswith("BertForSequenceClassification could not be captured")
    assert message.count("this route is closed") == 4
    for route in ("export", "export with fixed shapes", "transformers exporter", "recorder"):
        assert f"  - {route}: RuntimeError" in message


def test_a_branch_on_data_is_recorded(made: list[str]) -> None:
    model, plain = seeded(Refused), seeded(TextClassifier)
    routes = set()
    for seed in range(4):
        ids = words(2, 6, seed=seed)
        e = fxplain.explain(model, (ids,), target=1)
        assert e.graph.capture.route == "recorded"
        assert all("data-dependent" in failure for failure in e.graph.capture.failures)
        torch.testing.assert_close(e.output, model(ids).detach())
        sign = 1 if plain(ids).sum() > 0 else -1
        routes.add(sign)
        want = fxplain.explain(plain, (ids,), target=lambda output, sign=sign: sign * output[:, 1])
        torch.testing.assert_close(e.relevance["input_ids"], want.relevance["input_ids"])
    assert routes == {1, -1}, "both branches should be taken, or the test shows nothing"
    assert made.count("Refused") == 4
    fxplain.explain(model, (ids,))
    assert made.count("Refused") == 4


def test_a_recorded_branch_follows_the_weights() -> None:
    """The recording holds for the weights that it was made with, too."""
    model, ids = seeded(Refused), words(2, 6)
    fxplain.explain(model, (ids,))
    with torch.no_grad():
        model.head.weight.neg_()
        model.head.bias.neg_()
    torch.testing.assert_close(fxplain.explain(model, (ids,)).output, model(ids).detach())


def test_nodes_of_a_recording_know_their_module() -> None:
    graph = fxplain.inspect(seeded(Refused), (words(2, 6),))
    assert [node.module for node in graph.nodes] == ["encoder.blocks.0.attention"]


def test_static_shapes_where_free_ones_fail(made: list[str]) -> None:
    """A model that turns a size into a number is captured once for each length."""

    class Fixed(TextClassifier):
        def forward(self, input_ids: Tensor) -> Tensor:
            lengths = torch.tensor([float(int(n)) for n in input_ids.shape])
            return super().forward(input_ids) * lengths.prod()

    model = seeded(Fixed)
    for ids in (words(2, 6), words(2, 9), words(2, 6, seed=1)):
        torch.testing.assert_close(fxplain.explain(model, (ids,)).output, model(ids).detach())
    assert 1 <= len(made) <= 2


def test_free_sizes_that_cost_too_much_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_PATIENCE", 0.0)
    monkeypatch.setattr(pace, "_PER_OPERATION", 0.0)
    model, ids = seeded(TextClassifier), words(2, 6)
    e = fxplain.explain(model, (ids,))
    assert e.graph.capture.route == "export-static"
    assert "free sizes are too costly" in e.graph.capture.failures[0]
    torch.testing.assert_close(e.output, model(ids).detach())


@pytest.mark.parametrize("enabled", [True, False])
def test_python_s_collector_is_left_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        fxplain.inspect(seeded(TextClassifier), {"input_ids": words(1, 4)})
        assert gc.isenabled() is enabled
        with pytest.raises(fxplain.FxplainError):
            fxplain.inspect(seeded(TextClassifier), {"input_ids": torch.randn(1, 4)})
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
