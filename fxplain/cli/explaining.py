"""The command ``fxplain explain``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import fxplain
from fxplain.cli.commands import app, opened, say_written, show
from fxplain.cli.given import Given, takes_model
from fxplain.cli.inputs import (
    parse_options,
    parse_points,
    parse_regions,
    parse_targets,
    units_with_regions,
)
from fxplain.cli.options import (
    AsJson,
    Cut,
    HtmlFile,
    MethodName,
    MethodOptions,
    OpenIt,
    OutputName,
    Plot,
    Recompute,
    Regions,
    SpecialTokens,
    Strict,
    Verify,
    known_methods,
    writable,
)
from fxplain.cli.pages import companion, with_matrices, write_page
from fxplain.cli.sources import Checkpoint, Made
from fxplain.cli.terminal import progress, results
from fxplain.explanation import Units
from fxplain.reports import to_rich

__all__ = ["explain"]

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="What to explain: a class index, a label, a word, or an index into the output such "
        "as 3,7 (object query, class; or position, word). Several: one per sample, or of one "
        "sample each by itself. By default what the model predicts.",
        show_default=False,
    ),
]
OneWord = Annotated[
    str | None,
    typer.Option(
        "--word", help="Of token-classification: the word to explain.", show_default=False
    ),
]
EachTarget = Annotated[
    bool,
    typer.Option(
        "--each",
        help="Explain all that the model says by itself: each entity, each detection, start and "
        "end of an answer, each token that it writes.",
    ),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y",
        help="Of mask-generation: a place in the image, in pixels. Several: repeat it.",
        show_default=False,
    ),
]
Split = Annotated[
    bool,
    typer.Option(
        "--split", help="Take the words of --text, parted by spaces, as words that are one each."
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0,
        max=1,
        help="Of object-detection and of several labels with --each: how sure each must be (0.5).",
        show_default=False,
    ),
]
Saved = Annotated[
    Path | None,
    typer.Option(
        "--save",
        help="Write the explanation to a file that fxplain.load reads.",
        callback=writable,
        show_default=False,
    ),
]
SideBySide = Annotated[
    Path | None,
    typer.Option(
        "--side-by-side",
        help="Write a page with several texts, targets or methods side by side, and what differs "
        "between two.",
        callback=writable,
        show_default=False,
    ),
]
OtherMethods = Annotated[
    list[str] | None,
    typer.Option(
        "--also-method",
        help="Another method, for the report of --html to switch to, and the page of "
        "--side-by-side. Several: repeat it.",
        callback=known_methods,
        show_default=False,
    ),
]
OtherModels = Annotated[
    list[str] | None,
    typer.Option(
        "--also-model",
        metavar="MODEL",
        help="Another checkpoint, explained of the same inputs, for the page of --side-by-side.",
        show_default=False,
    ),
]
Stability = Annotated[
    int | None,
    typer.Option(
        "--stability",
        min=1,
        max=10_000,
        metavar="DRAWS",
        help="Explain the same this often with a little noise in the tokens and some heads silent, "
        "and show how relevance and its order move.",
        show_default=False,
    ),
]


@app.command()
@takes_model()
def explain(
    given: Given,
    target: Targets = None,
    word: OneWord = None,
    each: EachTarget = False,
    point: Points = None,
    split: Split = False,
    threshold: Threshold = None,
    method: MethodName = "auto",
    option: MethodOptions = None,
    output: OutputName = None,
    json_: AsJson = False,
    save: Saved = None,
    plot: Plot = None,
    html: HtmlFile = None,
    side_by_side: SideBySide = None,
    open_: OpenIt = False,
    units: Cut = "word",
    region: Regions = None,
    special: SpecialTokens = "show",
    also_method: OtherMethods = None,
    also_model: OtherModels = None,
    verify: Verify = "light",
    strict: Strict = False,
    recompute: Recompute = False,
    stability: Stability = None,
) -> None:
    """Explain a model's output: how much it draws on each word, patch or other token.

    JSON keys: format, method, options, engine, target, target_names, readout and scores (one per
    sample), relevance (modality to samples to {token, relevance}), special, grids, graph (as
    `fxplain inspect --json` prints it); with --stability also stability; docs/json.md describes them.
    With --each, and with several targets of one sample, it is a list.
    """
    files = _Files(save, plot, html, side_by_side)
    files.check(each=each, other_methods=bool(also_method), other_models=bool(also_model))
    raw: dict[str, Any] = {"points": parse_points(point or ())}
    if split:
        raw |= {"text": [words.split() for words in given.text or ()] or None}
    regions = parse_regions(region) if region else None
    source = given.opened(**raw)
    targets = parse_targets(target or ())
    several = isinstance(targets, list) and source.is_one_sample()
    files.check_several(several)
    named = {"output": output, "word": word, "threshold": threshold}
    asked: dict[str, Any] = {"targets" if several else "target": targets}
    asked |= {name: value for name, value in named.items() if value is not None}
    asked |= {"verify": verify, "strict": strict, "recompute": recompute}
    options = parse_options(method, option or ())
    if method in fxplain.unit_methods():
        options = {"units": units, **options}
    again = {**asked, **options, "method": method}
    compared = (given.opened(name, **raw).explained(again, each) for name in also_model or ())
    others = (source.explained({**asked, "method": m}, each) for m in also_method or ())
    explanations = source.explained(again, each)
    cut: Units = units
    if regions and explanations:
        cut = units_with_regions(explanations[0], units, regions)
    made = _Explained(
        explanations,
        source,
        asked,
        {"units": cut, "special": special},
        [*chain(*compared)],
        [*chain(*others)],
    )
    moves = [e.stability(stability, units=units) for e in made.explanations] if stability else []
    made.write(files, output, moves)
    if json_:
        told = made.to_dicts(moves)
        show(told if each or several else told[0], json_)
        return
    made.show(moves)
    if made.explanations:
        say_written({"saved to": save, "drawn in": plot, "reported in": html}, json_)
        say_written({"compared in": side_by_side}, json_)
        opened(html or side_by_side, open_)


# ---- the steps ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """What is to be written."""

    save: Path | None
    plot: Path | None
    html: Path | None
    side_by_side: Path | None

    def check(self, *, each: bool, other_methods: bool, other_models: bool) -> None:
        """Refuse what no file that is asked for has a place for."""
        page = self.html or self.side_by_side
        if each:
            self._one_alone("leave --each out")
        if other_models and not self.side_by_side:
            raise typer.BadParameter(
                "it is for the page of --side-by-side.", param_hint="--also-model"
            )
        if other_methods and not page:
            raise typer.BadParameter(
                "it is for the page of --html or --side-by-side.", param_hint="--also-method"
            )

    def check_several(self, several: bool) -> None:
        """Refuse several targets of one sample where one explanation is written."""
        if several:
            self._one_alone("give one --target")

    def _one_alone(self, instead: str) -> None:
        if self.save or self.plot:
            raise typer.BadParameter(f"--save and --plot take one explanation: {instead}.")


@dataclass(frozen=True)
class _Explained:
    """What was found of a source, beside other models and methods, and how it is cut for displays."""

    explanations: Sequence[fxplain.Explanation]
    source: Made | Checkpoint
    asked: Mapping[str, Any]
    cut: dict[str, Any]
    compared: Sequence[fxplain.Explanation]
    others: Sequence[fxplain.Explanation]

    def write(self, files: _Files, output: str | None, moves: Sequence[Any]) -> None:
        """Write the files that are asked for; on the page each number has how it moves beside it."""
        if not self.explanations:
            return
        first = self.explanations[0]
        if files.save:
            first.save(files.save)
        if files.plot:
            first.plot(**self.cut).savefig(files.plot)
        if files.side_by_side:
            beside = [*self.explanations, *self.compared, *self.others]
            fxplain.compare(beside, files.side_by_side, **self.cut)
        if files.html:
            with progress("writing the report"):
                own = [moved.marked() for moved in moves] or self.explanations
                page = [*own, *self.others]
                if len(page) == 1:
                    page += with_matrices(self.source, first, self.asked)
                write_page(files.html, page, self.source, output, self.cut)

    def to_dicts(self, moves: Sequence[Any]) -> list[dict[str, Any]]:
        """All as plain data, with how each moves."""
        units, special = self.cut["units"], self.cut["special"]
        asked = None if (units, special) == ("word", "show") else units
        told = [explanation.to_dict(asked, special) for explanation in self.explanations]
        for own, moved in zip(told, moves, strict=False):
            own["stability"] = moved.to_dict()
        return told

    def show(self, moves: Sequence[Any]) -> None:
        """Print all."""
        for explanation in self.explanations:
            show(to_rich(explanation, **self.cut), False)
            if beside_it := companion(explanation):
                results().print(Text(beside_it))
        for moved in moves:
            show(to_rich(moved), False)
        if not self.explanations:
            results().print(Text("the model says nothing here that could be explained"))
