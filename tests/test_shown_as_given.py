"""What people see is what they gave: text, pictures, and the numbers that decide."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

import fxplain
from fxplain.explanation import Word
from fxplain.explanation.beneath import pictures_beneath
from fxplain.explanation.merging import words_of
from fxplain.explanation.mosaic import mosaic_of, put_together
from fxplain.explanation.pictures import pictures_of
from fxplain.explanation.shown import Shown, shown, without_padding
from fxplain.explanation.units import units_of, written_text
from fxplain.html.comparison import _difference
from fxplain.pipelines.messages import conversations_in
from fxplain.pipelines.provenance import fingerprint
from fxplain.reports.headline import headline, notes
from fxplain.reports.shading import shade
from tests import small_pretrained
from tests.made_explanations import made_explanation

TEXTS = {
    "accents and casing": "Un CAFÉ naïve, s'il vous plaît!",
    "line breaks": "One line.\nAnother  with two spaces.\n\nThe end",
    "emoji": "so good 😀👍🏽 again",
    "arabic": "كان الفيلم رائعا جدا",
    "hebrew": "הסרט היה נהדר",
    "chinese": "这部电影很好看。但是结局很糟糕！",
    "japanese": "この映画はとても面白かった。",
    "korean": "영화가 정말 재미있었다",
    "thai": "หนังเรื่องนี้ดีมาก",
    "hindi": "फ़िल्म बहुत अच्छी थी",
}


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """A classifier whose tokenizer knows bytes alone: most letters are several pieces."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        ["the movie was good"] * 9,
        trainers.BpeTrainer(
            vocab_size=280,
            special_tokens=["<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, num_labels=2, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, initializer_range=0.2,
        id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("byte-level")
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return fxplain.from_pretrained(folder)


# ---- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_shown_as_it_was_written(byte_level, text):
    e = byte_level(text)
    (words,) = e.words_in("input_ids")
    assert written_text(words) == text
    assert sorted(place for word in words for place in word.tokens) == list(
        range(e.relevance["input_ids"].shape[1])
    )
    page = e.to_html()
    units = json.loads(data_of(page))["samples"][0][0]["units"]["word"]
    assert "".join(gap + word.replace("↵\n", "\n") for word, gap, *_ in units) == text
    pictured = {t.get_text() for axes in e.plot().axes for t in axes.texts}
    for place in (str(e), str(e.to_dict("word"))):
        assert all(entry.text in place for entry in shown(e) if len(entry.text) < 30)
    assert {entry.text for entry in shown(e) if entry.text.strip()} <= pictured


def data_of(page: str) -> str:
    class Island(HTMLParser):
        inside, text = False, ""

        def handle_starttag(self, tag, attributes):
            self.inside = dict(attributes).get("id") == "data"

        def handle_data(self, text):
            self.text += text if self.inside else ""

    parser = Island()
    parser.feed(page)
    return parser.text


def test_words_of_letters_and_marks_are_whole(byte_level):
    """GPT-2's pre-tokenizer takes the vowel signs of Hindi for no letters."""
    (words,) = byte_level(TEXTS["hindi"]).words_in("input_ids")
    assert [word.text for word in words] == TEXTS["hindi"].split()


@pytest.mark.parametrize("name", ["chinese", "japanese", "thai"])
def test_scripts_without_spaces_are_no_one_word(byte_level, name):
    (words,) = byte_level(TEXTS[name]).words_in("input_ids")
    assert max(len(word.text) for word in words) < len(TEXTS[name]) / 2
    assert not any("<0x" in word.text for word in words)


@pytest.mark.parametrize(
    ("name", "direction"), [("arabic", "rtl"), ("hebrew", "rtl"), ("thai", "ltr")]
)
def test_a_text_has_its_own_direction(byte_level, name, direction):
    page = json.loads(data_of(byte_level(TEXTS[name]).to_html()))
    assert page["samples"][0][0]["direction"] == direction


def test_pieces_that_are_parts_of_letters_are_told_by_their_bytes(byte_level):
    labels = byte_level("é").tokens("input_ids")[0]
    assert labels == ["<0xC3>", "<0xA9>"]
    assert [word.text for word in words_of(labels)] == ["é"]


def test_pieces_of_a_text_without_spaces_are_words(byte_level):
    tokenizer = byte_level.loaded.tokenizer
    ids = torch.tensor([tokenizer("unseen\n(slow)")["input_ids"]])
    assert ids.shape[1] > 4  # it knows bytes alone
    e = fxplain.explain(byte_level.model, {"input_ids": ids}, tokenizer=tokenizer)
    words = e.words_in("input_ids")[0]
    assert [word.text for word in words] == ["unseen", "\n", "(slow)"]
    assert all(not word.gap for word in words)


def test_the_models_own_tokens_are_no_pieces_of_a_word():
    words = words_of(["Ġa", "image_newline", "b", "c"], alone={1})
    assert [word.text for word in words] == ["a", "image_newline", "bc"]


def test_placeholders_in_a_row_are_one_entry():
    words = ["[CLS]", *["<image>"] * 24, "what", "is", "it"]
    entries = shown(made_explanation(words))
    assert [entry.text for entry in entries] == ["[CLS]", "24 × <image>", "what", "is", "it"]
    assert len(entries[1].tokens) == 24
    assert "24 × <image>" in str(made_explanation(words))


def test_rows_of_placeholders_are_one_entry():
    rows = ["[IMG]", "[IMG]", "[IMG]", "[BREAK]", "[IMG]", "[IMG]", "[IMG]", "[END]"]
    entries = shown(made_explanation(["<s>", *rows, "what", "[IMG]"]))
    texts = [entry.text for entry in entries]
    assert texts == ["<s>", "6 × [IMG] + 1 × [BREAK]", "[END]", "what", "[IMG]"]
    assert entries[1].tokens == tuple(range(1, 8))
    ids = ["7", "7", "7", "8", "7", "7", "7"]
    assert [entry.text for entry in shown(made_explanation(ids))] == ids


# ---- units --------------------------------------------------------------------------------------


def sentence(*words: str) -> list[Word]:
    return [
        Word(word.strip(), (i,), word[: len(word) - len(word.lstrip())])
        for i, word in enumerate(words)
    ]


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("word", ["Bad", ".", "So", "bad", "!", "Good"]),
        ("sentence", ["Bad.", "So bad!", "Good"]),
        ("line", ["Bad. So bad!", "Good"]),
        (["So bad"], ["So bad", "(the rest)"]),
        ({"praise": (13, 17)}, ["praise", "(the rest)"]),
        ([(0, 4), (90, 99)], ["Bad.", "(the rest)"]),
    ],
)
def test_units_hold_every_token_once(units, expected):
    words = sentence("Bad", ".", " So", " bad", "!", "\nGood")
    made = units_of(words, ["?"] * 6, units)
    assert [unit.text for unit in made] == expected
    assert sorted(place for unit in made for place in unit.tokens) == list(range(6))


