"""Look up keys among pairs of keys and values: the data of the small T5.

The source reads, say, ``reverse d a k ? a 3 , c 4 , d 1 , k 9``: a command, three keys, and pairs of a
key and a digit in any order. The answer names each asked key and then its digit: in the order in which
they are asked (``copy``), in the opposite order (``reverse``), or in alphabetical order (``sort``);
here ``k 9 a 3 d 1``. Each token of the answer is one token of the source, which is what makes the model
worth explaining: a good explanation finds the relevance there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5ForConditionalGeneration

MODEL_FOLDER = Path(__file__).parents[1] / "models" / "t5_lookup"

COMMANDS = ("copy", "reverse", "sort")
KEYS = tuple("abcdefghijklmnop")
DIGITS = tuple("0123456789")
ASKED = 3
"""How many keys a source asks for."""
PAIRS = (4, 6)
"""The fewest and the most pairs of a source, each with a key and a digit of its own."""


@dataclass(frozen=True)
class Lookup:
    """A source, its answer, and where in the source the answer is.

    Attributes
    ----------
    command : str
        One of `COMMANDS`.
    words : tuple of str
        The source's words; the tokenizer makes one token of each, and one for the end behind them.
    answer : tuple of str
        The six words to say: a key, its digit, the next key...
    evidence : tuple of int
        For each word of the answer the place in the source that decides it: of a key where it is
        asked for, of a digit where it stands in its pair.
    found_keys : tuple of int
        For each word of the answer the place, in its pair, of the key that it is or belongs to.
    """

    command: str
    words: tuple[str, ...]
    answer: tuple[str, ...]
    evidence: tuple[int, ...]
    found_keys: tuple[int, ...]


def draw_lookups(number: int, generator: random.Random) -> list[Lookup]:
    """Draw lookups, the commands taking turns.

    There are more than 10 ** 9 sources, so that one drawn in training hardly ever comes again.

    Parameters
    ----------
    number : int
        How many lookups.
    generator : random.Random
        Where everything is drawn from: the same seed gives the same lookups.

    Returns
    -------
    list of Lookup
    """
    return [_draw_lookup(COMMANDS[i % len(COMMANDS)], generator) for i in range(number)]


def _draw_lookup(command: str, generator: random.Random) -> Lookup:
    pairs = generator.randint(*PAIRS)
    keys, digits = generator.sample(KEYS, pairs), generator.sample(DIGITS, pairs)
    asked = generator.sample(range(pairs), ASKED)
    words = [command, *(keys[pair] for pair in asked), "?"]
    found = []
    for key, digit in zip(keys, digits, strict=True):
        if found:
            words.append(",")
        found.append(len(words))
        words += [key, digit]
    order = list(range(ASKED))
    if command == "reverse":
        order.reverse()
    elif command == "sort":
        order.sort(key=lambda place: keys[asked[place]])
    evidence, found_keys = [], []
    for place in order:
        in_pair = found[asked[place]]
        evidence += [1 + place, in_pair + 1]
        found_keys += [in_pair, in_pair]
    answer = tuple(words[place] for place in evidence)
    return Lookup(command, tuple(words), answer, tuple(evidence), tuple(found_keys))


def vocabulary() -> list[str]:
    """Every word of sources and answers."""
    return [*COMMANDS, *KEYS, *DIGITS, "?", ","]


def encode(tokenizer: PreTrainedTokenizerBase, lookups: Sequence[Lookup]) -> dict[str, Tensor]:
    """Make one batch of model inputs, the true answers given to the decoder.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer, as `load_model` returns it.
    lookups : sequence of Lookup
        Shorter sources are padded to the longest.

    Returns
    -------
    dict of str to Tensor
        ``input_ids`` and ``attention_mask`` (batch, words + 1), and ``decoder_input_ids`` (batch, 7):
        the start token, then the answer. The decoder's place i predicts word i of the answer.
    """
    sources = tokenizer(
        [" ".join(lookup.words) for lookup in lookups], padding=True, return_tensors="pt"
    )
    starts = torch.full((len(lookups), 1), tokenizer.pad_token_id)
    answers = encode_targets(tokenizer, lookups)[:, :-1]
    return {
        "input_ids": sources["input_ids"],
        "attention_mask": sources["attention_mask"],
        "decoder_input_ids": torch.cat([starts, answers], dim=1),
    }


def encode_targets(tokenizer: PreTrainedTokenizerBase, lookups: Sequence[Lookup]) -> Tensor:
    """(batch, 7): the token ids of each answer, and of the end behind it."""
    answers = [" ".join(lookup.answer) for lookup in lookups]
    targets: Tensor = tokenizer(answers, return_tensors="pt")["input_ids"]
    return targets


def load_model(
    folder: Path = MODEL_FOLDER,
) -> tuple[T5ForConditionalGeneration, PreTrainedTokenizerBase]:
    """Load the trained model, in evaluation mode, and its tokenizer."""
    model = T5ForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
