"""Cutting a model in its captured graph does what a hand-written hook or mask does."""

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain import Cut
from tests.long_run import quickly
from tests.random_models import ATTENTIONS, Recipe, build, make_inputs, single
from tests.small_models import (
    BY_NAME,
    Attention,
    ImageClassifier,
    TextClassifier,
    architecture,
    pixels,
    seeded,
    words,
)
from tests.test_heads import Grouped, Headed

PROJECTIONS = {
    "bert": ("bert.encoder.layer.1.attention.self", "bert.encoder.layer.1.attention.output.dense"),
    "vit": ("vit.layers.1.attention", "vit.layers.1.attention.o_proj"),
    "visual_bert": (
        "visual_bert.encoder.layer.0.attention.self",
        "visual_bert.encoder.layer.0.attention.output.dense",
    ),
    "clip": (
        "text_model.encoder.layers.0.self_attn", "text_model.encoder.layers.0.self_attn.out_proj",
    ),
    "gpt2": ("transformer.h.1.attn", "transformer.h.1.attn.c_proj"),
    "llama": ("model.layers.1.self_attn", "model.layers.1.self_attn.o_proj"),
    "lxmert": (
        "lxmert.encoder.r_layers.0.attention.self", "lxmert.encoder.r_layers.0.attention.output.dense",
    ),
    "t5": (
        "decoder.block.0.layer.1.EncDecAttention", "decoder.block.0.layer.1.EncDecAttention.o",
    ),
    "bart": ("model.decoder.layers.0.encoder_attn", "model.decoder.layers.0.encoder_attn.out_proj"),
    "whisper": ("model.encoder.layers.1.self_attn", "model.encoder.layers.1.self_attn.out_proj"),
    "detr": ("model.decoder.layers.1.encoder_attn", "model.decoder.layers.1.encoder_attn.o_proj"),
    "swin": (
        "swin.encoder.layers.0.blocks.1.attention", "swin.encoder.layers.0.blocks.1.attention.o_proj",
    ),
}  # fmt: skip
"""An attention node of each architecture, and the layer that reads its heads side by side."""

QUICK = ("bert", "gpt2")
architectures = pytest.mark.parametrize(
    "name",
    quickly(PROJECTIONS, QUICK),
)


def ablated_by_hook(
    model: nn.Module, inputs: dict, projection: str, head: int, heads: int, output: str | None
) -> Tensor:
    """The output where a hook sets one head's features to 0 on their way into the projection."""

    def without_head(_module: nn.Module, given: tuple) -> tuple:
        x = given[0].clone()
        x.unflatten(-1, (heads, -1))[..., head, :] = 0
        return (x,)

    handle = model.get_submodule(projection).register_forward_pre_hook(without_head)
    try:
        with torch.no_grad():
            found = model(**inputs)
    finally:
        handle.remove()
    return found[output] if output else found[0]


def in_doubles(name: str) -> tuple[nn.Module, dict]:
    """An architecture and its inputs in 64 bits, in which 1e-6 is no rounding."""
    model, inputs = architecture(name)
    told = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    return copy.deepcopy(model).double(), told


@architectures
def test_a_head_is_ablated_as_by_a_hook(name: str) -> None:
    model, inputs = in_doubles(name)
    case, (node, projection) = BY_NAME[name], PROJECTIONS[name]
    heads = next(n.heads for n in fxplain.inspect(model, inputs).nodes if n.name == node)
    cuts = [Cut.heads(node, head) for head in range(heads)]
    found = fxplain.intervene(model, inputs, cuts, case.target, output=case.output, outputs=True)
    for head in range(heads):
        want = ablated_by_hook(model, inputs, projection, head, heads, case.output)
        got = found.outputs[head]
        got = got[case.output] if case.output else got[0]
        torch.testing.assert_close(got, want, atol=1e-8, rtol=1e-8)
    assert bool((found.effects.abs() > 1e-6).any(1).all())