@pytest.mark.parametrize(
    ("units", "told"),
    [
        ([(0, 9), (4, 13)], "overlap"),
        ({"a": (0, 9), "b": (8, 10)}, "'a' and 'b' overlap"),
        ([(9, 2)], r"\(9, 2\) is no part"),
        ([(-5, -1)], "is no part"),
        ({"none": (4, 4)}, "is no part"),
        ([(0.0, 3)], "is no part"),
    ],
)
def test_spans_that_are_no_parts_are_refused(units, told):
    words = sentence("Bad", ".", " So", " bad", "!", "\nGood")
    with pytest.raises(fxplain.MethodError, match=told):
        units_of(words, ["?"] * 6, units)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("sentence", ["We go  on.  ", "Or not? ", "No"]),
        ("line", ["We go  on.  Or not? ", "No"]),
    ],
)
def test_spaces_that_are_tokens_end_nothing(units, expected):
    pieces = ["We", " ", "go", " ", " ", "on", ".", " ", " ", "Or", "not", "?", " ", "\nNo"]
    words = [
        Word(piece.strip() or piece, (i,), "\n" if piece == "\nNo" else " " * (piece == "not"))
        for i, piece in enumerate(pieces)
    ]
    assert [unit.text for unit in units_of(words, ["?"] * 14, units)] == expected


def test_line_breaks_that_are_a_token_each_part_passages():
    words = [
        Word(text, (i,)) for i, text in enumerate(["a", "\n", "\n", "b", "\n", " ", "\n", "c"])
    ]
    assert [unit.text for unit in units_of(words, ["?"] * 8, "passage")] == ["a\n\n", "b\n \n", "c"]
    assert [unit.text for unit in units_of(words[3:], ["?"] * 8, "line")] == ["b\n \n", "c"]


def test_what_a_chat_template_writes_is_special_and_parts_turns():
    texts = ["<|user|>", "Good", "film", "<|end|>", "<|bot|>", "Yes"]
    words = [Word(text, (i,), " " if text == "film" else "") for i, text in enumerate(texts)]
    assert [(unit.text, unit.special) for unit in units_of(words, texts, "sentence")] == [
        ("<|user|>", True), ("Good film", False), ("<|end|>", True), ("<|bot|>", True),
        ("Yes", False),
    ]  # fmt: skip
    film, *_ = units_of(words, texts, [(8, 17)])  # characters of all that the template wrote
    assert film.text == "Good film"


