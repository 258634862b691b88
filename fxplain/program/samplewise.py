"""Samplewise: births of one sample each, of models that take the samples of a batch one by one."""

from __future__ import annotations

import numpy as np

from fxplain.capture import operation_name
from fxplain.tokens import Birth, TokenBook

__all__ = ["whole_births"]


def whole_births(book: TokenBook, birth: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The birth of every token, with those that are one birth, sample by sample, as the first of them.

    A loop over the samples (pictures or texts of several sizes) embeds each by the same module: tokens
    that came of the same at the same place, in samples of their own, correspond like a batch's.

    Parameters
    ----------
    book
        The tokens and their births.
    birth, sample
        Of every token of the book.
    """
    if book.batch_size == 1 or not len(birth):
        return birth
    whole = np.arange(len(book.births))
    taken: dict[object, dict[int, set[int]]] = {}
    for of_one in book.births:
        own = set(np.unique(sample[of_one.first : of_one.first + of_one.count]).tolist())
        alike = taken.setdefault(_origin(of_one), {})
        first = next((i for i, others in alike.items() if others.isdisjoint(own)), of_one.index)
        alike.setdefault(first, set()).update(own)
        whole[of_one.index] = first
    found: np.ndarray = whole[birth]
    return found


def _origin(birth: Birth) -> object:
    """What births have in common whose tokens are the same places of several samples."""
    operation = None if birth.node is None else operation_name(birth.node)
    root = birth.made_of if birth.kind == "route" else birth.root
    return birth.kind, root, birth.module, operation, birth.looked_up
