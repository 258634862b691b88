"""Generation: a generated text, and what each of its tokens draws on."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fxplain.arguments import TEXT, place_in
from fxplain.errors import ModalityError
from fxplain.explanation import Contrast, Explanation, Units
from fxplain.generation.outputs import Span, places_of
from fxplain.generation.saved import read_generation, write_generation
from fxplain.presentation import Presentable
from fxplain.program import AttentionGraph

if TYPE_CHECKING:
    from fxplain.generation.activation_maps import ActivationMaps
    from fxplain.generation.sources import Sources

__all__ = ["EARLIER", "GeneratedToken", "Generation"]

FORMAT = "fxplain-generation-1"

EARLIER = "earlier outputs"
"""The modality of the generated tokens themselves."""


class GeneratedToken(NamedTuple):
    """A generated token: its id and its label."""

    id: int
    label: str


@dataclass(frozen=True, eq=False)
class Generation(Presentable):
    """What one call of `fxplain.explain_generation` found.

    Attributes
    ----------
    text
        Per sample, what was generated.
    ids
        (batch, tokens) the generated ids, padded to the longest.
    written
        (batch, tokens) which of them were generated: up to the one that ends a text, included.
    targets
        What each explanation explains: the index of a generated token, a `Span`, or a `Contrast`.
    names
        Per target and sample, what it is called; "" where the sample has no such token.
    real
        (batch, targets) whether a sample's text has the target. Where it has not, relevance and
        score are 0.
    explanations
        One per target, of the whole batch.
    score
        What was explained: "logit" or "log_probability".
    text_input
        The argument that holds the generated tokens: "input_ids", or "decoder_input_ids".
    """

    text: tuple[str, ...]
    ids: Tensor = field(repr=False)
    written: Tensor = field(repr=False)
    targets: tuple[Any, ...]
    names: tuple[tuple[str, ...], ...] = field(repr=False)
    real: Tensor = field(repr=False)
    explanations: tuple[Explanation, ...] = field(repr=False)
    score: str
    text_input: str

    @property
    def batch_size(self) -> int:
        """The number of texts."""
        return len(self.ids)

    @property
    def graph(self) -> AttentionGraph:
        """The attention that was detected."""
        return self.explanations[0].graph

    @property
    def tokens(self) -> list[list[GeneratedToken]]:
        """Per sample, the generated tokens."""
        labels = self.labels(EARLIER)
        return [
            [
                GeneratedToken(token, label)
                for token, label, written in zip(ids, own, mask, strict=True)
                if written
            ]
            for ids, own, mask in zip(self.ids.tolist(), labels, self.written.tolist(), strict=True)
        ]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs, and the earlier outputs."""
        return (*self.explanations[0].modalities, EARLIER)

    def matrix(self, modality: str) -> Tensor:
        """How much each target draws on each token of an input, or on each earlier output.

        Parameters
        ----------
        modality
            One of `modalities`: the input that the text is written into has its prompt's tokens
            only (of a decoder those that it starts with), and "earlier outputs" has the rest.

        Returns
        -------
        torch.Tensor
            (batch, targets, tokens). The token that a target is read from, the one before it, has
            the 1 that it starts with.

        Raises
        ------
        ModalityError
            When there is no such modality.
        """
        source, places = self.columns(modality)
        return torch.stack([e.relevance[source] for e in self.explanations], 1)[..., places]

    def row(self, target: int, sample: int, modality: str) -> Tensor:
        """A row of a matrix: (tokens,) how much a target draws on each."""
        source, places = self.columns(modality)
        target, sample = self._placed(target, sample)
        return self.explanations[target].relevance[source][sample, places]

    def matrices(self) -> dict[str, Tensor]:
        """All of them, by modality."""
        return {name: self.matrix(name) for name in self.modalities}

    def labels(self, modality: str) -> list[list[str]]:
        """Per sample, a label for every column of a matrix."""
        source, places = self.columns(modality)
        return [[row[i] for i in places] for row in self.explanations[0].tokens(source)]

    def columns(self, modality: str) -> tuple[str, list[int]]:
        """Where a matrix's columns come from: a modality of the explanations, and places in it."""
        first = self.explanations[0]
        TEXT.raising(ModalityError).check("modality", modality)
        if modality not in self.modalities:
            raise ModalityError(
                f"there is no modality {modality!r}; there are: "
                f"{', '.join(map(repr, self.modalities))}."
            )
        source = self.text_input if modality == EARLIER else modality
        places = range(first.relevance[source].shape[1])
        if source != self.text_input:
            return source, [*places]
        plain = [i for i in places if i not in first.special.get(source, {})]
        own = plain[-self.ids.shape[1] :]
        return source, own if modality == EARLIER else [i for i in places if i not in own]

    def places(self, target: int, sample: int) -> list[int]:
        """The generated tokens of a sample that a target is about: one, or those of a `Span`."""
        target, sample = self._placed(target, sample)
        return places_of(self.targets[target], int(self.written[sample].sum()))

    def read(self, target: int, sample: int, modality: str) -> list[int]:
        """The columns of a matrix that a target is read from: they start from 1, or a share of it."""
        source, places = self.columns(modality)
        target, sample = self._placed(target, sample)
        read = self.explanations[target].starts(source, sample)
        return [column for column, place in enumerate(places) if place in read]

    def _placed(self, target: int, sample: int) -> tuple[int, int]:
        return (
            place_in("target", target, len(self.targets)),
            place_in("sample", sample, self.batch_size),
        )

    def sources(self, units: Units = "sentence", **options: Any) -> Sources:
        """Which parts of the inputs a text rests on: context attribution.

        f(z) = log p - log(1 - p) of the text, where the sources z are kept. By default each source has
        its weight in the sparse linear model of f over random halves z: the beta that minimises
        |f - b - Z beta|^2 / (2 draws) + penalty |beta|_1 (`fxplain.methods.sparse_linear`).

        Parameters
        ----------
        units
            What of the prompt is one source, as `Explanation.units` takes it: "sentence", "passage",
            parts of the prompt by themselves. Parts that are named are all that is asked about.
        **options
            ``sample=0``; ``within=`` a part of the prompt, outside of which nothing is a source;
            ``about=`` a `Span` of the generated tokens, all of them by default; ``method=``, one of
            `fxplain.unit_methods()` with its options (by default "sparse_linear", which is ContextCite)
            or of `fxplain.methods()`, by one forward and one gradient of the same number;
            ``removal=``, by default "drop": sources are cut out of the prompt.

        Returns
        -------
        Sources
            Print it; ``.top(k)``, ``.fall(k)``.

        Raises
        ------
        MethodError
            When the generation was loaded, or the prompt has no such parts.

        References
        ----------
        Cohen-Wang et al., "ContextCite", NeurIPS 2024, arXiv 2409.00729.
        """
        found: Sources = import_module("fxplain.generation.sources").sources_of(
            self, units, **options
        )
        return found

    def activation_maps(self, modality: str | None = None) -> ActivationMaps:
        """Where in an image each written token is activated: token activation maps, without a gradient.

        Of models that read words and an image as one sequence: the logit of each word at every place of
        the image, less what earlier words activate there anyway, smoothed by a rank Gaussian filter:
        max(0, s - a I) with s_i = max(0, logit of the word at place i), I the mean of the maps of
        earlier words, each weighed by its own logit's part before, and a the least-squares share of I.
        They say where the model sees what a word means, not what it wrote the word because of.

        Parameters
        ----------
        modality
            The image's; by default the first input whose tokens lie on a grid.

        Returns
        -------
        ActivationMaps
            ``.map(token, sample=0)`` (rows, columns).

        Raises
        ------
        MethodError
            When the generation was loaded, or words and image are not one sequence.

        References
        ----------
        Li et al., "Token Activation Map", ICCV 2025, arXiv 2506.23270.
        """
        found: ActivationMaps = import_module("fxplain.generation.activation_maps").activation_maps(
            self, modality
        )
        return found

    def save(self, path: str | Path) -> None:
        """Write it to one safetensors file, which `Generation.load` reads."""
        write_generation(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Generation:
        """What `save` wrote.

        Raises
        ------
        LoadError
            When the file is missing, is no saved generation, or is damaged.
        """
        return cls(**read_generation(path))

    def to_dict(self) -> dict[str, Any]:
        """Text, tokens and relevance as plain data (for JSON)."""
        matrices = {name: matrix.tolist() for name, matrix in self.matrices().items()}
        return {
            "format": FORMAT,
            "method": self.explanations[0].method,
            "score": self.score,
            "samples": [
                {
                    "text": self.text[i],
                    "tokens": [token._asdict() for token in self.tokens[i]],
                    "inputs": {name: self.labels(name)[i] for name in self.modalities},
                    "targets": [
                        {
                            "target": _plain(self.targets[t]),
                            "name": self.names[t][i],
                            "score": float(e.scores[i]),
                            "readout": e.readout[i],
                            "relevance": {name: rows[i][t] for name, rows in matrices.items()},
                        }
                        for t, e in enumerate(self.explanations)
                        if self.real[i, t]
                    ],
                }
                for i in range(self.batch_size)
            ],
            "graph": self.graph.to_dict(),
        }

    def __repr__(self) -> str:
        return (
            f"<Generation of {self.graph.model}: {len(self.targets)} targets in "
            f"{self.batch_size} text{'' if self.batch_size == 1 else 's'}>"
        )


def _plain(target: Any) -> Any:
    """An asked target as plain data."""
    if isinstance(target, Span):
        return {"span": [target.start, target.stop]}
    if isinstance(target, Contrast):
        return {"contrast": [target.a, target.b]}
    return target
