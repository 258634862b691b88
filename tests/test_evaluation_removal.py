"""Each way to remove tokens, by hand; which tokens count; which way is chosen."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.errors import EvaluationError
from fxplain.removal import REMOVALS, ModalityTokens, Vocabulary, choose_removal, find_tokens
from fxplain.removal.filling import filled
from tests.small_models import ImageClassifier, TextClassifier, architecture, pixels, seeded, words

NOTHING_SPECIAL = Vocabulary(frozenset(), None)
WITH_MASK = Vocabulary(frozenset({1}), 9)


def tokens_of(kind: str, count: int, **details: object) -> ModalityTokens:
    counted = torch.ones(1, count, dtype=torch.bool)
    return ModalityTokens("x", kind, counted, torch.arange(count), **details)


def chosen(*places: int, count: int) -> Tensor:
    """(1 copy, 1 sample, tokens)."""
    removed = torch.zeros(1, 1, count, dtype=torch.bool)
    removed[..., list(places)] = True
    return removed


def applied(name: str, value: Tensor, tokens: ModalityTokens, *places: int) -> dict[str, Tensor]:
    removed = chosen(*places, count=len(tokens.plain))
    return REMOVALS[name].apply({"x": value}, tokens, removed, WITH_MASK)


# ---- features and ids ---------------------------------------------------------------------------

FEATURES = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]]])


def test_features() -> None:
    tokens = tokens_of("features", 3, companions=("x",))
    assert applied("zero", FEATURES, tokens, 1)["x"].tolist() == [[[1, 2], [0, 0], [5, 1]]]
    assert applied("mean", FEATURES, tokens, 1)["x"].tolist() == [[[1, 2], [3, 3], [5, 1]]]
    assert applied("drop", FEATURES, tokens, 1)["x"].tolist() == [[[1, 2], [5, 1]]]


def test_attention_mask() -> None:
    tokens = tokens_of("features", 3, mask="x_mask")
    changed = applied("attention_mask", FEATURES, tokens, 0, 2)
    assert changed["x_mask"].tolist() == [[0, 1, 0]]
    assert torch.equal(changed["x"], FEATURES)


def test_attention_mask_of_everything_blanks_it() -> None:
    changed = applied("attention_mask", FEATURES, tokens_of("features", 3, mask="m"), 0, 1, 2)
    assert changed["m"].tolist() == [[1, 1, 1]]
    assert not changed["x"].any()
    ids = torch.tensor([[4, 5, 6]])
    changed = applied("attention_mask", ids, tokens_of("ids", 3, mask="m"), 0, 1, 2)
    assert changed["x"].tolist() == [[9, 9, 9]]


def test_mask_token() -> None:
    ids = torch.tensor([[4, 5, 6]])
    assert applied("mask_token", ids, tokens_of("ids", 3), 1)["x"].tolist() == [[4, 9, 6]]


# ---- images -------------------------------------------------------------------------------------

IMAGE = torch.arange(16.0).reshape(1, 1, 4, 4)
PATCHES = {"grid": (2, 2), "axes": (2, 3)}


def test_a_patch_is_replaced() -> None:
    tokens = tokens_of("regions", 4, **PATCHES)
    for name, fill in (("zero", [0.0] * 4), ("mean", [7.5] * 4), ("patch_mean", [4.5] * 4)):
        got = applied(name, IMAGE, tokens, 1)["x"]
        assert got[0, 0, :2, 2:].flatten().tolist() == fill
        assert torch.equal(got[..., :2], IMAGE[..., :2])
        assert torch.equal(got[..., 2:, :], IMAGE[..., 2:, :])


def test_blur_is_a_gaussian_as_wide_as_a_token() -> None:
    image = torch.zeros(1, 1, 24, 24)
    image[..., 12, 12] = 1
    tokens = tokens_of("regions", 144, grid=(12, 12), axes=(2, 3))
    everything = torch.ones(1, 1, 144, dtype=torch.bool)
    got = REMOVALS["blur"].apply({"x": image}, tokens, everything, WITH_MASK)["x"][0, 0]
    places = torch.arange(24.0) - 12
    across = got.sum(0) / got.sum()
    assert float((across * places).sum()) == pytest.approx(0, abs=1e-3)
    assert float((across * places**2).sum()) == pytest.approx(2.0**2, rel=0.05)
    assert float(got.sum()) == pytest.approx(1, abs=1e-4)


def test_frames_of_a_sound() -> None:
    tokens = tokens_of("regions", 3, grid=(3,), axes=(2,))
    got = applied("zero", torch.ones(1, 2, 6), tokens, 1)["x"]
    assert got[0, 0].tolist() == got[0, 1].tolist() == [1, 1, 0, 0, 1, 1]


# ---- what is chosen -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "name"),
    [
        (tokens_of("ids", 3, mask="m"), WITH_MASK, "attention_mask"),
        (tokens_of("ids", 3), WITH_MASK, "mask_token"),
        (tokens_of("ids", 3), NOTHING_SPECIAL, "drop"),
        (tokens_of("features", 3, mask="m"), NOTHING_SPECIAL, "attention_mask"),
        (tokens_of("features", 3), NOTHING_SPECIAL, "mean"),
        (tokens_of("regions", 4, **PATCHES), NOTHING_SPECIAL, "mean"),
    ],
)
def test_default(tokens: ModalityTokens, vocabulary: Vocabulary, name: str) -> None:
    assert choose_removal(tokens, vocabulary).name == name


@pytest.mark.parametrize(
    ("kind", "asked", "message"),
    [
        ("regions", "drop", "'drop' is for ids, features. Possible: mean, zero"),
        ("features", "attention_mask", "takes no attention mask for 'x'"),
        ("ids", "mask_token", "no mask token or padding is known"),
        ("parameter", None, "made of no input"),
        ("ids", "erase", "unknown removal 'erase'; there are: attention_mask"),
    ],
)
def test_what_does_not_suit(kind: str, asked: str | None, message: str) -> None:
    with pytest.raises(fxplain.EvaluationError, match=message):
        choose_removal(tokens_of(kind, 4, grid=(2, 2), axes=(2, 3)), NOTHING_SPECIAL, asked)


# ---- which tokens count -------------------------------------------------------------------------


def test_padding_special_ids_and_the_readout_do_not_count() -> None:
    model = seeded(TextClassifier)
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 1, 8], [9, 6, 1, 3, 3]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    }
    explanation = fxplain.explain(model, inputs)
    (tokens,) = find_tokens(model, inputs, explanation, WITH_MASK).values()
    assert tokens.counted.int().tolist() == [[0, 1, 1, 0, 1], [0, 1, 0, 0, 0]]
    assert (tokens.kind, tokens.mask) == ("ids", "attention_mask")
    assert tokens.companions == ("input_ids", "attention_mask")


def test_a_cls_and_registers_do_not_count() -> None:
    model, inputs = seeded(ImageClassifier, registers=2), {"pixel_values": pixels()}
    explanation = fxplain.explain(model, inputs)
    (tokens,) = find_tokens(model, inputs, explanation, NOTHING_SPECIAL).values()
    assert tokens.counted[0].int().tolist() == [0, 1, 1, 1, 1, 0, 0]
    assert (tokens.kind, tokens.grid, tokens.axes) == ("regions", (2, 2), (2, 3))


class Masked(nn.Module):
    """Words that are read as a mask says, whatever it is called and 1 means in it."""

    def __init__(self, *, ones_are_hidden: bool) -> None:
        super().__init__()
        self.ones_are_hidden = ones_are_hidden
        self.inner = seeded(TextClassifier)

    def forward(self, ids: Tensor, key_padding_mask: Tensor) -> Tensor:
        seen = ~key_padding_mask if self.ones_are_hidden else key_padding_mask
        return self.inner(ids, seen)


@pytest.mark.parametrize("ones_are_hidden", [False, True])
def test_a_mask_by_another_name(ones_are_hidden: bool) -> None:
    seen = torch.tensor([[True] * 4, [True, True, True, False]])
    inputs = {"ids": words(2, 4), "key_padding_mask": seen ^ ones_are_hidden}
    model = Masked(ones_are_hidden=ones_are_hidden).eval()
    explanation = fxplain.explain(model, inputs, method="raw_attention")
    (tokens,) = find_tokens(model, inputs, explanation, NOTHING_SPECIAL).values()
    assert tokens.counted.tolist() == [[False, True, True, True], [False, True, True, False]]
    assert tokens.mask == (None if ones_are_hidden else "key_padding_mask")


class Sound(nn.Module):
    """A class from frames of four samples, of those that a mask over samples leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.head = nn.Conv1d(1, 8, 4, stride=4), nn.Linear(8, 3)

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        x, seen = self.frames(input_values[:, None]).mT, attention_mask[:, ::4].bool()
        x = F.scaled_dot_product_attention(x, x, x, attn_mask=seen[:, None])
        return self.head((x * seen[..., None]).sum(1) / seen.sum(1, keepdim=True))


