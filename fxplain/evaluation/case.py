"""A case: what a metric sees, one method's relevance for one batch and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.evaluation.dataset import Batch
from fxplain.evaluation.ranking import number_removed, ranks
from fxplain.evaluation.statistics import seeded
from fxplain.removal import ModalityTokens, Perturbation, Removed

__all__ = ["JOINT", "ORDERS", "USUAL", "Case", "Relevance"]

JOINT = "joint"
"""The modality name for all removable tokens of all modalities, ranked together."""

ORDERS = ("most relevant first", "least relevant first")

USUAL = "probability or logit"
"""The score of the explained class's probability; of what is one number and no class, that number."""

Relevance = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Case:
    """One method's relevance for one batch.

    Attributes
    ----------
    method
        The name of its row.
    relevance
        By modality, (batch, tokens).
    batch
        The samples: inputs by argument name, true classes, masks.
    perturbation
        Runs the model without some tokens.
    again
        The same method and targets on another model, or on other inputs (the same call's arguments
        by name), with a number that tells repeated calls apart.
    toward
        The same method on the same inputs, of other targets, one for each sample.
    steps, score
        The fractions of tokens and the score of perturbation tests that say nothing else.
    seed
        Of everything that is drawn.
    classes, explained
        Of how many classes one is explained (0 where it is no class), and (batch, axes) where it stands
        in each sample's output, the class last.
    of_model, of_batch, own
        What was found before, of the model, by all methods in this batch, and of this case.
    """

    method: str
    relevance: Relevance
    batch: Batch
    perturbation: Perturbation
    again: Callable[[nn.Module, Mapping[str, Any], int], Relevance]
    toward: Callable[[Any], Relevance]
    steps: tuple[float, ...]
    score: str
    seed: int
    classes: int
    explained: Sequence[Sequence[int]]
    of_model: dict[Any, Any]
    of_batch: dict[Any, Any]
    own: dict[Any, Any] = field(default_factory=dict)

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.perturbation.model

    @property
    def together(self) -> tuple[str, ...]:
        """The modalities that are ranked together."""
        return tuple(self.perturbation.removals) or tuple(
            name for name, t in self.perturbation.tokens.items() if t.counted.any()
        )

    def tokens(self, modality: str) -> tuple[ModalityTokens, ...]:
        """The tokens of a modality, or of all that are ranked together."""
        tokens = self.perturbation.tokens
        return tuple(tokens[name] for name in (self.together if modality == JOINT else (modality,)))

    def counted(self, modality: str) -> Tensor:
        """(batch, tokens) which tokens count: not special, not padding, not the readout."""
        return torch.cat([tokens.counted for tokens in self.tokens(modality)], 1)

    def values(self, modality: str, relevance: Relevance | None = None) -> Tensor:
        """(batch, tokens) relevance, of this case or of another of the same samples."""
        found = self.relevance if relevance is None else relevance
        return torch.cat([found[t.name].detach().double().cpu() for t in self.tokens(modality)], 1)

    def random(self, *purpose: object) -> list[torch.Generator]:
        """A generator per sample, the same whatever batch the sample is in."""
        return [seeded(self.seed, *purpose, sample) for sample in self.batch.samples]

    def once(self, key: Any, make: Callable[[], Relevance]) -> Relevance:
        """What `make` returned when this case was first asked for it: modalities share a run."""
        if key not in self.own:
            self.own[key] = make()
        found: Relevance = self.own[key]
        return found

    # -- perturbation -------------------------------------------------------------------------------

    def curve(
        self,
        modality: str,
        order: str,
        steps: Sequence[float] | None = None,
        score: str | None = None,
    ) -> tuple[tuple[float, ...], Tensor]:
        """The score as tokens go.

        Parameters
        ----------
        modality
            A modality's name or "joint".
        order
            One of `ORDERS`.
        steps
            The fractions of the counted tokens that go.
        score
            "accuracy", "probability", "logit", `USUAL` or the name of the user's own.

        Returns
        -------
        tuple
            The steps, and (batch, steps) scores.
        """
        steps = self.steps if steps is None else tuple(steps)
        score = self._score(score)
        self._run(modality, order, steps)
        held = (self._held(step)[self._key(modality, order, step)] for step in steps)
        return steps, torch.stack([scores[score] for scores in held], 1)

    def scores(
        self, modality: str, removed: Tensor, score: str | None = None, *, shared: object = None
    ) -> Tensor:
        """The score without the tokens that are named one by one.

        Parameters
        ----------
        modality
            A modality's name or "joint".
        removed
            (copies, batch, tokens) bool, which tokens go.
        score
            As in `curve`.
        shared
            A name for these removals, where they are the same for all methods: they are run once.

        Returns
        -------
        torch.Tensor
            (copies, batch).
        """
        score = self._score(score)
        held = self.own if shared is None else self.of_batch
        key = ("removed", modality, shared)
        if shared is None or key not in held:
            held[key] = self.perturbation.scores(self._by_modality(modality, removed))
        found: Tensor = held[key][score]
        return found

    def _score(self, score: str | None) -> str:
        """The score that is meant, which this output has."""
        score = score or self.score
        if score == USUAL:
            return "probability" if self.classes else "logit"
        self.perturbation.reader.check(score)
        return score

    def order(self, modality: str) -> Tensor:
        """(batch, tokens) each token's place, the most relevant first; those not counted come last."""
        return ranks(self.values(modality), self.counted(modality), self.random("ties"))

    def _run(self, modality: str, order: str, steps: Sequence[float]) -> None:
        """Have the scores at all steps, those that are missing together."""
        missing = [
            step
            for step in dict.fromkeys(steps)
            if self._key(modality, order, step) not in self._held(step)
        ]
        if not missing:
            return
        found = self.perturbation.scores(self._removed(modality, order, missing))
        for i, step in enumerate(missing):
            key = self._key(modality, order, step)
            self._held(step)[key] = {name: value[i] for name, value in found.items()}

    def _held(self, step: float) -> dict[Any, Any]:
        """With all tokens, and with none, all methods are alike."""
        return self.of_batch if step in (0, 1) else self.own

    @staticmethod
    def _key(modality: str, order: str, step: float) -> tuple[str, ...]:
        if step == 0:
            return ("everything",)
        return (modality, "nothing") if step == 1 else (modality, order, str(step))

    def _removed(self, modality: str, order: str, steps: Sequence[float]) -> Removed:
        counted = self.counted(modality)
        number = counted.sum(1)
        place = self.order(modality)
        masks = []
        for step in steps:
            gone = number_removed(number, step)[:, None]
            if order == ORDERS[0]:
                masks.append(place < gone)
            else:
                masks.append((place >= number[:, None] - gone) & counted)
        return self._by_modality(modality, torch.stack(masks))

    def _by_modality(self, modality: str, masks: Tensor) -> Removed:
        """(copies, batch, tokens) of all tokens of a modality, or of all together, apart."""
        sizes = [tokens.counted.shape[1] for tokens in self.tokens(modality)]
        parts = masks.split(sizes, -1)
        return {t.name: part for t, part in zip(self.tokens(modality), parts, strict=True)}