@architectures
def test_patching_inputs_from_themselves_changes_nothing(name: str) -> None:
    model, inputs = architecture(name)
    graph, case = fxplain.inspect(model, inputs), BY_NAME[name]
    births = [Cut.tokens(modality, to="reference") for modality in graph.modalities]
    cuts = [Cut.heads(to="reference"), *births]
    found = fxplain.intervene(
        model, inputs, cuts, case.target, output=case.output, reference=inputs
    )
    torch.testing.assert_close(found.scores, found.baseline.expand_as(found.scores))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("renormalize", [True, False])
def test_knocked_out_edges_are_masked_attention(fused: bool, renormalize: bool) -> None:
    model, ids = seeded(TextClassifier, depth=2, fused=fused), words(2, 6)
    cut = Cut.edges([0, 2], ("input_ids", [1, 5]), node=1, heads=1, renormalize=renormalize)
    found = fxplain.intervene(model, (ids,), cut, 3)
    hidden = torch.zeros(1, 2, 6, 6, dtype=torch.bool)
    for query in (0, 2):
        hidden[0, 1, query, [1, 5]] = True

    def forward(self: Attention, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            f(x).unflatten(-1, (2, -1)).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        scores = q @ k.mT / q.shape[-1] ** 0.5
        weights = (
            scores.masked_fill(hidden, float("-inf")).softmax(-1)
            if renormalize
            else (scores.softmax(-1).masked_fill(hidden, 0))
        )
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    other = copy.deepcopy(model)
    attention = other.encoder.blocks[1].attention
    attention.forward = forward.__get__(attention)
    with torch.no_grad():
        want = other(ids)[:, 3]
    torch.testing.assert_close(found.scores[0], want, atol=1e-6, rtol=1e-5)
    assert bool((found.effects.abs() > 1e-4).all())


def test_a_query_that_hears_nothing_says_nothing() -> None:
    for fused in (True, False):
        model, ids = seeded(TextClassifier, fused=fused), words(2, 6)
        mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6])
        inputs = {"input_ids": ids, "attention_mask": mask}
        silent, cut = fxplain.intervene(
            model, inputs, [Cut.heads(0, tokens=0), Cut.edges(0, "input_ids")], 1
        ).scores
        torch.testing.assert_close(cut, silent)
        real = fxplain.intervene(model, inputs, Cut.edges(0, [0, 1, 2, 3]), 1)
        torch.testing.assert_close(real.scores[0, 0], silent[0])


@pytest.mark.parametrize(
    ("make", "like", "options"),
    [
        (Headed, "at once", ["among keys"]),
        (Grouped, "repeated", ["einsum", "heads by queries", "queries by heads"]),
    ],
    ids=["sums", "groups"],
)
def test_heads_wherever_the_model_puts_them(make, like: str, options: list[str]) -> None:
    given = (2,) if make is Grouped else ()
    ids, heads = words(2, 6), 4 if make is Grouped else 2
    cuts = [Cut.heads(0, head) for head in range(heads)]
    cuts += [Cut.edges(0, [1, 2], heads=head) for head in range(heads)]
    cuts += [Cut.edges([1, 3], [1, 2], heads=head, renormalize=False) for head in range(heads)]
    cuts += [Cut.heads(0, [0, 1], tokens=[0, 2]), Cut.heads(0)]
    if make is Grouped:
        cuts += [Cut.heads(0, head, to="mean") for head in range(heads)]
    want = fxplain.intervene(seeded(make, *given, like), (ids,), cuts, 1)
    for form in options:
        found = fxplain.intervene(seeded(make, *given, form), (ids,), cuts, 1)
        torch.testing.assert_close(found.scores, want.scores, atol=1e-5, rtol=1e-5)


STYLED = Recipe(wiring=single(2, "words"), words=5, groups=1, causal=True, padding=True)


