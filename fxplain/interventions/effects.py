"""Effects: the scores of a model under cuts, beside those without."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import checked, whole
from fxplain.explanation.target import plain_target
from fxplain.interventions.cut import Cut
from fxplain.presentation import Presentable
from fxplain.written import json_text, written

__all__ = ["Effects"]

FORMAT = "fxplain-effects-1"
"""What the plain data calls itself; the number rises when a reader of the old one would fail."""


@dataclass(frozen=True, eq=False)
class Effects(Presentable):
    """What cuts do to a model's scores.

    Attributes
    ----------
    model
        The model's class name.
    cuts
        What was cut, in the order given.
    names
        What each is called.
    target
        What was scored, one entry per sample.
    baseline
        (batch,) the scores without any cut.
    scores
        (cuts, batch) the scores under each.
    output
        The model's output without any cut.
    outputs
        Its output under each, where they were asked for (``outputs=True``).
    estimated
        Whether the scores are estimates to first order (``estimate=True``).
    """

    model: str
    cuts: tuple[Cut, ...]
    names: tuple[str, ...]
    target: tuple[Any, ...]
    baseline: Tensor
    scores: Tensor
    output: Any = field(repr=False)
    outputs: tuple[Any, ...] | None = field(default=None, repr=False)
    estimated: bool = False

    @property
    def effects(self) -> Tensor:
        """(cuts, batch) the scores under each cut less those without: what the cut did."""
        return self.scores - self.baseline

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, name: str) -> Tensor:
        """(batch,) the scores under the cut of a name."""
        if name not in self.names:
            raise KeyError(f"there is no cut {name!r}; there are: {', '.join(self.names[:8])}")
        return self.scores[self.names.index(name)]

    @checked(k=whole(1))
    def strongest(self, k: int = 10) -> list[tuple[str, float]]:
        """The names of the k cuts with the largest effects (by size, mean over samples), with them."""
        means = self.effects.double().mean(1)
        order = means.abs().nan_to_num(torch.inf).argsort(descending=True, stable=True)[:k]
        return [(self.names[i], float(means[i])) for i in order.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """Everything but outputs as plain data, of the format that ``docs/json.md`` describes."""
        return {
            "format": FORMAT,
            "model": self.model,
            "target": [plain_target(target) for target in self.target],
            "baseline": self.baseline.tolist(),
            "estimated": self.estimated,
            "cuts": [
                {"name": name, "cut": " and ".join(map(str, cut.parts)), "scores": scores}
                for name, cut, scores in zip(
                    self.names, self.cuts, self.scores.tolist(), strict=True
                )
            ],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """`to_dict` as JSON; written to `path` where one is given."""
        return written(json_text(self.to_dict(), indent=1) + "\n", path)

    def __repr__(self) -> str:
        return f"<Effects of {len(self.cuts)} cuts of {self.model}>"
