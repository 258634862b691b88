"""The data of a generation's page: its texts, and a matrix of outputs by tokens for each modality."""

from __future__ import annotations

from typing import Any

import torch

from fxplain.explanation import Contrast
from fxplain.generation import EARLIER, Generation, Span
from fxplain.html.inputs import InputView, input_views
from fxplain.html.numbers import PackedMatrix, pack_matrix, packed_size
from fxplain.html.outputs import top_classes
from fxplain.html.report_data import Extras, graph_with_maps, method_data
from fxplain.html.words import Unit, cuts_of

__all__ = ["generation_data"]


def generation_data(generation: Generation, extras: Extras) -> dict[str, Any]:
    """A generation as the page's data: modalities are its own, the earlier outputs the last of them.

    Raises
    ------
    InputError
        When an extra names an unknown modality.
    """
    first = generation.explanations[0]
    extras.check(first.modalities)
    by_name = {view.name: view for view in input_views(first, extras.pictures)}
    views = [by_name[generation.columns(name)[0]] for name in generation.modalities]
    matrices, left_out, size = _matrices(generation, extras.matrix_bytes)
    samples = range(generation.batch_size)
    return {
        "graph": graph_with_maps(first, extras, max(0, extras.matrix_bytes - size)),
        "modalities": [
            _modality(generation, name, view)
            for name, view in zip(generation.modalities, views, strict=True)
        ],
        "samples": [
            [
                _of_sample(generation, name, view, sample)
                for name, view in zip(generation.modalities, views, strict=True)
            ]
            for sample in samples
        ],
        "outputs": {
            **method_data(first),
            "score": generation.score.replace("_", " "),
            "samples": [
                {"rows": _rows(generation, sample, extras), "matrices": matrices[sample]}
                for sample in samples
            ],
        },
        "leftOut": left_out,
        "units": "word",
        "special": "show",
    }


def _modality(generation: Generation, name: str, view: InputView) -> dict[str, Any]:
    source, places = generation.columns(name)
    special = generation.explanations[0].special.get(source, {})
    return {
        "name": name,
        "kind": view.kind,
        "count": len(places),
        "grid": list(view.grid),
        "places": view.places or None,
        "tiles": view.tiles,
        "special": {str(k): special[place] for k, place in enumerate(places) if place in special},
        "seconds": generation.explanations[0].seconds.get(source),
    }


def _of_sample(generation: Generation, name: str, view: InputView, sample: int) -> dict[str, Any]:
    """One sample of a modality, of the text the part that is the modality's own."""
    source, places = generation.columns(name)
    data = view.of_sample(generation.labels(name)[sample], sample)
    if "units" in data:
        first = generation.explanations[0]
        own = _own_units(cuts_of(first, source, sample, "word", set(places)), places)
        data["units"] = {"token": own["token"]} | own if name == EARLIER else own
        if name == EARLIER:
            data["units"]["word"] = own["token"]  # each piece is an output of its own
    if source == generation.text_input:
        hidden = set(data.get("padding", ()))
        written = generation.written[sample].tolist() if name == EARLIER else None
        data["padding"] = [
            k
            for k, place in enumerate(places)
            if (place in hidden if written is None else not written[k])
        ]
    return data


def _own_units(units: dict[str, list[Unit]], places: list[int]) -> dict[str, list[Unit]]:
    """The units of a part of a text, by places in that part; words where pieces are no others."""
    numbers = {place: k for k, place in enumerate(places)}
    return {
        name: [
            (text, gap, [numbers[i] for i in tokens], special)
            for text, gap, tokens, special in of_name
        ]
        for name, of_name in {"token": units["word"], **units}.items()
    }


def _rows(generation: Generation, sample: int, extras: Extras) -> list[dict[str, Any]]:
    """What there is to say of each target that a sample has."""
    names = extras.class_names
    if names is None:
        known = [token for token in generation.tokens[sample] if token.label != str(token.id)]
        names = {token.id: token.label for token in known}
    return [
        {
            "kind": _kind(generation, sample, target),
            "places": generation.places(target, sample),
            "target": generation.names[target][sample],
            "score": float(generation.explanations[target].scores[sample]),
            "readout": generation.explanations[target].readout[sample],
            "read": [generation.read(target, sample, name) for name in generation.modalities],
            "classes": top_classes(generation.explanations[target], sample, names),
        }
        for target in _real(generation, sample)
    ]


def _kind(generation: Generation, sample: int, target: int) -> str:
    """What a row is of; of several tokens that no other row has a part of, it is a "word"."""
    asked = generation.targets[target]
    if isinstance(asked, Span):
        own = set(generation.places(target, sample))
        others = (t for t in _real(generation, sample) if t != target)
        shared = any(own & set(generation.places(other, sample)) for other in others)
        return "span" if shared else "word"
    return "contrast" if isinstance(asked, Contrast) else "token"


def _real(generation: Generation, sample: int) -> list[int]:
    targets: list[int] = generation.real[sample].nonzero().flatten().tolist()
    return targets


def _matrices(
    generation: Generation, limit: int
) -> tuple[list[list[PackedMatrix | None]], list[str], int]:
    """By sample and modality, the matrix of its targets; sentences on what is left out; bytes.

    With 16 bits where all fit so, else with 8, and the last samples are left out then.
    """
    names = generation.modalities
    wide = [len(generation.columns(name)[1]) for name in names]
    samples = range(generation.batch_size)
    rows = [_real(generation, sample) for sample in samples]

    def needed(sample: int, bits: int) -> int:
        return sum(packed_size(len(rows[sample]), columns, bits) for columns in wide)

    bits = 16 if sum(needed(sample, 16) for sample in samples) <= limit else 8
    made: list[list[PackedMatrix | None]] = []
    missing = []
    size = 0
    for sample in samples:
        fits = size + needed(sample, bits) <= limit
        size += needed(sample, bits) if fits else 0
        if not fits:
            missing.append(str(sample + 1))
        made.append([
            _packed(generation, name, sample, rows[sample], bits) if fits else None for name in names
        ])  # fmt: skip
    told = (
        f"What the outputs of sample{'s' if missing[1:] else ''} {', '.join(missing)} drew on is left "
        f"out: matrices may take {limit // 1000} KB of this page (matrix_bytes)."
    )
    return made, [told] if missing else [], size


def _packed(
    generation: Generation, name: str, sample: int, targets: list[int], bits: int
) -> PackedMatrix:
    matrix = generation.matrix(name)[sample, targets]
    apart = torch.zeros_like(matrix, dtype=torch.bool)
    for row, target in enumerate(targets):
        apart[row, generation.read(target, sample, name)] = True
    return pack_matrix(matrix, bits, apart)