@pytest.mark.parametrize(
    "style",
    quickly(ATTENTIONS, ["weighted_sum"]),
)
def test_cuts_are_the_same_in_every_style_of_attention(style: str) -> None:
    cuts = [Cut.heads(node, head) for node in (0, 1) for head in (0, 1)]
    cuts += [Cut.heads(node, 1, tokens=[0, 2], to="mean") for node in (0, 1)]
    cuts += [
        Cut.edges([1, 2, 3], [1], heads=head, renormalize=renormalize)
        for head in (0, 1)
        for renormalize in (True, False)
    ]
    want, found = (
        fxplain.intervene(build(recipe), make_inputs(recipe), cuts, 1).scores
        for recipe in (STYLED, replace(STYLED, attention=style))
    )
    torch.testing.assert_close(found, want, atol=1e-10, rtol=1e-10)


def test_heads_that_are_summed_up_have_no_output_to_replace() -> None:
    with pytest.raises(fxplain.InputError, match="none has an output of its own"):
        fxplain.intervene(
            seeded(Headed, "among keys"), (words(2, 6),), Cut.heads(0, 1, to="mean"), 1
        )


def test_heads_one_by_one_are_nodes() -> None:
    model, ids = seeded(Headed, "one by one"), words(2, 6)
    want = fxplain.intervene(
        seeded(Headed, "at once"), (ids,), [Cut.heads(0, h) for h in (0, 1)], 1
    )
    found = fxplain.intervene(model, (ids,), [Cut.heads(node) for node in (0, 1)], 1)
    torch.testing.assert_close(found.scores, want.scores)


def test_means_are_by_head_and_feature() -> None:
    model, ids = seeded(TextClassifier), words(2, 6)
    said = []
    hook = model.encoder.blocks[0].attention.out.register_forward_pre_hook(
        lambda _, given: said.append(given[0])
    )
    with torch.no_grad():
        model(ids)
    hook.remove()
    mean = said[0].mean((0, 1))

    def with_mean(_module: nn.Module, given: tuple) -> tuple:
        x = given[0].clone()
        x[:, [0, 3], 8:] = mean[8:]
        return (x,)

    hook = model.encoder.blocks[0].attention.out.register_forward_pre_hook(with_mean)
    with torch.no_grad():
        want = model(ids)[:, 2]
    hook.remove()
    found = fxplain.intervene(model, (ids,), Cut.heads(0, 1, tokens=[0, 3], to="mean"), 2)
    torch.testing.assert_close(found.scores[0], want)
    longer = fxplain.intervene(
        model, (ids,), Cut.heads(0, 1, tokens=[0, 3], to="mean"), 2,
        reference=(torch.cat([ids, ids], 0),),
    )  # fmt: skip
    torch.testing.assert_close(longer.scores[0], want)


class InBlocks(Attention):
    """Attention within blocks of four words, of which the last is filled up."""

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        filled = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 4)).unflatten(1, (-1, 4))
        q, k, v = (
            f(filled).unflatten(-1, (2, -1)).transpose(2, 3)
            for f in (self.query, self.key, self.value)
        )
        real = (torch.arange(filled.shape[1] * 4) < x.shape[1]).view(-1, 1, 1, 4)
        weights = (q @ k.mT / 2).masked_fill(~real, -1e9).softmax(-1)
        return self.out((weights @ v).transpose(2, 3).flatten(3).flatten(1, 2)[:, : x.shape[1]])


def test_what_fills_a_window_up_has_no_part_in_a_mean() -> None:
    model, ids = seeded(TextClassifier), words(2, 6)
    attention = model.encoder.blocks[0].attention
    attention.__class__ = InBlocks
    handle = attention.out.register_forward_pre_hook(
        lambda _, given: torch.cat(
            [given[0][..., :8], given[0][..., 8:].mean((0, 1)).expand(2, 6, -1)], -1
        )
    )
    with torch.no_grad():
        want = model(ids)[:, 2]
    handle.remove()
    found = fxplain.intervene(model, (ids,), Cut.heads(0, 1, to="mean"), 2)
    torch.testing.assert_close(found.scores[0], want)


