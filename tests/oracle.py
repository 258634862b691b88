"""The relevancy rules of Chefer, Gur & Wolf (ICCV 2021, arXiv 2103.15679), written literally.

Slow and simple on purpose: NumPy, float64, one sample at a time, full matrices, one step per
equation. The tests compare the library with this file; nothing here is imported from the library.
"""

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


def attention_map(attention: Array, gradient: Array) -> Array:
    """Eq. 5: A-bar (s, q), the mean over heads of max(0, dy/dA * A), from two (heads, s, q)."""
    heads = attention.shape[0]
    total = np.zeros(attention.shape[1:])
    for head in range(heads):
        total += np.maximum(0.0, gradient[head] * attention[head])
    return total / heads


def normalise(relevancy: Array) -> Array:
    """Eqs. 8 and 9: each row of R - I divided by its sum, plus I; a row whose sum is 0 stays I."""
    identity = np.eye(len(relevancy))
    residual = relevancy - identity
    normalised = identity.copy()
    for row, values in enumerate(residual):
        row_sum = values.sum()
        if row_sum != 0:
            normalised[row] += values / row_sum
    return normalised


@dataclass
class Oracle:
    """One sample's relevancy matrices R[s, q]: at first identity for s = q, else zero (eqs. 1, 2).

    ``tokens`` holds the number of tokens of each modality.
    """

    tokens: dict[str, int]
    R: dict[tuple[str, str], Array] = field(init=False)

    def __post_init__(self) -> None:
        self.R = {
            (s, q): np.eye(n) if s == q else np.zeros((n, m))
            for s, n in self.tokens.items()
            for q, m in self.tokens.items()
        }

    def self_attention(self, s: str, a_bar: Array) -> None:
        """Eqs. 6 and 7: R[s, *] += A-bar R[s, *], for every column block."""
        before = dict(self.R)
        for q in self.tokens:
            self.R[s, q] = before[s, q] + a_bar @ before[s, q]

    def bi_modal(self, *attentions: tuple[str, str, Array]) -> None:
        """Attentions (s, q, A-bar) of queries from s to keys from q, all reading the same state.

        Eq. 10: R[s, q] += norm(R[s, s])^T A-bar norm(R[q, q]).
        Eq. 11: R[s, s] += A-bar R[q, s].
        A third modality m, which s hears of only through q: R[s, m] += A-bar R[q, m], as eq. 11.
        """
        before = dict(self.R)
        for s, q, a_bar in attentions:
            change = normalise(before[s, s]).T @ a_bar @ normalise(before[q, q])
            self.R[s, q] = self.R[s, q] + change
            for m in self.tokens:
                if m != q:
                    self.R[s, m] = self.R[s, m] + a_bar @ before[q, m]

    def route(self, s: str, weights: Array) -> None:
        """New tokens of s from old ones, by weights P whose rows sum to 1: R[s, *] = P R[s, *]."""
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
        for q in self.tokens:
            self.R[s, q] = weights @ self.R[s, q]
