"""The page: data, styles and scripts in one file that needs nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
from torch import Tensor

from fxplain.arguments import MAPPING, PATH, YES_NO, Form, checked, one_of, optional, whole
from fxplain.errors import FxplainError, MethodError
from fxplain.evaluation import Evaluation
from fxplain.explanation import SPECIAL, Explanation, Special, Units
from fxplain.generation import ActivationMaps, Generation
from fxplain.html.activation_maps import activation_maps_page
from fxplain.html.assets_of import asset, digest, package_version
from fxplain.html.evaluation import evaluation_page
from fxplain.html.flow import flow_page
from fxplain.html.generation_data import generation_data
from fxplain.html.matrices import MATRIX_BYTES
from fxplain.html.outputs import ClassNames
from fxplain.html.printed import printed_page
from fxplain.html.report_data import Extras, explanation_data, explanations_in, graph_data
from fxplain.html.summary import sample_summaries, text_summaries
from fxplain.inside import Flow
from fxplain.presentation import KIND_COLOURS, Presentable, text_colour
from fxplain.program import AttentionGraph
from fxplain.reports.headline import tells_for_from_against
from fxplain.written import written

__all__ = ["to_html", "to_notebook"]

NOTEBOOK_BYTES = 120_000
"""Bytes of matrices in a notebook's cell, which is saved with the notebook."""

SCRIPTS = (
    "numbers", "colours", "elements", "state", "explained", "written", "words", "canvas", "grid",
    "player", "strip", "boxes", "inputs", "ranking", "matrix", "relevancies", "outputs", "node",
    "graph", "samples", "page",
)  # fmt: skip
"""The page's own scripts, each after those that it uses."""


_NAMES_OF_CLASSES = Form(
    "a list of names, a mapping of them by index, or a function of the index",
    lambda value: callable(value) or isinstance(value, (Mapping, list, tuple)),
)


@checked(
    path=optional(PATH),
    class_names=optional(_NAMES_OF_CLASSES),
    pictures=optional(MAPPING),
    attention=optional(MAPPING),
    matrix_bytes=whole(0),
    signed=YES_NO,
)
def to_html(
    result: AttentionGraph
    | Explanation
    | Generation
    | Flow
    | Evaluation
    | ActivationMaps
    | Presentable
    | Sequence[Explanation],
    path: str | Path | None = None,
    *,
    class_names: ClassNames | None = None,
    pictures: Mapping[str, Any] | None = None,
    attention: Mapping[str, Tensor] | None = None,
    matrix_bytes: int = MATRIX_BYTES,
    units: Units = "word",
    special: Special = "show",
    signed: bool = True,
) -> str:
    """A result as one self-contained HTML page: no network, opens from disk.

    Parameters
    ----------
    result
        What `fxplain.explain` or `fxplain.inspect` returned, or explanations of one input by several
        methods (or of several targets), between which the page switches; a Generation; or a Flow, an
        Evaluation or ActivationMaps, to which nothing of what follows applies, as to any other result
        (a Verification, a Circuit), whose page has what `print` shows.
    path
        Where to write the page, if anywhere.
    class_names
        Names of the output's classes: a sequence, a mapping from index (a config's ``id2label``), or
        a function of the index.
    pictures
        By modality, one picture per sample, (height, width) or (height, width, 3), for features and
        boxes that were cut from it. Images that the model itself is given are shown anyway.
    attention
        What `fxplain.attention_weights` returned for the same inputs, for the map of each node. Without
        it the model runs once more for the maps that fit half of `matrix_bytes`; ``{}`` for none.
    matrix_bytes
        Bytes that matrices and maps may take. Larger ones are rounded to 8 bits, then left out; the
        page says so.
    units, special
        How texts are put together at first ("word", "sentence", or parts of the text), and whether
        special tokens are left out at first ("hide"): as `Explanation.top` takes them.
    signed
        Whether an explanation alone that cannot tell for from against has its `Explanation.signed`
        beside it, to switch to: one forward and one backward more. A loaded one has none.

    Returns
    -------
    str
        The page.

    Raises
    ------
    InputError
        When explanations are of different inputs, or pictures do not fit them.
    OSError
        When the page cannot be written.
    """
    if isinstance(result, Flow):
        return written(flow_page(result), path)
    if isinstance(result, Evaluation):
        return written(evaluation_page(result), path)
    if isinstance(result, ActivationMaps):
        return written(activation_maps_page(result), path)
    if isinstance(result, Presentable) and not isinstance(result, _WITH_PICTURES):
        return written(printed_page(result), path)
    one_of(SPECIAL).raising(MethodError).check("special", special)
    extras = Extras(class_names, pictures or {}, attention, matrix_bytes, units, special)
    page = _page(_with_companion(result) if signed else result, extras)
    return written(page, path)