def test_a_span_that_ends_within_a_word_parts_it_between_its_pieces():
    words = [Word("Unbelievably", (0, 1, 2)), Word("good", (3,), " ")]
    labels = ["Un", "##believ", "##ably", "good"]
    made = units_of(words, labels, {"start": (0, 2), "middle": (2, 8)})
    assert [(unit.text, unit.tokens) for unit in made] == [
        ("start", (0,)), ("middle", (1,)), ("(the rest)", (2, 3)),
    ]  # fmt: skip
    # what pieces do not tell apart stays whole, and is called what it is
    (whole, *_) = units_of(words, labels, [(13, 15)])
    assert (whole.text, whole.tokens) == ("good", (3,))
    for labels in (["[UNK]"] * 4, []):
        (unknown, *_) = units_of(words, labels, ["Un"])
        assert (unknown.text, unknown.tokens) == ("Unbelievably", (0, 1, 2))


def test_parts_of_which_the_text_has_none_are_refused():
    with pytest.raises(fxplain.MethodError, match="no part that is given holds a word"):
        units_of(sentence("Bad", "."), ["?"] * 2, [(90, 99)])


def test_sums_stay_whatever_the_units(byte_level):
    e = byte_level(TEXTS["line breaks"])
    whole = float(e.relevance["input_ids"].sum())
    for units in ("token", "word", "sentence", "line", "passage", ["Another"]):
        assert math.isclose(
            float(e.units("input_ids", units)[0].relevance.sum()), whole, rel_tol=1e-4
        )
    assert len(e.units("input_ids", "passage")[0].words) < len(
        e.units("input_ids", "line")[0].words
    )


def test_the_sentence_on_top_quotes_a_part_that_was_asked_for():
    e = made_explanation(["[CLS]", "a", "dull", "film"])
    values = torch.tensor([[1.0, 0.2, 0.3, 0.5]])
    e = replace(e, relevance=type(e.relevance)({"input_ids": values}))
    told = headline(e, units={"how": (2, 6)})
    assert "It drew most on \u2018how\u2019. No part has as much as the rest (70%)." in told


def test_unknown_units_name_the_known_ones(byte_level):
    e = byte_level("the movie")
    with pytest.raises(fxplain.MethodError, match="'sentence'"):
        e.units("input_ids", "chapter")
    with pytest.raises(fxplain.MethodError, match="no part of the text"):
        e.units("input_ids", ["banana"])
    with pytest.raises(fxplain.MethodError, match="must be one of 'show', 'hide'"):
        e.top(special="perhaps")


def test_units_are_in_every_report(byte_level):
    e = byte_level("the movie was good. it was bad.")
    assert "the movie was good." in e.to_text(200, units="sentence")
    texts = {t.get_text() for axes in e.plot(units="sentence").axes for t in axes.texts}
    assert "the movie was good." in texts
    assert e.to_dict("sentence")["units"][0][0]["text"] == "the movie was good."
    assert json.loads(data_of(e.to_html(units="sentence")))["units"] == "sentence"


# ---- the number that decides ----------------------------------------------------------------------