class Filled(nn.Module):
    """Three words, filled up to four, and what is said of what fills."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.attention = nn.Embedding(30, 16), Attention()

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = nn.functional.pad(self.words(ids), (0, 0, 0, 1))
        real = torch.arange(4).lt(3).expand(len(ids), -1)
        heard = self.attention(x, x, real)
        return {"first": heard[:, 0], "all": heard}


def test_a_head_is_ablated_in_what_fills_up_too() -> None:
    model, ids = seeded(Filled), words(2, 3)
    found = fxplain.intervene(model, (ids,), Cut.heads(0, 1), 1, output="first", outputs=True)
    want = ablated_by_hook(model, {"ids": ids}, "attention.out", 1, 2, "all")
    torch.testing.assert_close(found.outputs[0]["all"], want)


def test_patching_everything_gives_the_other_inputs_score() -> None:
    model, ids, other = seeded(TextClassifier, depth=2), words(2, 6), words(2, 6, seed=1)
    with torch.no_grad():
        want = model(other)[:, 1]
    stream = Cut.stream("blocks.0.feed_forward")
    found = fxplain.intervene(
        model, (ids,), [Cut.tokens("input_ids", to="reference"), stream], 1, reference=(other,)
    )
    torch.testing.assert_close(found.scores, want.expand(2, 2))


def test_what_a_layer_adds_is_cut_as_by_a_hook() -> None:
    model, ids = seeded(TextClassifier, depth=2), words(2, 6)
    hook = model.encoder.blocks[0].feed_forward.register_forward_hook(
        lambda _module, _given, out: out * torch.tensor([0.0, 1, 1, 0, 1, 1])[:, None]
    )
    with torch.no_grad():
        want = model(ids)[:, 1]
    hook.remove()
    found = fxplain.intervene(model, (ids,), Cut.write("blocks.0.feed_forward", [0, 3]), 1)
    torch.testing.assert_close(found.scores[0], want)


class Viewing(nn.Module):
    """Queries, keys and values from one layer; what attention gives is viewed, never laid out anew."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mixed, self.out = nn.Embedding(30, 8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        q, k, v = (
            part.view(*x.shape[:2], 2, 4).transpose(1, 2) for part in self.mixed(x).split(8, 2)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return (x + self.out(mixed.transpose(1, 2).contiguous().view(x.shape)))[:, -1]


def test_what_is_viewed_may_be_laid_out_otherwise_under_cuts() -> None:
    model, ids = seeded(Viewing), words(2, 6)
    found = fxplain.intervene(model, (ids,), [Cut.heads(0, head) for head in (0, 1)], 3)
    for head in (0, 1):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.out.weight[:, 4 * head : 4 * head + 4] = 0
            torch.testing.assert_close(found.scores[head], other(ids)[:, 3])
    other_ids = words(2, 6, seed=1)
    circuit = fxplain.circuit(model, (ids,), (other_ids,), 3)
    assert abs(1 - circuit.faithfulness) <= 0.05