_WITH_PICTURES = (AttentionGraph, Explanation, Generation)


def _with_companion(result: Any) -> Any:
    """An explanation without signs with one that has them, where the model can be asked for it."""
    if isinstance(result, (AttentionGraph, Generation)):
        return result
    alone, *others = explanations_in(result)
    if others or alone.asked is None or tells_for_from_against(alone):
        return result
    try:
        return [alone, alone.signed()]
    except FxplainError:  # no gradient reaches the tokens, or the model has changed
        return result


def to_notebook(result: Any) -> str:
    """A result as a frame for a notebook's cell, apart from the notebook's own page.

    Of results that have no page, what `print` shows.
    """
    if not isinstance(result, _WITH_PICTURES):
        return f"<pre>{html.escape(str(result))}</pre>"
    page = _page(result, Extras(matrix_bytes=NOTEBOOK_BYTES))
    graph = result if isinstance(result, AttentionGraph) else result.graph
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" '
        f'title="{_kind(result)} of {html.escape(graph.model)}" loading="lazy" '
        f'style="width: 100%; height: 640px; border: 1px solid #8884; border-radius: 8px"></iframe>'
    )


def _page(
    result: AttentionGraph | Explanation | Generation | Sequence[Explanation], extras: Extras
) -> str:
    summaries: Sequence[Any] = ()
    if isinstance(result, AttentionGraph):
        data, graph = {"graph": graph_data(result)}, result
    elif isinstance(result, Generation):
        data, graph = generation_data(result, extras), result.graph
        summaries = text_summaries(result)
    else:
        explanations = explanations_in(result)
        data, graph = explanation_data(explanations, extras), explanations[0].graph
        summaries = sample_summaries(
            explanations[0], extras.class_names or explanations[0].class_name
        )
    style, script = _style(), _script()
    provenance = {} if isinstance(result, AttentionGraph) else _provenance(result)
    return _template().render(
        kind=_kind(result),
        parts_of=partial(re.findall, r".[^_.@|]*[_.@|]*"),
        name_parts=re.split(r"(?<=[^A-Z])(?=[A-Z])", graph.model),
        graph=graph,
        summaries=summaries,
        data=_island(data),
        style=style,
        script=script,
        style_hash=digest(style),
        script_hash=digest(script),
        version=package_version(),
        provenance=provenance,
    )


def _provenance(result: Explanation | Generation | Sequence[Explanation]) -> Mapping[str, str]:
    """What a page says of where its numbers come from."""
    if isinstance(result, Generation):
        return result.explanations[0].provenance
    return explanations_in(result)[0].provenance


def _kind(result: AttentionGraph | Explanation | Generation | Sequence[Explanation]) -> str:
    if isinstance(result, AttentionGraph):
        return "Attention graph"
    return "Generation" if isinstance(result, Generation) else "Explanation"


def _island(data: Mapping[str, Any]) -> str:
    """JSON that stays data inside a script element: all but ASCII, and every "<", as escapes."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(asset("page.html.j2"))


@cache
def _style() -> str:
    return asset("page.css") + "\n".join(
        f".mark.{kind} > :not(.halo), .link.{kind} circle {{ fill: {colour}; }}\n"
        f".link.{kind} path {{ stroke: {colour}; }}\n"
        f".writing .{kind} {{ fill: {text_colour(colour)}; }}\n"
        f".kinds .{kind} {{ background: {colour}; color: {text_colour(colour)}; }}"
        for kind, colour in KIND_COLOURS.items()
    )


@cache
def _script() -> str:
    """d3's modules with their licences, and the page's own scripts, in one."""
    packages = [package["name"] for package in json.loads(asset("vendor/packages.json"))]
    licences = dict.fromkeys(asset(f"vendor/{name}.LICENSE").strip() for name in packages)
    parts = [f"/*\n{licence}\n*/" for licence in licences]
    parts += [asset(f"vendor/{name}.js") for name in packages]
    parts.append("const fxplain = {};")
    parts += [asset(f"{name}.js") for name in SCRIPTS]
    return "\n".join(parts)