class Mean(nn.Module):
    """One attention layer, read from the mean of its tokens."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 2)

    def attention(self, x):
        return (self.q(x) @ self.k(x).transpose(1, 2) / 4).softmax(-1)

    def forward(self, input_ids):
        x = self.words(input_ids)
        return self.head((x + self.attention(x) @ self.v(x)).mean(1))


class Letters:
    def convert_ids_to_tokens(self, ids):
        return [f"w{i}" for i in ids]


@pytest.fixture(scope="module")
def mean():
    torch.manual_seed(0)
    model, ids = Mean().eval(), torch.tensor([[5, 9, 3, 7, 11, 2]])
    return model, ids


def test_a_mean_is_shown_beside_what_every_token_has(mean):
    model, ids = mean
    e = fxplain.explain(model, {"input_ids": ids}, target=0, tokenizer=Letters())
    x = model.words(ids)
    attention = model.attention(x).detach().requires_grad_()
    score = model.head((x + attention @ model.v(x)).mean(1))[0, 0]
    (gradient,) = torch.autograd.grad(score, attention)
    extra = (gradient * attention).clamp(min=0)[0].mean(0).detach()
    assert torch.allclose(e.relevance["input_ids"][0], extra + 1 / 6, atol=1e-6)
    assert torch.allclose(e.beyond_identity()["input_ids"][0], extra, atol=1e-6)
    told = {entry.text: entry.share for entry in e.top(6)}
    for word, share in zip(e.tokens("input_ids")[0], (extra / extra.sum()).tolist(), strict=True):
        assert math.isclose(told.get(word, 0.0), share, abs_tol=1e-4)
    assert any("many tokens of input_ids" in note for note in notes(e))
    page = json.loads(data_of(e.to_html()))["explanations"][0]["samples"][0]
    assert page["identity"][0] is not None
    assert page["apart"] == [[]]


def test_a_heat_map_of_pooled_windows_is_not_one_colour():
    from transformers import SwinConfig, SwinForImageClassification

    torch.manual_seed(0)
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 4], window_size=4,
        num_labels=3, initializer_range=0.1,
    )  # fmt: skip
    model = SwinForImageClassification(config).eval()
    e = fxplain.explain(model, {"pixel_values": torch.randn(1, 3, 32, 32)})
    flat, beyond = e.relevance["pixel_values"][0], e.beyond_identity()["pixel_values"][0]
    assert flat.max() / flat.min() < 1.1
    assert beyond.max() > 2 * beyond.min()
    assert beyond.min() >= -1e-7


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "input_x_gradient", "lrp", "raw_attention"]
)
def test_without_an_identity_the_read_token_has_a_number_like_any_other(byte_level, method):
    e = byte_level("the movie was good", method=method)
    last = e.relevance["input_ids"].shape[1] - 1
    assert e.apart("input_ids") == []
    assert any(last in entry.tokens for entry in e.top(20))
    assert "(read)" not in str(e)


def test_with_an_identity_the_read_token_is_apart(byte_level):
    e = byte_level("the movie was good", method="generic")
    last = e.relevance["input_ids"].shape[1] - 1
    assert e.apart("input_ids") == [last]
    assert not any(last in entry.tokens for entry in e.top(20))
    assert any("not measured" in note for note in notes(e))


def test_a_sentence_is_shown_without_the_token_that_is_apart(byte_level):
    entries = shown(byte_level("it was good.", method="generic"), units="sentence")
    assert [entry.text for entry in entries] == ["it was good", "."]
    assert [entry.apart for entry in entries] == [False, True]


def test_a_saved_explanation_knows_its_identity(mean, tmp_path):
    model, ids = mean
    e = fxplain.explain(model, {"input_ids": ids}, target=0)
    e.save(tmp_path / "e.safetensors")
    again = fxplain.load(tmp_path / "e.safetensors")
    assert torch.equal(again.beyond_identity()["input_ids"], e.beyond_identity()["input_ids"])


def test_signs_are_shown_and_add_up(byte_level):
    e = byte_level("the movie was good", method="integrated_gradients")
    values = e.relevance["input_ids"][0]
    assert e.is_signed
    above, below = float(values.clamp(min=0).sum()), float(-values.clamp(max=0).sum())
    words = e.units("input_ids")[0].relevance
    assert math.isclose(float(words.sum()), above - below, rel_tol=1e-4)
    assert " against" in str(e)
    assert "−" in str(e)
    assert shade(-1.0).bgcolor != shade(1.0).bgcolor


def test_completeness_is_told(byte_level):
    e = byte_level("the movie was good", method="integrated_gradients")
    baseline = float(e.scores[0]) - float(e.promised[0])
    told = float(e.relevance["input_ids"].sum()) / (float(e.scores[0]) - baseline)
    assert math.isclose(float(e.completeness()[0]), told, rel_tol=1e-4)
    assert 0.9 < told < 1.1
    assert "adds up to" in str(e)
    coarse = byte_level("the movie was good", method="integrated_gradients", steps=1)
    off = abs(float(coarse.completeness()[0]) - 1) > 0.1
    assert off == any("steps are too few" in warning for warning in coarse.graph.warnings)
    assert byte_level("the movie").completeness() is None


def test_special_tokens_can_be_left_out_and_are_named(tmp_path):
    e = made_explanation(["[SEP]", "good", "movie", "[CLS]"])
    everything, words = e.top(9), e.top(9, special="hide")
    assert "[CLS]" in {entry.text for entry in everything}
    assert {entry.text for entry in words} == {"good", "movie"}
    assert math.isclose(sum(entry.share for entry in words), 1, rel_tol=1e-6)
    text = e.to_text(100, special="hide")
    share = next(entry.share for entry in everything if entry.text == "[CLS]")
    assert f"left out: [CLS] with {share:.0%} of the relevance" in text
    assert json.loads(data_of(e.to_html(special="hide")))["special"] == "hide"


def test_a_frame_has_a_row_for_each_word():
    pytest.importorskip("pandas")
    e = made_explanation(["[CLS]", "un", "##friend", "##ly"])
    frame = e.to_frame()
    assert frame["text"].tolist() == ["[CLS]", "unfriendly"]
    assert frame["read"].tolist() == [True, False]
    expected = float(e.relevance["input_ids"][0, 1:].sum())
    assert math.isclose(frame["relevance"][1], expected, rel_tol=1e-5)


# ---- pictures -----------------------------------------------------------------------------------


def test_patches_in_blocks_lie_where_the_processor_took_them_from():
    ids = torch.tensor([[5, *[90] * 24, 7]])
    inputs = {
        "pixel_values": torch.zeros(96, 1176),
        "image_grid_thw": torch.tensor([[1, 8, 12]]),
        "input_ids": ids,
    }
    (picture,) = pictures_of("pixel_values", 96, {}, (), inputs)
    for place, token in enumerate(picture.tokens):
        block = token // 4
        row, column = 2 * (block // 6) + token % 4 // 2, 2 * (block % 6) + token % 2
        assert (place // 12, place % 12) == (row, column)


def test_an_image_beside_a_video_of_as_many_blocks_as_it_has_patches():
    inputs = {
        "pixel_values": torch.zeros(16, 1176), "image_grid_thw": torch.tensor([[1, 4, 4]]),
        "pixel_values_videos": torch.zeros(64, 1176), "video_grid_thw": torch.tensor([[4, 4, 4]]),
        "input_ids": torch.tensor([[5, *[90] * 4, 7, *[91] * 16]]),
    }  # fmt: skip
    (image,) = pictures_of("pixel_values", 16, {}, (), inputs)
    first, *_ = pictures_of("pixel_values_videos", 64, {}, (), inputs)
    blocks = (0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15)
    assert image.tokens == first.tokens == blocks


def test_patches_that_no_text_stands_for_in_blocks_lie_row_by_row():
    inputs = {
        "pixel_values": torch.zeros(24, 588),
        "grid": torch.tensor([[1, 4, 6]]),
        "input_ids": torch.tensor([[5, *[90] * 24, 7]]),
    }
    (picture,) = pictures_of("pixel_values", 24, {}, (), inputs)
    assert picture.tokens == tuple(range(24))


def test_several_pictures_and_frames_are_pictures_of_their_own():
    inputs = {
        "pixels": torch.zeros(2 * 24 + 16, 1176),
        "sizes": torch.tensor([[2, 4, 6], [1, 4, 4]]),
    }
    found = pictures_of("pixels", 64, {}, (), inputs)
    assert [(p.grid, p.source, p.part) for p in found] == [
        ((4, 6), 0, 0),
        ((4, 6), 0, 1),
        ((4, 4), 1, 0),
    ]
    assert [p.tokens[0] for p in found] == [0, 24, 48]


@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (1, 3, 3, 32, 32)])
def test_tiles_are_pictures_of_their_own(shape):
    found = pictures_of("pixel_values", 48, {}, (), {"pixel_values": torch.zeros(shape)})
    assert [p.grid for p in found] == [(4, 4)] * 3
    assert [p.tokens[0] for p in found] == [0, 16, 32]


def test_tiles_of_several_pictures_know_whose_they_are():
    special = dict.fromkeys(range(0, 4 * 17, 17), "cls")
    pixels = torch.arange(2 * 2 * 2.0).reshape(2, 2, 2, 1, 1, 1).expand(-1, -1, -1, 3, 32, 32)
    found = pictures_of("pixel_values", 4 * 17, special, (), {"pixel_values": pixels})
    assert [(p.source, p.part, p.parts) for p in found] == [
        (0, 0, 2),
        (0, 1, 2),
        (1, 0, 2),
        (1, 1, 2),
    ]
    assert [p.tokens[0] for p in found] == [1, 18, 35, 52]
    shown = pictures_beneath(pixels, found, 1)
    assert [float(tile[0, 0, 0]) for tile in shown] == [4, 5, 6, 7]  # those of the second sample


def test_tiles_of_all_samples_in_a_row():
    pixels = torch.arange(6.0).reshape(6, 1, 1, 1).expand(-1, 3, 32, 32)
    found = pictures_of("pixels", 48, {}, (4, 4), {"pixels": pixels})
    assert [p.grid for p in found] == [(4, 4)] * 3
    assert [float(tile[0, 0, 0]) for tile in pictures_beneath(pixels, found, 1)] == [3, 4, 5]


def test_tiles_of_several_pictures_of_one_sample():
    pixels = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(-1, -1, 3, 32, 32)
    found = pictures_of("pixels", 96, {}, (4, 4), {"pixels": pixels})
    assert [(p.source, p.part) for p in found] == [(i, k) for i in (0, 1) for k in range(3)]
    assert [float(tile[0, 0, 0]) for tile in pictures_beneath(pixels, found, 0)] == [*range(6)]


def test_the_one_tile_of_a_picture_is_drawn():
    pixels = torch.rand(2, 1, 3, 32, 32)
    found = pictures_of("pixel_values", 16, {}, (4, 4), {"pixel_values": pixels})
    (shown,) = pictures_beneath(pixels, found, 1)
    assert torch.equal(shown, pixels[1, 0])


def test_points_of_an_image_are_no_image():
    for count in (1, 2, 5):
        given = {"input_points": torch.zeros(1, 1, count, 2)}
        assert pictures_of("input_points", count + 1, {}, (1, count + 1), given) == ()
    assert len(pictures_of("pixels", 8, {}, (1, 8), {"pixels": torch.zeros(1, 3, 16, 128)})) == 1


def test_tiles_with_a_special_token_each():
    special = {0: "cls", 17: "cls", 34: "cls"}
    found = pictures_of(
        "pixel_values", 51, special, (4, 4), {"pixel_values": torch.zeros(3, 3, 32, 32)}
    )
    assert [p.tokens[0] for p in found] == [1, 18, 35]


def test_pictures_that_nothing_connects_are_each_found():
    inputs = {"pixels": torch.zeros(24 + 16, 1176), "sizes": torch.tensor([[1, 4, 6], [1, 4, 4]])}
    (one,) = pictures_of("pixels", 24, {}, (), inputs)
    (other,) = pictures_of("pixels@patches", 16, {}, (), inputs)
    assert (one.grid, one.first) == ((4, 6), 0)
    assert (other.grid, other.first) == ((4, 4), 24)


@pytest.mark.parametrize("whole_first", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 2), (1, 4)])
def test_tiles_are_put_together_by_what_is_in_them(rows, columns, whole_first):
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 7), (rows * 16, columns * 16))[0]
    cut = picture.reshape(3, rows, 16, columns, 16).permute(1, 3, 0, 2, 4).flatten(0, 1)
    small = torch.nn.functional.interpolate(picture[None], (16, 16), mode="area")
    tiles = torch.cat([small, cut] if whole_first else [cut, small])
    mosaic = mosaic_of(tiles)
    assert (mosaic.rows, mosaic.columns) == (rows, columns)
    assert torch.equal(put_together(tiles, mosaic), picture)
    assert mosaic_of(torch.rand(5, 3, 16, 16)) is None


# ---- tasks --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    torch.manual_seed(0)
    names = {0: "toxic", 1: "insult", 2: "threat"}
    config = BertConfig(
        vocab_size=len(small_pretrained.PIECES), hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=2, problem_type="multi_label_classification",
        num_labels=3, id2label=names, label2id={v: k for k, v in names.items()},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([2.0, 3.0, -3.0]))
    folder = tmp_path_factory.mktemp("labels")
    model.save_pretrained(folder)
    small_pretrained.word_pieces().save_pretrained(folder)
    return folder


def test_several_labels_of_one_text(labels):
    explainer = fxplain.from_pretrained(labels)
    found = explainer("the movie was bad", targets=["toxic", "threat"])
    assert [e.target_names for e in found] == [("toxic",), ("threat",)]
    assert [e.target_names[0] for e in explainer.each("the movie was bad")] == ["insult", "toxic"]
    assert explainer.each("the movie was bad", threshold=0.99) == []
    assert headline(found[0]).startswith("The model says toxic (")
    assert headline(found[1]).startswith("The model does not say threat (")
    with pytest.raises(fxplain.TargetError, match="leave one of them out"):
        explainer("the movie", target=0, targets=[0, 1])


def test_embeddings_are_no_answer_and_similarity_is(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(small_pretrained.PIECES), hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=2,
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(tmp_path)
    small_pretrained.word_pieces().save_pretrained(tmp_path)
    with pytest.raises(fxplain.TargetError, match="sentence-similarity"):
        fxplain.from_pretrained(tmp_path)("the movie", pair="a cat")
    explainer = fxplain.from_pretrained(tmp_path, task="sentence-similarity")
    e = explainer("the movie was great", pair="a cat")
    with torch.no_grad():
        made = [
            explainer.model(**explainer.loaded.tokenizer(text, return_tensors="pt"))
            for text in ("the movie was great", "a cat")
        ]
    one, two = (output.last_hidden_state.mean(1) for output in made)
    assert torch.allclose(e.scores, torch.cosine_similarity(one, two), atol=1e-5)
    assert [m.removesuffix("_input_ids") for m in e.modalities] == ["text", "pair"]
    assert e.units("pair_input_ids")[0].labels == ["[CLS]", "a", "cat", "[SEP]"]
    with pytest.raises(fxplain.InputError, match="pair="):
        explainer("the movie")


def test_what_made_an_explanation_is_told(byte_level):
    e = byte_level("the movie", method="rollout")
    assert e.provenance["weights"] == fingerprint(byte_level.model)
    assert "rollout" in e.provenance["method"]
    assert e.provenance["weights"] in e.to_html()
    torch.manual_seed(1)
    with torch.no_grad():
        other = GPT2ForSequenceClassification(byte_level.model.config)
    assert fingerprint(other) != e.provenance["weights"]


def test_a_page_from_python_has_the_classes_names(byte_level):
    e = byte_level("the movie")
    classes = json.loads(data_of(e.to_html()))["explanations"][0]["samples"][0]["classes"]
    assert {row["name"] for row in classes["rows"]} == {"bad", "good"}


def test_the_sentence_on_top_names_class_chance_and_word():
    e = made_explanation(["[CLS]", "a", "dull", "movie"], target_names=("negative",))
    values = torch.tensor([[1.0, 0.01, 0.5, 0.02]])
    e = made_explanation(
        ["[CLS]", "a", "dull", "movie"],
        target_names=("negative",),
        relevance=type(e.relevance)({"input_ids": values}),
    )
    share = torch.tensor([0.5, 2.0, -1.0]).softmax(-1)[1]
    assert headline(e) == f"The model says negative ({float(share):.0%}). It drew most on ‘dull’."


def test_messages_are_known_from_texts():
    hello = [{"role": "user", "content": "hello"}]
    assert conversations_in(hello) == [hello]
    assert conversations_in([hello, hello]) == [hello, hello]
    assert not any(map(conversations_in, (["hello"], "hello", [], [[]], [hello, "hello"])))


def test_messages_are_written_by_the_chat_template(tmp_path):
    model, tokenizer = small_pretrained.llama()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    explainer = fxplain.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": [{"type": "text", "text": "the movie"}]}]
    told, plain = explainer(text=messages), explainer("user: the movie assistant:")
    assert torch.equal(told.inputs["input_ids"], plain.inputs["input_ids"])


# ---- side by side ---------------------------------------------------------------------------------


def test_two_methods_side_by_side_with_their_difference(byte_level):
    one, two = (byte_level("the movie was good", method=m) for m in ("raw_attention", "lrp"))
    page = fxplain.compare([one, two], names=["first", "second"])
    assert "Difference: from first to second" in page
    printed = page[page.index("@media print") :]
    assert re.search(r":root \{[^}]*; print-color-adjust: exact;", printed)  # what all inherit
    for e in (one, two):
        assert headline(e).split(".")[0] in page
        for entry in shown(e):
            assert f'data-value="{entry.relevance}"' in page


def test_two_inputs_side_by_side_have_no_difference(byte_level):
    page = fxplain.compare([byte_level("the movie"), byte_level("it was good")])
    assert "Difference" not in page
    assert "good" in page


def test_columns_are_called_by_what_tells_them_apart(byte_level):
    texts = fxplain.compare([byte_level("the movie", target=0), byte_level("it was", target=0)])
    assert ">\u2018the movie\u2019</h2>" in texts
    tuned = byte_level("the movie", target=0)
    hashes = ["0123456789", "abcdef0123"]
    models = fxplain.compare([
        replace(tuned, provenance={**tuned.provenance, "model": "/x/mine", "weights": weights})
        for weights in hashes
    ])  # fmt: skip
    assert "from mine (012345) to mine (abcdef)" in models
    both = fxplain.compare([byte_level("the movie", target=t, method="generic") for t in (0, 1)])
    assert "from bad to good" in both  # a method that both share tells nothing apart


def called(page):
    return re.findall("<h2[^>]*>(.*?)</h2>", page)


def test_the_samples_of_a_batch_are_called_by_their_texts(byte_level):
    e = byte_level(["the movie", "it was good again"], target=0, method="lrp")
    page = fxplain.compare(e)
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == [
        "\u2018the movie\u2019",
        "\u2018it was good again\u2019",
    ]
    again = fxplain.compare([e, replace(e, method="other")])
    assert ">lrp, \u2018the movie\u2019</h2>" in again
    alike = fxplain.compare(byte_level(["the movie"] * 2, target=0, method="lrp"))
    assert called(alike)[:2] == ["sample 0", "sample 1"]


def test_what_is_shaded_side_by_side_has_its_numbers_in_a_table(byte_level):
    e = byte_level("the movie was good", target=0, method="lrp")
    page = fxplain.compare([e, e])
    rows = re.findall(
        r'<tr><td>(.*?)</td><td class="number">(.*?)</td><td class="number">(.*?)</td>', page
    )
    ranked = [(entry.text, f"{entry.relevance:.4g}") for entry in e.top(10)]
    assert [(text, number) for text, number, _ in rows[: len(ranked)]] == ranked
    assert 'role="region"' in fxplain.compare(
        [e, byte_level("the movie was good", target=1, method="lrp")]
    )


@pytest.mark.parametrize(
    ("ends", "left"),
    [
        (["[PAD]"], 3),
        (["[PAD]", "[PAD]"], 2),
        (["5 × [PAD]"], 2),
        (["word of five pieces"], 3),
    ],
)
def test_padding_at_the_end_is_left_out(ends, left):
    words = [Shown("input_ids", text, (0,), 0.5) for text in ("a", "b")]
    counts = [1 if text == "[PAD]" else 5 for text in ends]
    padding = [
        Shown("input_ids", text, tuple(range(count)), 0.0)
        for text, count in zip(ends, counts, strict=True)
    ]
    assert without_padding([*words, *padding]) == left


def test_a_signed_map_stands_beside_one_without_signs(byte_level, tmp_path):
    e = byte_level("the movie was good", target=0, method="generic")
    signed = e.signed()
    assert signed.is_signed
    assert (signed.word_pieces, signed.target_names) == (e.word_pieces, e.target_names)
    assert '"title":"input_x_gradient"' in e.to_html()
    assert '"title":"input_x_gradient"' not in e.to_html(signed=False)
    assert signed.to_html().count('"title":') == 1
    e.save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    assert '"title":"input_x_gradient"' not in loaded.to_html()
    with pytest.raises(fxplain.MethodError, match="loaded"):
        loaded.signed()


def test_the_difference_is_of_what_both_were_given(tmp_path):
    explainer = fxplain.from_pretrained(small_pretrained.save("vit", tmp_path))
    one, two = (explainer(small_pretrained.picture(seed=i), target=0) for i in range(2))
    page = fxplain.compare([one, two])
    assert "Difference" not in page
    assert ">input 1</h2>" in page
    other = explainer(small_pretrained.picture(seed=0), target=1)
    page = fxplain.compare([one, other])
    assert "Difference" in page
    assert " of pixel_values</td>" in page


def test_words_that_two_tokenizers_cut_differently_are_put_together():
    def entry(text, relevance, gap="", special=False):
        return Shown("t", text, (), relevance, abs(relevance), gap=gap, special=special)

    one = [entry("[CLS]", 0.5, special=True), entry("It", 0.1), entry("isn", 0.2, " ")]
    one += [entry("'", -0.1), entry("t", 0.1), entry("bad", 0.0, " ")]
    two = [entry("It", 0.4), entry("is", 0.1, " "), entry("n't", 0.2), entry("bad", 0.3, " ")]
    found = _difference(([one, two], {"t"}))
    assert [cell.text for cell in found["words"]] == ["It", "isn't", "bad"]
    changes = {word: change for word, _, _, change in found["rows"]}
    assert changes == {"It": "+30", "bad": "+30", "isn't": "+10"}
    other = [*two[:-1], entry("good", 0.3, " ")]
    assert _difference(([one, other], {"t"})) is None


@pytest.mark.parametrize("count", [1, 7])
def test_comparisons_are_of_two_to_six(byte_level, count):
    with pytest.raises(fxplain.InputError, match="two to 6"):
        fxplain.compare([byte_level("the movie")] * count)


class Saturated(nn.Module):
    """A score that rises at one place of the path alone: few steps pass over it."""

    def __init__(self, sharpness):
        super().__init__()
        self.words, self.sharpness = nn.Embedding(5, 4), sharpness
        self.attend = nn.MultiheadAttention(4, 1, batch_first=True)
        nn.init.constant_(self.words.weight, 1.0)

    def forward(self, input_ids):
        x = self.words(input_ids)
        x = x + 0.01 * self.attend(x, x, x)[0]
        return torch.sigmoid(self.sharpness * (x.mean((1, 2)) - 0.37))[:, None]


@pytest.mark.parametrize(("sharpness", "enough"), [(5.0, True), (200.0, False)])
def test_steps_are_doubled_until_relevance_adds_up(sharpness, enough):
    torch.manual_seed(0)
    model = Saturated(sharpness).eval()
    ids = {"input_ids": torch.tensor([[1, 2, 3]])}
    first = fxplain.explain(model, ids, 0, "integrated_gradients", steps=20)
    assert (abs(float(first.completeness()[0]) - 1) <= 0.1) == enough
    e = fxplain.explain(model, ids, 0, "integrated_gradients")
    assert (e.options["steps"] == 20) == enough
    assert abs(float(e.completeness()[0]) - 1) <= 0.1
    assert not any("steps" in warning for warning in e.graph.warnings)


def test_what_never_adds_up_is_given_up_and_said():
    torch.manual_seed(0)
    model = Saturated(1e6).eval()
    ids = {"input_ids": torch.tensor([[1, 2, 3]])}
    e = fxplain.explain(model, ids, 0, "integrated_gradients")
    (told,) = [warning for warning in e.graph.warnings if "steps" in warning]
    assert told.startswith("20, 40")
    assert "given up" in told
    asked = fxplain.explain(model, ids, 0, "integrated_gradients", steps=20)
    assert asked.options["steps"] == 20
    assert any("steps are too few" in warning for warning in asked.graph.warnings)


def test_a_difference_of_shares_is_in_points(byte_level):
    """From 94% against to 92% for is no growth by 186%."""
    text = "the movie was good"
    one, two = (byte_level(text, method=name) for name in ("input_x_gradient", "lrp"))
    page = fxplain.compare([one, two])
    assert "change, in points" in page
    signed = [
        {e.tokens: (1 if e.relevance >= 0 else -1) * e.share for e in each.top(99)}
        for each in (one, two)
    ]
    changes = [100 * (signed[1].get(k, 0) - v) for k, v in signed[0].items()]
    most = max(changes, key=abs)
    assert f">{'+' if most > 0 else chr(0x2212)}{abs(most):.0f}<" in page
