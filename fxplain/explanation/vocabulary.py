"""Vocabulary: a word that a user names as the number that a model knows it by."""

from __future__ import annotations

from typing import Any

from fxplain.arguments import blaming, shown
from fxplain.errors import TargetError

__all__ = ["word_id"]


def word_id(tokenizer: Any, word: Any) -> Any:
    """The id of a word that is one piece of the vocabulary; what is no string stays as it is.

    Raises
    ------
    TargetError
        When the word is several pieces, or unknown.
    """
    if not isinstance(word, str):
        return word
    with blaming(f"the tokenizer, asked for {shown(word)},", TargetError):
        if word in tokenizer.get_vocab():
            return tokenizer.convert_tokens_to_ids(word)
        ids = tokenizer.encode(word, add_special_tokens=False)
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return ids[0]
    pieces = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ids))) or "nothing"
    raise TargetError(
        f"{shown(word)} is not one word piece of the vocabulary, but {pieces}: give one of the "
        f"pieces, or an id."
    )
