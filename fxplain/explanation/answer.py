"""Answer: relevance as it was read, with all that tells people what it is relevance of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fxplain.capture import Capture, ModelInputs, config_of
from fxplain.errors import NonFiniteError
from fxplain.explanation import reading
from fxplain.explanation.asked import Asked
from fxplain.explanation.choosing import Kind, measured_below_chance
from fxplain.explanation.cuts import cut_attention
from fxplain.explanation.detection import graph_of
from fxplain.explanation.enough_steps import INCOMPLETE, TOO_FEW
from fxplain.explanation.explanation import ByModality, Explanation
from fxplain.explanation.labels import known_names
from fxplain.explanation.layouts import layouts_of
from fxplain.explanation.merging import bear_marks, words_of
from fxplain.explanation.naming import class_namer, target_names
from fxplain.explanation.pictures import (
    Picture,
    block_of,
    grid_of,
    input_of,
    patch_rows,
    patch_size,
    pictures_of,
)
from fxplain.explanation.pieces import are_written_together
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.methods import Needs
from fxplain.program import AttentionGraph, Modality, Program

__all__ = ["Answer"]

SEVERAL_LABELS = "multi_label_classification"
"""What a config says of labels that do not compete."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What was asked, what ran, and the scores that came of it."""

    asked: Asked
    bound: ModelInputs
    captured: Capture
    program: Program
    needs: Needs
    conservation: Mapping[str, tuple[float, float]]
    labels: Mapping[str, list[list[str]]]
    resolved: ResolvedTarget
    read: reading.Reading

    @property
    def views(self) -> tuple[reading.View, ...]:
        """One view per sample."""
        return self.read.views

    def explanation(self) -> Explanation:
        """The explanation."""
        question, resolved = self.asked.question, self.resolved
        method, read = question.method.name, self.read
        relevance, promised = read.relevance, read.promised
        biases, beside = reading.biases_of(self.views)
        if beside is not None:
            relevance, left = self._with_biases(relevance, beside)
            promised = resolved.scores - left if question.options["signed"] else None
        empty = _checked(relevance)
        given = {
            name: leaf.detach()
            for name, leaf in zip(self.bound.names, self.bound.leaves, strict=True)
        }
        made = Explanation(
            relevance=ByModality(relevance),
            graph=self._graph(empty),
            method=method,
            target=resolved.description,
            readout=tuple(readout.text for readout in resolved.readouts),
            scores=resolved.scores,
            output=self.captured.output.rebuild(list(self.asked.outputs)),
            compete=getattr(config_of(question.model), "problem_type", None) != SEVERAL_LABELS,
            identity=reading.identity(self.program, self.views, relevance),
            options=question.options,
            chosen=question.why,
            engine=read.engine,
            conservation=self.conservation,
            matrix_of=read.matrix_of or self.asked.matrix,
            promised=promised,
            biases=biases,
            inputs=given,
            named=tuple(known_names(question.names, self.bound, self.program.modalities)),
            asked=self.asked,
            **self._of_tokens(relevance, given),
        )
        named = question.model, question.tokenizer, question.output
        names, namer = target_names(made, *named), class_namer(made, *named)
        return _saying_what_is_missing(replace(made, target_names=names, class_name=namer))

    def _with_biases(
        self, relevance: dict[str, Tensor], beside: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """With biases that act on no token shared by what the target is read from; what is left."""
        shares = reading.without_attention(self.program, self.views)
        beside = beside.to(self.resolved.scores)
        if not shares:
            return relevance, beside
        total = torch.stack([own.sum(1) for own in shares.values()]).sum(0)
        if not bool((total > 0).all()):
            return relevance, beside
        each = (beside / total.to(beside)).unsqueeze(1)
        shared = {name: x + each.to(x) * shares[name].to(x) for name, x in relevance.items()}
        return shared, torch.zeros_like(beside)

    def _of_tokens(
        self, relevance: Mapping[str, Tensor], given: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """What is told of each modality's tokens: labels, special ones, and their pictures."""
        program, modalities = self.program, self.program.modalities
        sizes = {m.name: relevance[m.name].shape[1] for m in modalities}
        pictures = {
            m.name: pictures_of(m.name, sizes[m.name], m.special, m.grid, given) for m in modalities
        }
        blocks = {
            m.name: side
            for m in modalities
            if _is_of_patches(given.get(input_of(m.name)), pictures[m.name])
            and (side := block_of(pictures[m.name], program.merged_places(m)))
        }
        for m in modalities:
            if m.name in blocks:
                pictures[m.name] = pictures_of(
                    m.name, sizes[m.name], m.special, m.grid, given, block=blocks[m.name]
                )
        layouts = {
            m.name: tuple(own[row] for row in reading.samples_of(program, m.tokens, self.views))
            for m in modalities
            if (own := layouts_of(program, m, given, laid=bool(pictures[m.name])))
        }
        labels = {
            m.name: reading.by_view(program, self.views, m, self.labels[m.name]) for m in modalities
        }
        return {
            "labels": labels,
            "word_pieces": {
                m.name: [words_of(row, together=True, alone=m.special) for row in labels[m.name]]
                for m in modalities
                if self._are_words_unmarked(m.name, labels[m.name], given)
            },
            "special": {m.name: m.special for m in modalities},
            "grids": {
                m.name: _grid_of(m, pictures[m.name], layouts.get(m.name)) for m in modalities
            },
            "layouts": layouts,
            "tiled": tuple(name for name, own in pictures.items() if _is_tiled(own)),
            "blocks": blocks,
            "rows": {
                m.name: tuple(reading.samples_of(program, m.tokens, self.views))
                for m in modalities
                if len(m.tokens) == len(self.views)  # else all samples share one row
            },
        }

    def _are_words_unmarked(
        self, name: str, rows: Sequence[Sequence[str]], given: Mapping[str, Tensor]
    ) -> bool:
        """Whether a text's pieces make up words, though in one of the samples none bears a mark."""
        value = given.get(name)
        if value is None or value.is_floating_point() or all(map(bear_marks, rows)):
            return False
        return are_written_together(self.asked.question.tokenizer)

    def _graph(self, empty: Sequence[int]) -> AttentionGraph:
        """The attention graph, with what is to be said of relevance and gradients of this target."""
        question = self.asked.question
        graph = graph_of(question.model, self.captured, self.program)
        told: tuple[str, ...] = ()
        if empty:
            told = (f"nothing was found that the target of {_samples(empty)} draws on",)
        if self.needs.gradient:
            told = (*told, *cut_attention(self.captured, self.program, self.resolved.outputs))

        def kind() -> Kind:
            return Kind.of(self.bound, self.captured, self.program, question.output)

        told = (*told, *measured_below_chance(question.method, question.options, kind))
        return replace(graph, warnings=(*graph.warnings, *told)) if told else graph


def _is_of_patches(value: Tensor | None, pictures: Sequence[Picture]) -> bool:
    """Whether a modality's input is given as rows of patches, whose order is not to be seen in it."""
    return value is not None and patch_size(patch_rows(value, pictures)) is not None


def _grid_of(
    modality: Modality,
    pictures: Sequence[Picture],
    layouts: Sequence[Sequence[Picture]] | None,
) -> tuple[int, ...]:
    """The grid of all samples; () where they have different ones."""
    if layouts is None:
        return grid_of(pictures, modality.grid)
    grids = {grid_of(own, ()) for own in layouts}
    return grids.pop() if len(grids) == 1 else ()


def _is_tiled(pictures: tuple[Picture, ...]) -> bool:
    return bool(pictures) and not (pictures[0].is_frame or pictures[0].is_level)


def _saying_what_is_missing(made: Explanation) -> Explanation:
    """Where relevance falls short of what it promises to add up to, the result says so."""
    share = made.completeness()
    if share is None:
        return made
    off = [f"{float(part):.0%}" for part in share if abs(float(part) - 1) > INCOMPLETE]
    if not off:
        return made
    told = f"the relevance of {made.method} adds up to {', '.join(off)} of what it promises to "
    told += "share out"
    if "steps" in made.options:
        told += (
            f", the score less that of an input of zeros: {made.options['steps']} {TOO_FEW}, "
            f"take more (steps=)"
        )
    return replace(made, graph=replace(made.graph, warnings=(*made.graph.warnings, told)))


def _checked(relevance: Mapping[str, Tensor]) -> list[int]:
    """The samples that have no relevance at all.

    Raises
    ------
    NonFiniteError
        A finite output may have a gradient that is none: the root of 0, a NaN behind a mask.
    """
    finite = torch.stack([torch.isfinite(values).all() for values in relevance.values()]).all()
    some = torch.stack([values.count_nonzero(1) for values in relevance.values()]).sum(0) > 0
    is_finite, *has_some = torch.cat([finite.reshape(1), some]).tolist()  # a device waits once
    if not is_finite:
        raise NonFiniteError(
            "the gradient of the explained output is infinite or NaN somewhere on the way to the "
            "tokens, as that of a root or a norm is at 0: add a small number under it, or explain an "
            "output before it."
        )
    return [sample for sample, own in enumerate(has_some) if not own]


def _samples(places: Sequence[int]) -> str:
    """Samples, by number."""
    return f"sample{'s' * (len(places) > 1)} {', '.join(map(str, places))}"
