"""Tokenizers with one token per word."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def word_tokenizer(
    vocabulary: Sequence[str], template: str, max_length: int, **special_tokens: str
) -> PreTrainedTokenizerFast:
    """A tokenizer that splits at spaces.

    Parameters
    ----------
    vocabulary : sequence of str
        The words in the order of their ids, special ones included.
    template : str
        What stands around a text, for example ``[CLS] $A [SEP]``.
    max_length : int
        The most tokens that the model reads.
    **special_tokens
        Such as ``pad_token``; ``unk_token`` at least.

    Returns
    -------
    PreTrainedTokenizerFast
    """
    ids = {word: place for place, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=special_tokens["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template,
        special_tokens=[(word, ids[word]) for word in template.split() if word in ids],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        **special_tokens,
    )
