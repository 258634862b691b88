"""The words of a text as they were written, whatever tokenizer made the pieces."""

import re
import unicodedata

import pytest
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    ByT5Tokenizer,
    CanineTokenizer,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
)

from fxplain.errors import TargetError
from fxplain.explanation.merging import words_of as words_of_labels
from fxplain.explanation.pieces import joined, readable
from fxplain.explanation.units import written_text
from fxplain.pipelines.spelling import spell
from fxplain.pipelines.task import per_sample
from tests import small_pretrained

TEXTS = {
    "english": "The Movie wasn't great (3.5/10), Café",
    "decomposed": unicodedata.normalize("NFD", "Café Ångström tiếng"),
    "joined emoji": "a family 👨‍👩‍👧 and 👍🏽👍🏿 end",
    "thai": "หนังดีมาก แต่แย่",
    "chinese": "这部电影 GPT-4 好看",
    "hebrew": "The word שָׁלוֹם means peace",
    "white space": "name\tvalue\r\n  bar\n\nend",
    "markup": "<b>bold</b> &amp; [CLS] [red]x[/red]",
    "ligatures": "ﬁne ½ İstanbul ㎏",
}


class Written(PreTrainedTokenizer):
    """One that somebody wrote in Python: lower-cased words and signs, without offsets."""

    vocab = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "movie", "'", "t", "(", ")", ",", "café")
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 - as the base class has it

    def __init__(self):
        names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep")}
        super().__init__(**names)

    @property
    def vocab_size(self):
        return len(self.vocab)

    def get_vocab(self):
        return {word: i for i, word in enumerate(self.vocab)}

    def _tokenize(self, text):
        return re.findall(r"\w+|[^\w\s]", text.lower())

    def _convert_token_to_id(self, token):
        return self.vocab.index(token) if token in self.vocab else 1

    def _convert_id_to_token(self, number):
        return self.vocab[number]

    def build_inputs_with_special_tokens(self, first, second=None):
        return [2, *first, 3, *([*second, 3] if second else [])]


def trimming():
    """RoBERTa's: the space that a piece begins with is not of its offsets."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(small_pretrained.LINES, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=made, cls_token="<s>", sep_token="</s>")


def by_letter():
    """Each letter is a piece, and to the tokenizer a word."""
    letters = sorted({letter for text in TEXTS.values() for letter in text})
    names = {"[UNK]": 0} | {letter: i for i, letter in enumerate(letters, 1)}
    made = Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")


def without_accents():
    """BERT's: what it strips has no offsets."""
    made = small_pretrained.word_pieces()
    made.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    return made


TOKENIZERS = {
    "bytes": ByT5Tokenizer,
    "letters": CanineTokenizer,
    "written in Python": Written,
    "trimming": trimming,
    "by letter": by_letter,
    "without accents": without_accents,
    "unigrams": small_pretrained.unigrams,
}


def words_of(tokenizer, text):
    encoding = tokenizer([text], return_offsets_mapping=tokenizer.is_fast)
    ids = encoding["input_ids"][0]
    words = spell(tokenizer, ids, encoding if tokenizer.is_fast else None, 0, [text])
    assert sorted(place for word in words for place in word.tokens) == [*range(len(ids))]
    return words


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_shown_is_what_was_given(kind):
    tokenizer = TOKENIZERS[kind]()
    for text in TEXTS.values():
        assert written_text(words_of(tokenizer, text)) == text


@pytest.mark.parametrize("kind", ["bytes", "letters", "by letter"])
def test_letters_and_bytes_make_up_words(kind):
    words = words_of(TOKENIZERS[kind](), TEXTS["chinese"])
    texts = [word.text for word in words if not word.special]
    assert texts[:4] == [*"这部电影"]
    assert texts[-2:] == [*"好看"]
    assert "GPT" in "".join(texts[4:5])


def test_tokens_that_cannot_be_seen_are_called_by_their_roles():
    words = words_of(CanineTokenizer(), "a word")
    assert [word.text for word in words] == ["[CLS]", "a", "word", "[SEP]"]
    assert [word.special for word in words] == [True, False, False, True]


def test_what_the_vocabulary_does_not_know_is_shown_as_it_was_written():
    words = words_of(Written(), "Theft, the MOVIE!")
    assert [word.text for word in words] == ["[CLS]", "Theft", ",", "the", "MOVIE", "!", "[SEP]"]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["Yes", ".\n\n", "First", " line", ":\n", "x"], "Yes.\n\nFirst line:\nx"),
        (["▁one", "<0x0A>", "▁▁▁▁", "return", "▁x"], "one\n    return x"),
        (["def", "Ċ", "ĠĠĠ", "Ġreturn"], "def\n    return"),
        (["▁", "这", "▁b"], "这 b"),
    ],
)
def test_what_is_written_keeps_its_lines_and_spaces(pieces, text):
    words = words_of_labels(readable(pieces), together=True)
    assert written_text(words) == text
    assert not any(word.text.strip() and any(map(str.isspace, word.text)) for word in words)


def test_bytes_that_are_letters_are_letters():
    assert readable(["<0x65>", "<0xD4>"]) == ["e", "<0xD4>"]
    assert joined(["<0xD4>", "<0x65>", "<0xC3>", "<0xA9>"]) == "<0xD4>eé"


def test_a_list_of_targets_has_one_for_each_sample():
    with pytest.raises(TargetError, match="2 targets for a batch of 1"):
        per_sample(["a", "b"], 1)


def test_a_pair_is_found_in_its_own_texts():
    tokenizer = Written()
    texts = ["The Café", "the unseen movie"]
    words = spell(tokenizer, tokenizer(*texts)["input_ids"], None, 0, texts)
    assert [word.text for word in words if not word.special] == [
        "The", "Café", "the", "unseen", "movie"
    ]  # fmt: skip


def test_a_sequence_without_spaces_is_no_word():
    words = words_of(CanineTokenizer(), "ACGT" * 40)
    assert len(words) == 162
