"""Contributions: what each head, layer and bias adds straight to the score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fxplain.arguments import checked, place_in, whole
from fxplain.explanation.explain import explain
from fxplain.inside.linear_run import Leaf, LinearRun
from fxplain.inside.reading import kept_of
from fxplain.presentation import Tabled
from fxplain.program import ProgramNode, head_numbers, laid_out

if TYPE_CHECKING:
    from fxplain.explanation import Explanation

__all__ = ["Contribution", "Contributions", "contributions", "direct_contributions"]


@dataclass(frozen=True)
class Contribution:
    """One term of a score.

    Attributes
    ----------
    name
        The attention node, the module whose result is added, the bias's path.
    kind
        "head", "layer" (added to a residual stream, and no head's), "bias", "constant" (what is there
        before any attention: embeddings), or "rest".
    head
        The number of the head.
    values
        (batch,) what it adds to each sample's score.
    """

    name: str
    kind: str
    head: int | None
    values: Tensor = field(repr=False)

    def __str__(self) -> str:
        return self.name if self.head is None else f"{self.name}, head {self.head}"


@dataclass(frozen=True, eq=False)
class Contributions(Tabled):
    r"""The terms that a score is the sum of; printed, a table.

    With attention weights, the statistics of norms and gates held at their values (Ali et al., ICML
    2022; LibraGrad, CVPR 2025), what is added to a residual stream reaches the output linearly:

    .. math:: y = \sum_w \langle w, \partial y / \partial w \rangle
                + \sum_b \langle b, \partial y / \partial b \rangle

    over the additions w and the biases b behind the last of them, the gradient stopping at each w: what
    a layer says to later layers is theirs. An attention's addition is split by head, its own bias apart
    ("direct logit attribution", for any model). What is left, where the output is not linear in these,
    is the "rest".

    Attributes
    ----------
    terms
        In the order of the model.
    scores
        (batch,) what they add up to.
    """

    terms: tuple[Contribution, ...]
    scores: Tensor

    def __iter__(self) -> Iterator[Contribution]:
        return iter(self.terms)

    @property
    def total(self) -> Tensor:
        """(batch,) the sum of the terms, the rest included: the scores."""
        return torch.stack([term.values for term in self.terms]).sum(0)

    @property
    def rest(self) -> Tensor:
        """(batch,) what no term explains."""
        return next(term.values for term in self.terms if term.kind == "rest")

    @checked(k=whole(1))
    def top(self, k: int = 10, *, sample: int = 0) -> list[Contribution]:
        """The k terms that add or take most of one sample's score."""
        sample = place_in("sample", sample, len(self.scores))
        return sorted(self.terms, key=lambda term: -abs(float(term.values[sample])))[:k]

    def table(self) -> list[dict[str, Any]]:
        """A row for each term and sample, as plain data."""
        return [
            {
                "sample": sample,
                "name": term.name,
                "kind": term.kind,
                "head": term.head,
                "contribution": float(term.values[sample]),
            }
            for sample in range(len(self.scores))
            for term in self.terms
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "format": "fxplain-contributions-1",
            "scores": self.scores.tolist(),
            "terms": self.table(),
        }

    def __repr__(self) -> str:
        return f"<Contributions: {len(self.terms)} terms of {len(self.scores)} scores>"


def direct_contributions(
    model: nn.Module,
    inputs: Mapping[str, Any] | Sequence[Any] | Tensor,
    target: Any = None,
    *,
    output: str | None = None,
    **options: Any,
) -> Contributions:
    """What each head, layer and bias adds straight to the score: terms that add up to it.

    Parameters
    ----------
    model, inputs, target, output
        As `fxplain.explain` takes them.
    **options
        ``batch_axis=``, ``tokenizer=``, ``verify=`` as `fxplain.explain` takes them.

    Returns
    -------
    Contributions
        Print it, or use ``.top(k)``, ``.table()``, ``.to_frame()``.

    Raises
    ------
    FxplainError
        Every error that is the caller's to solve, each with its own subclass and message.

    Examples
    --------
    >>> import fxplain, torch
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> score = lambda output: output[:, 0, 0]
    >>> found = fxplain.direct_contributions(model, (torch.randn(3, 4, 8),), score)
    >>> torch.allclose(found.total, found.scores, atol=1e-5)
    True
    """
    return contributions(explain(model, inputs, target, output=output, **options))


def contributions(explanation: Explanation) -> Contributions:
    """See `Explanation.contributions`."""
    kept = kept_of(explanation)
    with torch.inference_mode(False):
        run = LinearRun(kept)
        outputs = run.outputs()
        by_sample = [_terms(run, outputs, sample) for sample in range(len(kept.views))]
    scores = kept.resolved.scores
    names = dict.fromkeys(key for found in by_sample for key in found)
    terms = []
    for name, kind, head in names:
        values = [found.get((name, kind, head), 0.0) for found in by_sample]
        terms.append(Contribution(name, kind, head, scores.new_tensor(values)))
    explained = sum((term.values for term in terms), torch.zeros_like(scores))
    terms.append(Contribution("what is no sum of these", "rest", None, scores - explained))
    return Contributions(tuple(terms), scores)


_Key = tuple[str, str, "int | None"]


def _terms(run: LinearRun, outputs: Sequence[Tensor], sample: int) -> dict[_Key, float]:
    """The terms of one sample's score."""
    leaves, seeds = run.kept.resolved.seeds(outputs, sample)
    pairs = [(leaf, g) for leaf, g in zip(leaves, seeds, strict=True) if leaf.requires_grad]
    found: dict[_Key, float] = {}
    if pairs:
        _add(run, found, [leaf for leaf, _ in pairs], [g for _, g in pairs])
    return found


def _add(
    run: LinearRun,
    found: dict[_Key, float],
    outputs: list[Tensor],
    seeds: list[Tensor],
) -> None:
    """The leaves straight below some values, and what additions to a residual stream consist of."""
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
        outputs, [leaf.value for leaf in run.leaves], seeds, allow_unused=True, retain_graph=True
    )
    for leaf, gradient in zip(run.leaves, gradients, strict=True):
        if gradient is None:
            continue
        if leaf.kind == "write" and leaf.live.requires_grad and run.says_heads(leaf):
            _add(run, found, [leaf.live], [gradient])
        elif isinstance(leaf.kind, int):
            for head, value in _by_head(run, leaf, gradient):
                key = (leaf.name, "head", head)
                found[key] = found.get(key, 0.0) + value
        else:
            kind = "layer" if leaf.kind == "write" else leaf.kind
            value = float((leaf.value.detach() * gradient).sum())
            found[leaf.name, kind, None] = found.get((leaf.name, kind, None), 0.0) + value


def _by_head(run: LinearRun, leaf: Leaf, gradient: Tensor) -> Iterator[tuple[int | None, float]]:
    """An attention's output times its gradient, summed by head."""
    assert isinstance(leaf.kind, int)
    node: ProgramNode = run.kept.program.nodes[leaf.kind]
    products = (leaf.value.detach() * gradient).double().cpu()
    rows, numbers = run.geometry[leaf.kind].rows, head_numbers(node)
    if rows is None or numbers.shape[-1] > 1:  # heads are summed up as they are computed
        yield None, float(products.sum())
        return
    heads = laid_out(node, numbers).reshape(-1)[rows.cpu()].expand(products.shape)
    total = torch.zeros(node.info.heads, dtype=products.dtype)
    total.index_add_(0, heads.flatten(), products.flatten())
    yield from enumerate(total.tolist())