@pytest.mark.parametrize("removal", ["mean", "zero"])
def test_padding_of_a_sound_does_not_count(removal: str) -> None:
    model, sounds = seeded(Sound), torch.randn(2, 20, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 20, dtype=torch.long)
    sounds[1, 12:], mask[1, 12:] = 0, 0
    inputs = {"input_values": sounds, "attention_mask": mask}
    found = fxplain.explain(model, inputs, [1, 1], "leave_one_out", removal=removal)
    own = {name: value[1:, :12] for name, value in inputs.items()}
    wanted = []
    for frame in range(3):
        without = own["input_values"].clone()
        without[:, 4 * frame : 4 * frame + 4] = sounds[1, :12].mean() if removal == "mean" else 0
        less = model(**own) - model(without, own["attention_mask"])
        wanted.append(float(less[0, 1].detach()))
    torch.testing.assert_close(
        found.relevance["input_values"][1], torch.tensor([*wanted, 0, 0]), atol=1e-6, rtol=1e-4
    )


class FixedLength(nn.Module):
    """A class from five columns, each with an embedding of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.columns, self.head = nn.Parameter(torch.randn(5, 8)), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., None] * self.columns
        return self.head(F.scaled_dot_product_attention(x, x, x).mean(1))


def test_what_has_a_fixed_length_is_not_dropped() -> None:
    model, inputs = seeded(FixedLength), {"x": torch.randn(2, 5)}
    with pytest.raises(EvaluationError, match="FixedLength does not run without some tokens of x"):
        fxplain.explain(model, inputs, [0, 1], "leave_one_out", removal="drop")
    with pytest.raises(EvaluationError, match="Give another removal"):
        fxplain.evaluate(model, [inputs], ["raw_attention"], "abpc", removal="drop")


def test_special_ids_of_tokenizer_and_config() -> None:
    text = SimpleNamespace(to_dict=dict, image_token_id=7, vocab_size=30)
    config = SimpleNamespace(pad_token_id=0, eos_token_id=[2, 3], unk_token_id=4, text_config=text)
    tokenizer = SimpleNamespace(all_special_ids=[0, 4, 5], unk_token_id=4, mask_token_id=5)
    model = SimpleNamespace(config=config)
    assert Vocabulary.of(model, None, [8]) == Vocabulary(frozenset({0, 2, 3, 7, 8}), 0)
    everything = Vocabulary.of(model, tokenizer, [])
    assert everything == Vocabulary(frozenset({0, 2, 3, 5, 7}), 5)


def test_dropping_is_the_shorter_input() -> None:
    """The scores without tokens are those of a user who leaves them out, padding or not."""
    model = seeded(TextClassifier)
    with torch.no_grad():
        model.encoder.positions.weight.zero_()  # a token that moves up is the same token
    ids = words(1, 5)
    order = {"m": lambda *_: {"input_ids": torch.arange(5.0)[None]}}
    steps = [0.25, 0.5, 0.75]
    options = {"metrics": ["positive"], "score": "logit", "steps": steps, "target": 2}
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for removal in ("drop", "attention_mask"):
        found = fxplain.evaluate(model, [inputs], order, removal=removal, **options)
        want = [model(ids[:, : 5 - gone])[0, 2].item() for gone in range(4)]
        assert found.curves["m", "positive", "input_ids"].mean == pytest.approx(want, abs=1e-5)


def test_positions_go_on_counting_where_tokens_are_cut_out() -> None:
    tokens = tokens_of("ids", 4, companions=("x", "position_ids"))
    inputs = {"x": torch.tensor([[7, 8, 9, 6]]), "position_ids": torch.tensor([[1, 0, 1, 2]])}
    cut = REMOVALS["drop"].apply(inputs, tokens, chosen(2, count=4), NOTHING_SPECIAL)
    assert cut["x"].tolist() == [[7, 8, 6]]
    assert cut["position_ids"].tolist() == [[1, 0, 1]]


class Fills(torch.nn.Module):
    """Says at each masked place that the word to its left, plus one, is far the likeliest."""

    def forward(self, input_ids, attention_mask=None):
        assert (attention_mask is None) or attention_mask.shape == input_ids.shape
        before = torch.cat([input_ids[:, :1], input_ids[:, :-1]], 1)
        return 100.0 * torch.nn.functional.one_hot(before + 1, 40).float()


def test_words_that_a_language_model_draws():
    ids = torch.tensor([[5, 6, 7, 20], [8, 9, 10, 11]])
    removed = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1]], dtype=torch.bool)
    found = filled(ids, removed, None, Fills(), {0, 31}, 31)
    assert found.tolist() == [[5, 6, 7, 8], [8, 9, 10, 11]]

    class Even(torch.nn.Module):
        def forward(self, input_ids):
            return torch.zeros(*input_ids.shape, 4).log_softmax(-1)

    many = torch.ones(1, 4000, dtype=torch.long)
    drawn = filled(many, many.bool(), None, Even(), {3}, 3)
    shares = drawn.flatten().bincount(minlength=4) / 4000
    assert shares[3] == 0
    torch.testing.assert_close(shares[:3], torch.full((3,), 1 / 3), atol=0.04, rtol=0)
    assert torch.equal(
        filled(many[:, :50], many[:, :50].bool(), None, Even(), {3}, 3), drawn[:, :50]
    )

    with pytest.raises(EvaluationError, match="filler= is a masked language model"):
        filled(ids, removed, None, lambda input_ids: input_ids, {0}, 31)


def test_an_evaluation_with_a_filler():
    model, inputs = architecture("bert")
    asked = {"methods": "generic", "metrics": "deletion", "removal": "filled", "special_ids": [0]}

    class Words(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            return torch.zeros(*input_ids.shape, 30)

    found = fxplain.evaluate(model, [inputs], **asked, filler=Words())
    assert found.settings["removal"]["input_ids"].startswith("filled: ")
    with pytest.raises(EvaluationError, match="no masked language model is given"):
        fxplain.evaluate(model, [inputs], **asked)
