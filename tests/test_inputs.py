"""What goes in: every form of call that models take, its names, and caches of keys and values."""

from collections import UserDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.capture import bind_inputs
from tests.small_models import (
    ImageClassifier,
    TextClassifier,
    TextEncoder,
    architecture,
    pixels,
    seeded,
    words,
)

IDS, OTHER = words(2, 6), words(2, 4, seed=1)


@dataclass
class Question:
    """Inputs as some projects hand them over."""

    text: Tensor
    image: Tensor
    negated: bool = False


class Bag:
    """An object with tensors as attributes, which no library knows."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Two(nn.Module):
    """A text and an image, taken out of whatever comes in by `read`."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.image = TextEncoder(), ImageClassifier()
        self.head = nn.Linear(16, 5)

    def both(self, text: Tensor, image: Tensor, negated: bool = False) -> Tensor:
        logits = self.head(self.text(text)[:, 0]) + self.image(image)
        return -logits if negated else logits


class OneObject(Two):
    def forward(self, batch: Any) -> Tensor:
        return self.both(batch.text, batch.image, batch.negated)


class Starred(Two):
    def forward(self, *args: Tensor, **kwargs: Any) -> Tensor:
        return self.both(*args, **kwargs)


class KeywordOnly(Two):
    def forward(self, *, text: Tensor, image: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.both(text, image)


class Deep(Two):
    def forward(self, inputs: dict[str, Any]) -> Tensor:
        return self.both(inputs["language"]["ids"], inputs["vision"][0]["pixels"])


class Images(nn.Module):
    """A list of images, each of its own size, or a list of such lists."""

    def __init__(self) -> None:
        super().__init__()
        self.image = ImageClassifier()

    def forward(self, images: list[Any]) -> Tensor:
        flat = [x for image in images for x in (image if isinstance(image, list) else [image])]
        return sum(self.image(x[None]) for x in flat)


FORMS = {
    "a dataclass": (OneObject, lambda text, image: (Question(text, image),)),
    "an object": (OneObject, lambda text, image: (Bag(text=text, image=image, negated=False),)),
    "an object alone": (OneObject, lambda text, image: Bag(text=text, image=image, negated=False)),
    "*args": (Starred, lambda text, image: (text, image)),
    "**kwargs": (Starred, lambda text, image: {"text": text, "image": image}),
    "keyword only": (KeywordOnly, lambda text, image: {"image": image, "text": text}),
    "none": (KeywordOnly, lambda text, image: {"text": text, "image": image, "mask": None}),
    "nested": (
        Deep,
        lambda text, image: {"inputs": {"language": {"ids": text}, "vision": [{"pixels": image}]}},
    ),
    "nested user dicts": (
        Deep,
        lambda text, image: UserDict(
            inputs={"language": UserDict(ids=text), "vision": [{"pixels": image}]}
        ),
    ),
    "arrays": (KeywordOnly, lambda text, image: {"text": text.numpy(), "image": image.numpy()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_call_gives_the_same(form: str) -> None:
    make, call = FORMS[form]
    model = seeded(make)
    for text in (IDS, OTHER):
        e = fxplain.explain(model, call(text, pixels()), target=0)
        want = seeded(KeywordOnly)(text=text, image=pixels())
        torch.testing.assert_close(e.output, want.detach())
        assert sorted(len(r[0]) for r in e.relevance.values()) == sorted([text.shape[1], 5])
        assert e.graph.warnings == ()


def test_a_flag_inside_an_object_is_part_of_the_call() -> None:
    model = seeded(OneObject)
    plain = fxplain.explain(model, Question(IDS, pixels()), target=0)
    negated = fxplain.explain(model, Question(IDS, pixels(), negated=True), target=0)
    torch.testing.assert_close(negated.output, -plain.output)


class Adapted(nn.Module):
    """Passes everything on; beside the model it has weights that its parts share."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.shared = KeywordOnly(), nn.ParameterDict({"down": torch.zeros(2)})

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.model(*args, **kwargs)


def test_names_are_those_of_the_one_part_that_can_be_called() -> None:
    bound = bind_inputs(seeded(Adapted), {"image": pixels(), "text": IDS})
    assert bound.names == ("text", "image")


def test_names_say_where_a_tensor_stands() -> None:
    bound = bind_inputs(seeded(OneObject), Question(IDS, pixels()))
    assert bound.names == ("batch.text", "batch.image")
    bound = bind_inputs(seeded(Images), {"images": [pixels(3, 8, 8), [pixels(3, 8, 8)]]})
    assert bound.names == ("images[0]", "images[1][0]")
    args, kwargs = bound.rebuild([leaf + 1 for leaf in bound.leaves])
    assert args == ()
    torch.testing.assert_close(kwargs["images"][1][0], pixels(3, 8, 8) + 1)


@pytest.mark.parametrize("lists", [False, True], ids=["a list", "a list of lists"])
def test_lists_of_images_of_different_sizes(lists: bool) -> None:
    small, large = pixels(3, 8, 8), pixels(3, 8, 16, seed=1)
    images: list[Any] = [[small], [large]] if lists else [small, large]
    model = seeded(Images)
    e = fxplain.explain(model, {"images": images}, target=0)
    names = {"images[0][0]", "images[1][0]"} if lists else {"images[0]", "images[1]"}
    assert set(e.relevance) == names
    assert [(r.shape[0], r.shape[1]) for r in e.relevance.values()] == [(1, 5), (1, 8)]  # one CLS
    assert e.graph.warnings == ()
    torch.testing.assert_close(e.output, model(images).detach())


def test_embeddings_instead_of_ids() -> None:
    model, inputs = architecture("bert")
    embeddings = model.get_input_embeddings()(inputs["input_ids"]).detach()
    rest = {k: v for k, v in inputs.items() if k != "input_ids"}
    want = fxplain.explain(model, dict(inputs), target=0)
    got = fxplain.explain(model, {**rest, "inputs_embeds": embeddings}, target=0)
    torch.testing.assert_close(got.relevance["inputs_embeds"], want.relevance["input_ids"])


def test_a_processors_features_with_flags() -> None:
    from transformers import BatchFeature

    model = seeded(KeywordOnly)
    batch = BatchFeature({"text": IDS, "image": pixels()})
    assert set(fxplain.explain(model, batch).relevance) == {"text", "image"}


def test_numbers_without_a_tensor_are_refused_with_advice() -> None:
    with pytest.raises(fxplain.InputError, match="inputs hold no tensor"):
        fxplain.explain(seeded(TextClassifier), {"input_ids": [[1, 2, 3]]})
    with pytest.raises(fxplain.InputError, match="must be a mapping"):
        fxplain.explain(seeded(TextClassifier), 3)


def test_arrays_are_not_changed() -> None:
    ids = IDS.numpy().copy()
    e = fxplain.explain(seeded(TextClassifier), (ids,))
    assert np.array_equal(ids, IDS.numpy())
    assert e.relevance["input_ids"].shape == (2, 6)


# Caches of keys and values


class Cached(nn.Module):
    """One attention over its own tokens and a cache, and one over keys and values that are given."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.words = nn.Embedding(30, 16)
        self.query, self.key, self.value, self.head = (nn.Linear(16, 16) for _ in range(4))

    def forward(
        self,
        ids: Tensor,
        past: tuple[Tensor, Tensor] | None = None,
        given: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        x = self.words(ids)
        q, k, v = (
            layer(x).unflatten(-1, (2, 8)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        out = self.attend(q, k, v)
        if given is not None:
            out = out + self.attend(out, *given)
        return self.head(out.transpose(1, 2).flatten(2))[:, -1]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)
        return (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v


def test_cached_positions_are_tokens() -> None:
    """One token per cached position, whatever its heads and features, in both forms of attention."""
    inputs = {
        "ids": words(2, 3),
        "past": (pixels(2, 2, 4, 8), pixels(2, 2, 4, 8, seed=1)),
        "given": (pixels(2, 2, 5, 8), pixels(2, 2, 5, 8, seed=1)),
    }
    found = [fxplain.explain(seeded(Cached, fused=f), inputs, target=0) for f in (True, False)]
    for e in found:
        assert e.graph.warnings == ()
        assert [r.shape[1] for r in e.relevance.values()] == [3, 4, 5]
        assert [(n.q_len, n.k_len) for n in e.graph.nodes] == [(3, 7), (3, 5)]
        assert all(r.abs().sum() > 0 for r in e.relevance.values())
    for name, relevance in found[0].relevance.items():
        torch.testing.assert_close(found[1].relevance[name], relevance)


def test_a_cached_prompt_goes_in_and_stays() -> None:
    model, inputs = architecture("gpt2")
    ids = inputs["input_ids"]
    with torch.no_grad():
        cache = model(input_ids=ids[:, :4]).past_key_values
    before = [layer.keys.clone() for layer in cache.layers]
    e = fxplain.explain(model, {"input_ids": ids[:, 4:], "past_key_values": cache}, target=0)
    assert cache.get_seq_length() == 4
    assert all(torch.equal(a, b.keys) for a, b in zip(before, cache.layers, strict=True))
    assert [r.shape[1] for r in e.relevance.values()] == [3, *[4] * len(before)]
    assert e.graph.warnings == ()
    other = model(input_ids=words(2, 4, seed=3)).past_key_values  # with gradients, too
    again = fxplain.explain(model, {"input_ids": ids[:, 4:], "past_key_values": other}, target=0)
    assert not torch.allclose(again.output.logits, e.output.logits)
    want = model(input_ids=ids[:, 4:], past_key_values=cache)
    torch.testing.assert_close(e.output.logits, want.logits.detach())


def test_an_encoder_decoders_cache_goes_in_and_stays() -> None:
    model, inputs = architecture("bart")
    with torch.no_grad():
        cache = model(**inputs).past_key_values
    length = cache.get_seq_length()
    step = {**inputs, "decoder_input_ids": words(2, 1), "past_key_values": cache}
    e = fxplain.explain(model, step, target=0)
    assert cache.get_seq_length() == length
    cached = {name: r.shape[1] for name, r in e.relevance.items() if "past_key_values" in name}
    assert sorted(set(cached.values())) == sorted({length, inputs["input_ids"].shape[1]})
    torch.testing.assert_close(e.output.logits, model(**step).logits.detach())


def test_nested_tensor_is_refused_by_name() -> None:
    rows = [torch.randn(2, 4), torch.randn(3, 4)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
    with pytest.raises(fxplain.InputError, match="'src' is a nested tensor"):
        fxplain.inspect(nn.TransformerEncoderLayer(4, 1, batch_first=True).eval(), {"src": nested})
