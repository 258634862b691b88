"""Pairs: what a token of one input and a token of another add to the score together.

Möller, Nikolaev & Padó, "Approximate Attributions for Off-the-Shelf Siamese Transformers", EACL 2024
(arXiv 2402.02883): for a similarity of two embeddings, the product of both towers' integrated
Jacobians gives a matrix of tokens by tokens. It is the mixed second derivative of the score,
integrated along both paths, and is found as that, so that any score of two inputs will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fxplain.arguments import place_in, whole
from fxplain.errors import MethodError, NoGradientError
from fxplain.explanation.reading import samples_of
from fxplain.inside.reading import kept_of
from fxplain.methods import BornTokens
from fxplain.presentation import Tabled
from fxplain.program import BirthSite, Modality, birth_sites
from fxplain.run import Run, forward
from fxplain.tokens import follow_tokens

if TYPE_CHECKING:
    from fxplain.explanation import Explanation
    from fxplain.explanation.kept import Kept

__all__ = ["Pair", "Pairs", "pairs"]


@dataclass(frozen=True)
class Pair:
    """Two tokens, and what they add to the score together."""

    a: str
    b: str
    places: tuple[int, int]
    value: float


@dataclass(frozen=True, eq=False)
class Pairs(Tabled):
    r"""What pairs of tokens add to a score; printed, the strongest.

    .. math:: P_{ij} = \int_0^1 \int_0^1 a_i^T
        \frac{\partial^2 s(\alpha a, \beta b)}{\partial a_i \partial b_j} b_j \, d\alpha \, d\beta,
        \qquad \sum_{ij} P_{ij} = s(a, b) - s(0, b) - s(a, 0) + s(0, 0)

    where a and b are the tokens of both inputs as they are born, and 0 is no tokens, as
    `integrated_gradients` has it. Of s = f(a) . g(b) this is the product of integrated Jacobians.

    Attributes
    ----------
    a, b
        The names of both modalities.
    values
        (batch, tokens of a, tokens of b).
    labels
        By sample, the labels of the tokens of a, and of b.
    scores
        (batch,) the explained number.
    promised
        (batch,) what the values add up to but for the error of `steps`: the part of the score that
        both inputs have together.
    steps
        How many points each path has.
    """

    a: str
    b: str
    values: Tensor = field(repr=False)
    labels: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = field(repr=False)
    scores: Tensor
    promised: Tensor
    steps: int

    def completeness(self) -> Tensor:
        """(batch,) what part of `promised` the values add up to."""
        return self.values.sum((1, 2)) / self.promised

    def top(self, k: int = 10, *, sample: int = 0) -> list[Pair]:
        """The k pairs of one sample that add or take most."""
        whole(0).check("k", k)
        sample = place_in("sample", sample, len(self.values))
        own, (rows, columns) = self.values[sample], self.labels[sample]
        order = own.abs().flatten().argsort(descending=True, stable=True)[:k].tolist()
        places = [divmod(place, own.shape[1]) for place in order]
        return [Pair(rows[i], columns[j], (i, j), float(own[i, j])) for i, j in places]

    def table(self) -> list[dict[str, Any]]:
        """A row for each sample and pair, as plain data."""
        count = self.values[0].numel()
        return [
            {"sample": sample, **asdict(pair), "places": list(pair.places)}
            for sample in range(len(self.values))
            for pair in self.top(count, sample=sample)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "format": "fxplain-pairs-1",
            "a": self.a,
            "b": self.b,
            "steps": self.steps,
            "scores": self.scores.tolist(),
            "promised": self.promised.tolist(),
            "labels": [[list(own) for own in both] for both in self.labels],
            "values": self.values.tolist(),
        }

    def __repr__(self) -> str:
        return f"<Pairs of {self.a} and {self.b}: {tuple(self.values.shape)}>"


def pairs(
    explanation: Explanation, a: str | None = None, b: str | None = None, steps: int = 8
) -> Pairs:
    """See `Explanation.pairs`."""
    names = explanation.modalities
    if a is None and b is None and len(names) == 2:
        a, b = names
    if a is None or b is None or a == b:
        raise MethodError(
            f"pairs are of tokens of two modalities: name two of {', '.join(map(repr, names))}."
        )
    for name in (a, b):
        explanation.relevance[name]  # an unknown one is answered with the known
    kept = kept_of(explanation)
    with torch.inference_mode(False), sdpa_kernel(SDPBackend.MATH):  # derivatives of derivatives
        runs = _Runs(kept, explanation, a, b)
        values = torch.stack([runs.values(sample, steps) for sample in range(len(kept.views))])
        promised = runs.promised()
    labels = tuple(
        (tuple(explanation.tokens(a)[sample]), tuple(explanation.tokens(b)[sample]))
        for sample in range(len(values))
    )
    return Pairs(a, b, values, labels, kept.resolved.scores, promised, steps)


class _Runs:
    """Runs of one model with a share of the tokens of each of two modalities."""

    def __init__(self, kept: Kept, explanation: Explanation, a: str, b: str) -> None:
        self.kept, self.program = kept, kept.program
        asked = explanation.asked
        self.function = asked.target if asked is not None and callable(asked.target) else None
        of = {m.name: m for m in self.program.modalities}
        self.a, self.b = of[a], of[b]
        flow = follow_tokens(kept.captured, kept.model, kept.inputs, keep_tags=True)
        self.sites: list[BirthSite] = birth_sites(self.program, flow)
        self.count = len(self.program.flow.book)
        self.whole = [value.detach() for value in self._run(1.0, 1.0).births]

    def values(self, sample: int, steps: int) -> Tensor:
        """(tokens of a, tokens of b) of one sample."""
        at, weights = np.polynomial.legendre.leggauss(steps)
        points = list(zip(((at + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))
        rows, columns = self._tokens(self.a, sample), self._tokens(self.b, sample)
        total = torch.zeros(rows.shape[1], columns.shape[1])
        for alpha, of_a in points:
            for beta, of_b in points:
                total = total + of_a * of_b * self._at(alpha, beta, sample, rows, columns)
        return total

    def promised(self) -> Tensor:
        """s(a, b) - s(0, b) - s(a, 0) + s(0, 0)."""
        ends = [
            sign * self.kept.resolved.value(self._run(alpha, beta).outputs).nan_to_num()
            for alpha, beta, sign in ((1, 1, 1), (0, 1, -1), (1, 0, -1), (0, 0, 1))
        ]
        return torch.stack(ends).sum(0).detach()

    def _at(self, alpha: float, beta: float, sample: int, rows: Tensor, columns: Tensor) -> Tensor:
        """a_i times the mixed second derivative at a point, times b_j."""
        run = self._run(alpha, beta)
        first = self._gradients(run, sample)
        by_token = self._summed(first)
        found = torch.zeros(rows.shape[1], columns.shape[1])
        for i, tokens in enumerate(rows.T):
            chosen = by_token[tokens[tokens >= 0]].sum()
            if not chosen.requires_grad:
                continue
            second = torch.autograd.grad(chosen, run.births, retain_graph=True, allow_unused=True)
            of_b = self._summed(second).detach()
            found[i] = torch.where(columns >= 0, of_b[columns.clamp(min=0)], 0).sum(0)
        return found

    def _gradients(self, run: Run, sample: int) -> tuple[Tensor | None, ...]:
        """The first derivatives of one sample's score, which have derivatives."""
        if self.function is not None:
            output = self.kept.captured.output.rebuild(list(run.outputs))
            leaves, seeds = [torch.as_tensor(self.function(output)).reshape(-1)[sample]], None
        else:
            leaves, seeds = self.kept.resolved.seeds(run.outputs, sample)
        if not any(leaf.requires_grad for leaf in leaves):
            raise NoGradientError(
                "the score lets no gradient reach the tokens, so it has no pairs."
            )
        return torch.autograd.grad(leaves, run.births, seeds, create_graph=True, allow_unused=True)

    def _summed(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """(tokens,) the tokens' values at birth times gradients."""
        total = torch.zeros(self.count)
        for site, value, gradient in zip(self.sites, self.whole, gradients, strict=True):
            if gradient is not None:
                born = BornTokens(site.tokens, value, None)
                total = total + born.summed(value * gradient, self.count).cpu()
        return total

    def _run(self, alpha: float, beta: float) -> Run:
        share = torch.ones(self.count)
        for modality, part in ((self.a, alpha), (self.b, beta)):
            share[modality.every[modality.every >= 0]] = part
        kept = self.kept
        return forward(
            kept.captured, kept.model, kept.inputs, self.program, births=self.sites, share=share
        )

    def _tokens(self, modality: Modality, sample: int) -> Tensor:
        """(tables, positions) the tokens of a sample at each position."""
        view = self.kept.views[sample]
        tables = (modality.tokens, *modality.more)
        return torch.stack([t[samples_of(self.program, t, [view])[0]] for t in tables])