class Experts(nn.Module):
    """Two experts, each weighed for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 2)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        found = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            found = found + expert(x) * weights[..., i, None]
        return found


class OfExperts(nn.Module):
    """Latents that ask the words once, and a mixture of experts."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.latents = nn.Embedding(30, 16), nn.Parameter(torch.randn(1, 3, 16))
        self.cross, self.feed_forward, self.head = Attention(), Experts(), nn.Linear(16, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        z = self.latents.expand(len(x), -1, -1)
        z = z + self.cross(z, x)
        return self.head((z + self.feed_forward(z)).mean(1))


@pytest.mark.parametrize("name", ["cross", "feed_forward"])
def test_all_that_a_module_adds_is_cut_also_to_latents_and_of_many_experts(name: str) -> None:
    model, ids = seeded(OfExperts), words(2, 6)
    found = fxplain.intervene(model, (ids,), Cut.write(name), 3)
    handle = model.get_submodule(name).register_forward_hook(lambda _m, _x, out: 0 * out)
    with torch.no_grad():
        want = model(ids)[:, 3]
    handle.remove()
    torch.testing.assert_close(found.scores[0], want)


def test_a_token_is_cut_at_its_birth_with_all_that_is_added_to_it() -> None:
    model, image = seeded(ImageClassifier), pixels()
    found = fxplain.intervene(model, (image,), Cut.tokens("pixel_values", [2, 4]), 1)
    hook = model.patches.register_forward_hook(
        lambda _module, _given, out: out * torch.tensor([[1.0, 0], [1, 0]])
    )
    with torch.no_grad():
        want = model(image)[:, 1]
    hook.remove()
    torch.testing.assert_close(found.scores[0], want)


def test_many_cuts_at_once_are_what_they_are_one_by_one() -> None:
    model, inputs = architecture("bert")
    cuts = [Cut.heads(n, h) for n in range(3) for h in range(3)]
    cuts += [
        Cut.edges(0, 1, node=0),
        Cut.edges(2, 0, renormalize=False),
        Cut.write("layer.1.output"),
    ]
    asked: list[tuple[int, int]] = []
    together = fxplain.intervene(
        model, inputs, cuts, [1, 0], batch=5, progress=lambda *x: asked.append(x)
    )
    alone = fxplain.intervene(model, inputs, cuts, [1, 0], batch=1)
    torch.testing.assert_close(together.scores, alone.scores, atol=1e-6, rtol=1e-6)
    assert asked == [(5, 12), (10, 12), (12, 12)]


class Listing(nn.Module):
    """Reads only the tokens with the largest first feature: how many differs from cut to cut."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.attention = nn.Embedding(30, 16), Attention()
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x, x)
        weights = (x[..., 0] > 0).nonzero().float().mean() + x.mean(1)
        return self.head(weights)


def test_what_cannot_run_at_once_runs_one_by_one() -> None:
    model, ids = seeded(Listing), words(2, 6)
    cuts = [Cut.heads(0, head) for head in (0, 1)]
    found = fxplain.intervene(model, (ids,), cuts, 1)
    for head in (0, 1):
        want = ablated_by_hook(model, {"ids": ids}, "attention.out", head, 2, None)
        hooked = fxplain.intervene(model, (ids,), cuts[head], 1).scores[0]
        torch.testing.assert_close(found.scores[head], hooked)
        assert want.shape == (3,)


def test_the_model_is_left_as_it_was() -> None:
    model, ids = seeded(TextClassifier), words(2, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    fxplain.intervene(model, (ids,), [Cut.heads(0, 0), Cut.tokens("input_ids", 1)])
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_words_and_names() -> None:
    class Words:
        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [f"w{i}" for i in ids]

    model, ids = seeded(TextClassifier), torch.tensor([[5, 6, 7], [7, 6, 6]])
    cut = Cut.edges(0, "w7").named("seven") + Cut.heads(0, 1, tokens="w6").named("six")
    found = fxplain.intervene(model, (ids,), cut, 1, tokenizer=Words())
    assert found.names == ("seven and six",)
    one = fxplain.intervene(model, (ids[:1],), Cut.edges(0, 2) + Cut.heads(0, 1, tokens=1), 1)
    other = fxplain.intervene(
        model, (ids[1:],), Cut.edges(0, 0) + Cut.heads(0, 1, tokens=[1, 2]), 1
    )
    torch.testing.assert_close(found["seven and six"], torch.cat([one.scores[0], other.scores[0]]))
    with pytest.raises(KeyError, match="there is no cut 'eight'"):
        found["eight"]


WRONG = {
    "no cut": ("all", "must be a Cut"),
    "something among cuts": ([Cut.heads(0), 3], "only cuts"),
    "no such node": (Cut.heads("encoder.blocks.7.attention"), "no attention node"),
    "several nodes": (Cut.heads("encoder"), "no one attention node but 2"),
    "no such place": (Cut.heads(5), "there is no node 5"),
    "no such head": (Cut.heads(0, 2), "there is no head 2"),
    "no such token": (Cut.edges(0, 9), "there is no token 9"),
    "no such word": (Cut.edges(0, "the"), "'the'"),
    "no such modality": (Cut.tokens("pixels"), "no modality 'pixels'"),
    "no such layer": (Cut.write("blocks.0.mlp"), "no residual addition"),
    "no reference": (Cut.heads(0, to="reference"), "give reference="),
    "no word at all": (Cut.heads(0, tokens="nothing"), "'nothing' is no token of input_ids"),
}


@cache
def classifier() -> nn.Module:
    return seeded(TextClassifier, depth=2)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_cut_is_refused_by_name(wrong: str) -> None:
    cuts, said = WRONG[wrong]
    with pytest.raises(fxplain.FxplainError, match=said):
        fxplain.intervene(classifier(), (words(2, 6),), cuts)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cut.heads(0, -1),
        lambda: Cut.heads(0, "first"),
        lambda: Cut.heads(1.5),
        lambda: Cut.heads(0, to="nothing"),
        lambda: Cut.edges({1: 2}),
        lambda: Cut.edges(renormalize=1),
        lambda: Cut.tokens(3),
        lambda: Cut.tokens("input_ids", []),
        lambda: Cut.write(""),
        lambda: Cut.heads(0).named(7),
        lambda: Cut.heads(0, tokens=torch.tensor([False, True])),
        lambda: Cut(("head 1",)),
        lambda: Cut(()),
    ],
)
def test_a_cut_of_another_form_is_refused(make) -> None:
    with pytest.raises(fxplain.InputError, match="must be"):
        make()


def test_a_reference_of_another_size_is_refused() -> None:
    model = seeded(TextClassifier)
    with pytest.raises(fxplain.InputError, match="'input_ids' of the reference has the shape"):
        fxplain.intervene(
            model, (words(2, 6),), Cut.heads(0, to="reference"), reference=(words(2, 5),)
        )


def test_what_is_printed_and_told() -> None:
    found = fxplain.intervene(
        classifier(), (words(2, 6),), {f"head {h}": Cut.heads(0, h) for h in (0, 1)}, 1
    )
    text = str(found)
    assert "TextClassifier: 2 cuts, target 1" in text
    order = sorted((0, 1), key=lambda h: -abs(float(found.effects[h].mean())))
    assert [name for name, _ in found.strongest(5)] == [f"head {h}" for h in order]
    assert text.index(f"head {order[0]}") < text.index(f"head {order[1]}")
    assert f"{float(found.effects[0].mean()):+.4g}" in text
    assert found.to_dict()["cuts"][1]["cut"] == "head 1 of node 0 to zero"


def test_no_cut_is_lost_to_the_name_of_another() -> None:
    cut = [Cut.heads(0, head).named(name) for head, name in ((0, "a#2"), (1, "a"), (0, "a"))]
    for cuts in (cut, {"a#2": cut[0], "a": cut[1]}, {1: cut[0], "1": cut[1]}, []):
        for estimate in (False, True):
            found = fxplain.intervene(classifier(), (words(2, 6),), cuts, 1, estimate=estimate)
            assert len(found) == len(set(found.names)) == len(found.scores) == len(cuts)


class Branching(nn.Module):
    """Its answer is turned where it would be negative."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = TextClassifier()

    def forward(self, input_ids: Tensor) -> Tensor:
        made = self.classifier(input_ids)
        return made if made[0, 0] > 0 else made.flip(-1)


def test_cuts_of_a_recorded_model_say_whose_branches_they_run() -> None:
    model, inputs = Branching().eval(), {"input_ids": torch.tensor([[3, 1, 4]])}
    with pytest.warns(UserWarning, match="branches that these inputs took"):
        fxplain.intervene(model, inputs, Cut.heads(0, 0))
