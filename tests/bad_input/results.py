"""Doors to results: read, printed, drawn and written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

import fxplain
from fxplain.explanation import Timeline
from fxplain.presentation import Presentable
from tests.bad_input.door import Door, each
from tests.bad_input.given import IDS, explanation, gpt2, measured, seen, text, written
from tests.small_models import words

__all__ = ["circuit", "effects", "graphs", "plots", "reading", "reports"]


@cache
def sources() -> Any:
    return gpt2().generate("the movie was great", max_new_tokens=2).sources("word")


@cache
def lens() -> Any:
    return fxplain.logit_lens(text(), (IDS,), target=1)


def reading() -> Iterator[Door]:
    e = explanation()
    whose = {"modality": ""}
    for method in ("apart", "is_mean_readout", "named_tokens", "on_photos", "placements", "starts"):
        settings = {"modality": "input_ids", "sample": 0}
        yield from each(
            f"Explanation.{method}", getattr(e, method), settings,
            {"modality": "", "sample": "0 -1"},
        )  # fmt: skip
    for method in ("is_text", "mosaic", "pictures", "words", "words_in", "tokens", "units"):
        yield from each(f"Explanation.{method}", getattr(e, method), {}, whose)
    yield from each("Explanation.matrix", e.matrix, {"a": "input_ids", "b": "input_ids"},
                     {"a": "", "b": ""})  # fmt: skip
    yield from each("Explanation.units", e.units, {"modality": "input_ids"}, {
        "units": "PARTS", "beyond_identity": "True",
    })  # fmt: skip
    yield from each("Explanation.top", e.top, {}, {
        "most": "0 huge", "sample": "0 -1", "units": "PARTS", "special": "",
    })  # fmt: skip
    yield from each("Explanation.to_dict", e.to_dict, {}, {"units": "None PARTS", "special": ""})
    yield from each("Explanation.to_frame", e.to_frame, {}, {"units": "PARTS", "special": ""})
    yield from each("Explanation.to_text", e.to_text, {}, {
        "width": "None", "units": "PARTS", "special": "",
    })  # fmt: skip
    yield from each("Explanation.save", e.save, {}, {"path": "text"})
    yield from each("Explanation.to_html", e.to_html, {}, {
        "path": "FILE", "pictures": "None no_dict",
        "class_names": "None list of_itself tuple no_list nested no_dict dict odd_dict function",
        "attention": "None no_dict", "matrix_bytes": "0 huge", "units": "PARTS", "special": "",
        "signed": "True",
    })  # fmt: skip
    yield from each("Explanation.plot", e.plot, {}, {"modality": "None", "sample": "None 0"})
    v = seen()
    yield from each("Explanation.pixels", v.pixels, {"modality": "pixel_values"}, {
        "modality": "", "mode": "", "size": "None", "image": "None 0", "beyond_identity": "True",
    })  # fmt: skip
    yield from each("Explanation.photo_heat", v.photo_heat, {"modality": "pixel_values"}, {
        "modality": "", "sample": "", "image": "", "mode": "", "beyond_identity": "True",
    })  # fmt: skip
    yield from each("Explanation.timeline", v.timeline, {"modality": "pixel_values"}, {
        "modality": "", "seconds": "1.5", "axis": "", "beyond_identity": "True",
    })  # fmt: skip
    when = Timeline(torch.ones(1, 3), torch.arange(4.0))
    yield from each("Timeline.stretch", when.stretch, {}, {"sample": "0 -1", "share": "0 1"})
    yield Door("Explanation.relevance[]", lambda x: e.relevance[x])
    yield Door("load()", fxplain.load)
    yield Door("compare()", fxplain.compare)
    yield Door("compare([e, x])", lambda x: fxplain.compare([e, x]))
    yield from each("compare", fxplain.compare, {"explanations": [e, e]}, {
        "path": "FILE", "names": "None", "units": "PARTS", "special": "",
    })  # fmt: skip
    yield Door("to_html()", fxplain.to_html)
    yield Door("to_html([e, x])", lambda x: fxplain.to_html([e, x]))


def graphs() -> Iterator[Door]:
    graph = explanation().graph
    for method in ("to_dot", "to_graphml", "to_json", "to_mermaid", "to_html"):
        yield from each(f"AttentionGraph.{method}", getattr(graph, method), {}, {"path": "FILE"})
    yield Door("AttentionGraph.from_dict()", fxplain.AttentionGraph.from_dict)
    yield from each("AttentionGraph.to_text", graph.to_text, {}, {"width": "None"})


@cache
def verified() -> fxplain.Verification:
    return fxplain.verify(text(), (IDS,))


@cache
def effects() -> fxplain.Effects:
    return fxplain.intervene(text(), (IDS,), fxplain.Cut.heads(0, 1), 1)


@cache
def circuit() -> fxplain.Circuit:
    corrupted = (words(2, 6, seed=1),)
    return fxplain.circuit(text(), (IDS,), corrupted, metric=1, faithfulness=0.3)


def reports() -> Iterator[Door]:
    """Results as text, pages and data."""
    results = {
        "Effects": effects(), "Circuit": circuit(), "Verification": verified(),
        "Evaluation": measured(), "Sources": sources(), "LogitLens": lens(),
    }  # fmt: skip
    for name, result in results.items():
        yield from each(f"{name}.to_text", result.to_text, {}, {"width": "None"})
        yield from each(f"{name}.to_html", result.to_html, {}, {"path": "FILE"})
        if hasattr(result, "to_json"):
            yield from each(f"{name}.to_json", result.to_json, {}, {"path": "FILE"})
    every = {
        **results, "Explanation": explanation(), "AttentionGraph": explanation().graph,
        "Generation": written(), "Flow": explanation().flow(),
    }  # fmt: skip
    for name, result in every.items():
        for method in ("to_text", "to_html", "plot"):
            if getattr(type(result), method) is not getattr(Presentable, method):
                continue  # its options are said in its signature
            yield Door(
                f"{name}.{method}(nonsense=)",
                lambda x, result=result, method=method: getattr(result, method)(nonsense=x),
            )
    yield from each("Effects.strongest", effects().strongest, {}, {"k": "0 huge"})
    yield from each("Evaluation.by", measured().by, {}, {"label": "tuple"})
    yield from each("Generation.load", fxplain.Generation.load, {}, {"path": ""})
    yield from each("Generation.save", written().save, {}, {"path": "text"})
    yield from each("Explanation.save", explanation().save, {"path": "e"}, {"matrices": "True"})


def plots() -> Iterator[Door]:
    """Pictures."""
    some = {"sample": "0", "ax": "None"}
    settings = {"modality": "input_ids"}
    whose = {"modality": "None", **some}
    e, v = {"explanation": explanation()}, {"explanation": seen()}
    yield from each("plot_text", fxplain.plot_text, {**e, **settings}, {
        "explanation": "", **whose, "units": "PARTS", "special": "",
    })  # fmt: skip
    yield from each("plot_image", fxplain.plot_image, v, {
        "explanation": "", **whose, "interpolation": "",
    })  # fmt: skip
    yield from each("plot_matrix", fxplain.plot_matrix, e, {
        "explanation": "", "a": "None", "b": "None", **some,
    })  # fmt: skip
    yield from each(
        "plot_graph",
        fxplain.plot_graph,
        {"graph": explanation().graph},
        {"graph": "", "ax": "None"},
    )
    yield from each("plot_generation", fxplain.plot_generation, {"generation": written()}, {
        "generation": "", **whose,
    })  # fmt: skip
    yield from each("Explanation.plot", explanation().plot, {}, {"units": "PARTS", "special": ""})
