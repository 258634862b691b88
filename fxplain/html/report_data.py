"""The data of a page: explanations and graphs as plain values that JSON can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import InputError
from fxplain.explanation import Explanation, Special, Units, read_places
from fxplain.explanation.shown import SPECIAL, shown
from fxplain.html.inputs import InputView, input_views
from fxplain.html.matrices import MATRIX_BYTES, attention_maps, kept_matrices
from fxplain.html.numbers import PackedMatrix, pack_vector
from fxplain.html.outputs import ClassNames, explained_text, top_classes
from fxplain.methods import method_named
from fxplain.program import AttentionGraph
from fxplain.reports.headline import headline, notes
from fxplain.reports.lanes import lay_out

__all__ = ["Extras", "explanation_data", "graph_data", "graph_with_maps", "method_data", "titles"]


@dataclass(frozen=True)
class Extras:
    """What a page can show beside what explanations hold.

    Attributes
    ----------
    class_names
        Names of the output's classes.
    pictures
        By modality, a picture per sample that features or boxes were cut from.
    attention
        `fxplain.attention_weights` of the same inputs, for the map of each node; where it is None, the
        explanation is asked for those that fit half of `matrix_bytes`.
    matrix_bytes
        Bytes that matrices may take.
    units, special
        How texts are put together at first, and whether special tokens are shown.
    """

    class_names: ClassNames | None = None
    pictures: Mapping[str, Any] = field(default_factory=dict)
    attention: Mapping[str, Tensor] | None = None
    matrix_bytes: int = MATRIX_BYTES
    units: Units = "word"
    special: Special = "show"

    def check(self, modalities: Sequence[str]) -> None:
        """Refuse pictures of unknown modalities.

        Raises
        ------
        InputError
            With the known ones.
        """
        for name in self.pictures:
            if name not in modalities:
                known = ", ".join(map(repr, modalities))
                raise InputError(
                    f"pictures[{name!r}]: there is no such modality; there are: {known}."
                )


def explanations_in(result: Explanation | Sequence[Explanation]) -> Sequence[Explanation]:
    """What is given as an explanation, or as several.

    Raises
    ------
    InputError
        When it is neither.
    """
    if isinstance(result, Explanation):
        return (result,)
    given = tuple(result) if isinstance(result, (list, tuple)) else ()
    if not given or not all(isinstance(each, Explanation) for each in given):
        kinds = sorted({type(each).__name__ for each in given if not isinstance(each, Explanation)})
        of = f" of {' and '.join(kinds)}" if kinds else ""
        raise InputError(
            f"a report shows an AttentionGraph, an Explanation, a list of Explanations or a "
            f"Generation, not a {type(result).__name__}{of}."
        )
    return given


def graph_data(graph: AttentionGraph) -> dict[str, Any]:
    """An attention graph with the place of every node in its drawing."""
    data = graph.to_dict()
    data["drawing"] = asdict(lay_out(graph))
    return data


def graph_with_maps(explanation: Explanation, extras: Extras, limit: int) -> dict[str, Any]:
    """An explanation's graph, with the map of each node where that fits.

    Parameters
    ----------
    limit
        Bytes of `extras.matrix_bytes` that are not yet taken.
    """
    most = limit if extras.attention is not None else min(limit, extras.matrix_bytes // 2)
    found = attention_maps(explanation, extras.attention, most)
    graph = graph_data(explanation.graph)
    for node, maps, missing in zip(graph["nodes"], found.maps, found.missing, strict=True):
        node |= {"maps": maps, "missing": missing}
    return graph


def explanation_data(explanations: Sequence[Explanation], extras: Extras) -> dict[str, Any]:
    """Explanations of one input as the page's data.

    Raises
    ------
    InputError
        When they are of different inputs, or an extra names an unknown modality.
    """
    first = explanations[0]
    _check_same_input(explanations)
    extras.check(first.modalities)
    kept = kept_matrices(explanations, extras.matrix_bytes)
    views = input_views(first, extras.pictures, extras.units)
    return {
        "graph": graph_with_maps(first, extras, extras.matrix_bytes - kept.size),
        "modalities": [_modality(first, view) for view in views],
        "samples": [
            [
                view.of_sample(
                    first.tokens(view.name)[sample],
                    sample,
                    first.special_in(view.name, sample) if view.name in first.layouts else None,
                )
                for view in views
            ]
            for sample in range(first.batch_size)
        ],
        "explanations": [
            _of_method(explanation, name, which, kept.matrices, extras)
            for which, (explanation, name) in enumerate(
                zip(explanations, titles(explanations), strict=True)
            )
        ],
        "leftOut": kept.left_out,
        "units": extras.units if isinstance(extras.units, str) else "parts",
        "special": extras.special,
    }


def _check_same_input(explanations: Sequence[Explanation]) -> None:
    first = explanations[0]
    sizes = [(name, tuple(r.shape)) for name, r in first.relevance.items()]
    for other in explanations[1:]:
        same = sizes == [(name, tuple(r.shape)) for name, r in other.relevance.items()]
        common = first.inputs.keys() & other.inputs.keys()
        if not same or not all(_equal(first.inputs[k], other.inputs[k]) for k in common):
            raise InputError(
                f"one report shows one input by several methods or targets, but {first!r} and "
                f"{other!r} are of different inputs: write a report for each, or put them "
                f"side by side with fxplain.compare."
            )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())


def _modality(explanation: Explanation, view: InputView) -> dict[str, Any]:
    special = explanation.special.get(view.name, {})
    return {
        "name": view.name,
        "kind": view.kind,
        "count": explanation.relevance[view.name].shape[1],
        "grid": list(view.grid),
        "places": view.places or None,
        "tiles": view.tiles,
        "special": {str(place): name for place, name in special.items()},
        "seconds": explanation.seconds.get(view.name),
    }


def titles(explanations: Sequence[Explanation]) -> list[str]:
    """A name for each explanation: its method, and what else tells it from the others."""
    titles = [e.method for e in explanations]
    if len(set(titles)) < len(titles):
        told = [_changed_options(e) for e in explanations]
        shared = set[str](told[0]).intersection(*told)
        own = [[option for option in options if option not in shared] for options in told]
        titles = [" ".join([e.method, *o]) for e, o in zip(explanations, own, strict=True)]
    if len({repr(e.target) for e in explanations}) > 1:
        targets = [" / ".join(dict.fromkeys(_target_names(e))) for e in explanations]
        alike = len(set(titles)) == 1
        pairs = zip(titles, targets, strict=True)
        titles = [target if alike else f"{title}: {target}" for title, target in pairs]
    return [
        title if titles.count(title) == 1 else f"{title} ({titles[: i + 1].count(title)})"
        for i, title in enumerate(titles)
    ]


def _target_names(explanation: Explanation) -> Sequence[str]:
    return explanation.target_names or [str(target) for target in explanation.target]


def _changed_options(explanation: Explanation) -> list[str]:
    method = method_named(explanation.method, explanation.options)
    known = method.options if method else {}
    return [
        f"{name}={value}"
        for name, value in explanation.options.items()
        if name not in known or known[name].default != value
    ]


def method_data(explanation: Explanation) -> dict[str, Any]:
    """What the page says of a method."""
    method = method_named(explanation.method, explanation.options)
    return {
        "method": explanation.method,
        "about": method.about if method else "",
        "source": method.source if method else "",
        "options": _changed_options(explanation),
        "chosen": explanation.chosen,
    }


def _of_method(
    explanation: Explanation,
    title: str,
    which: int,
    matrices: Mapping[tuple[int, int], dict[str, PackedMatrix]],
    extras: Extras,
) -> dict[str, Any]:
    class_names = extras.class_names or explanation.class_name
    return {
        **method_data(explanation),
        "title": title,
        "hasMatrices": explanation.engine != "tokens",
        "samples": [
            {
                "target": explained_text(explanation, sample, class_names),
                "score": float(explanation.scores[sample]),
                "readout": explanation.readout[sample],
                "read": [
                    sorted(read_places(explanation.readout[sample], name))
                    for name in explanation.modalities
                ],
                "apart": [explanation.apart(name, sample) for name in explanation.modalities],
                "identity": [
                    _identity(explanation, name, sample) for name in explanation.modalities
                ],
                "headlines": {
                    special: headline(explanation, sample, class_names, extras.units, special)
                    for special in SPECIAL
                },
                "sinks": _sinks(explanation, sample),
                "notes": list(notes(explanation, sample)),
                "classes": top_classes(explanation, sample, class_names),
                "relevance": [pack_vector(r[sample]) for r in explanation.relevance.values()],
                "errors": [pack_vector(r[sample]) for r in (explanation.error or {}).values()],
                "matrices": matrices.get((which, sample), {}),
            }
            for sample in range(explanation.batch_size)
        ],
    }


def _sinks(explanation: Explanation, sample: int) -> list[list[int]]:
    """By modality, the places of words that are left out with the special tokens."""
    special = {e.own for e in shown(explanation, sample) if e.special}
    hidden = [entry for entry in shown(explanation, sample, special="hide") if entry.special]
    return [
        [
            place
            for entry in hidden
            if entry.modality == name and entry.own not in special
            for place in entry.tokens
        ]
        for name in explanation.modalities
    ]


def _identity(explanation: Explanation, name: str, sample: int) -> str | None:
    """The share of the identity that each token carries, where that is not all of one token's."""
    beyond = explanation.beyond_identity()[name][sample]
    own = explanation.relevance[name][sample] - beyond
    own[explanation.apart(name, sample)] = 0
    return pack_vector(own) if bool(own.any()) else None
