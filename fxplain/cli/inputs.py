"""Inputs and targets: what was typed, as what an explainer takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import typer

from fxplain.explanation import Explanation, Units
from fxplain.methods import resolve_method, smoothing_methods
from fxplain.pipelines import Explainer, Loaded

__all__ = [
    "as_typed", "parse_options", "parse_points", "parse_regions", "parse_targets", "stand_ins",
    "units_with_regions",
]  # fmt: skip


# ---- targets ------------------------------------------------------------------------------------


def parse_targets(texts: Sequence[str]) -> Any:
    """One target for all samples, or a list with one for each.

    Examples
    --------
    >>> parse_targets(["3"]), parse_targets(["3,7"]), parse_targets(["tabby, tabby cat"])
    (3, (3, 7), 'tabby, tabby cat')
    >>> parse_targets(["1", "positive"]), parse_targets([])
    ([1, 'positive'], None)
    """
    targets = [_target(text) for text in texts]
    return targets if len(targets) > 1 else targets[0] if targets else None


def _target(text: str) -> int | str | tuple[int, ...]:
    if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*", text):
        return text
    numbers = tuple(int(number) for number in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def parse_points(texts: Sequence[str]) -> list[tuple[float, ...]] | None:
    """Places in an image.

    Examples
    --------
    >>> parse_points(["120,80.5"])
    [(120.0, 80.5)]
    """
    try:
        points = [tuple(float(number) for number in text.split(",")) for text in texts]
    except ValueError:
        points = [()]
    if any(len(point) != 2 for point in points):
        raise typer.BadParameter(f"{', '.join(texts)}: give X,Y.", param_hint="--point")
    return points or None


Regions = tuple[int, int] | dict[str, Any]
"""(rows, columns), or parts by name, as `fxplain.Explanation.units` takes them."""


def parse_regions(texts: Sequence[str]) -> Regions:
    """How pictures or recordings are parted.

    Examples
    --------
    >>> parse_regions(["3x2"])
    (3, 2)
    >>> parse_regions(["sun=40,30,170,160", "hat=1:0,0,9.5,9", "hello=0,1.5"])
    {'sun': (40.0, 30.0, 170.0, 160.0), 'hat': (1, (0.0, 0.0, 9.5, 9.0)), 'hello': (0.0, 1.5)}
    """
    grid = re.fullmatch(r"(\d+)x(\d+)", texts[0]) if len(texts) == 1 else None
    if grid:
        return int(grid[1]), int(grid[2])
    made: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.rpartition("=")
        if not separator or name in made:
            again = "it is there twice" if separator else "it has no name"
            raise typer.BadParameter(f"{text!r}: {again}. {_A_REGION}", param_hint="--region")
        made[name] = _region(text, value)
    return made


_A_REGION = "A region is ROWSxCOLUMNS alone, NAME=LEFT,TOP,RIGHT,BOTTOM, or NAME=START,STOP."


def _region(text: str, value: str) -> Any:
    image, separator, box = value.rpartition(":")
    try:
        numbers = tuple(float(number) for number in box.split(","))
        which = int(image) if separator else None
    except ValueError:
        numbers, which = (), None
    if len(numbers) not in (2, 4):
        raise typer.BadParameter(f"{text!r}. {_A_REGION}", param_hint="--region")
    return numbers if which is None else (which, numbers)


def units_with_regions(explanation: Explanation, units: str, regions: Regions) -> Units:
    """Texts cut by `units`, and pictures or recordings by regions, each by its modality's name."""
    seconds = isinstance(regions, dict) and any(map(_is_stretch, regions.values()))
    made: dict[str, Any] = {}
    for name in explanation.modalities:
        fits = _is_recording(explanation, name) if seconds else bool(explanation.pictures(name))
        made[name] = regions if fits else units
    if regions not in made.values():
        what = "no recording" if seconds else "no image"
        raise typer.BadParameter(
            f"{what} was given whose tokens could be put together by it: there are "
            f"{', '.join(explanation.modalities)}.",
            param_hint="--region",
        )
    return made


def _is_stretch(region: tuple[Any, ...]) -> bool:
    return len(region) == 2 and isinstance(region[1], float)


def _is_recording(explanation: Explanation, name: str) -> bool:
    return name in explanation.seconds and not explanation.pictures(name)


def parse_options(method: str, given: Sequence[str]) -> dict[str, Any]:
    """Options of a method from ``NAME=VALUE``; a value has the type of the option's default."""
    options: dict[str, Any] = {}
    of = [text.partition("=")[2] for text in given if text.partition("=")[0] == "of"]
    asked = {"of": of[-1]} if of and method in smoothing_methods() else {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise typer.BadParameter(f"--option {text!r} is not of the form NAME=VALUE.")
        known = resolve_method(method, asked)[0].options.get(name)
        options[name] = value if known is None else _typed(name, value, known.default)
    return options


def _typed(name: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        if value.lower() not in ("true", "false"):
            raise typer.BadParameter(f"--option {name}={value}: it is either true or false.")
        return value.lower() == "true"
    if isinstance(default, int):
        try:
            return int(value)
        except ValueError:
            raise typer.BadParameter(f"--option {name}={value}: it is a whole number.") from None
    if isinstance(default, float):
        try:
            return float(value)
        except ValueError:
            raise typer.BadParameter(f"--option {name}={value}: it is a number.") from None
    return value


# ---- inputs -------------------------------------------------------------------------------------


def stand_ins(explainer: Explainer, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, with a sentence, a grey image and a noisy second for what is missing.

    They are enough to detect a model's attention, which does not depend on what is said and seen.
    """
    missing = [kind for kind in explainer.wants if not given.get(kind)]
    return {**given, **{kind: _STAND_INS[kind](explainer.loaded) for kind in missing}}


def _sentence(loaded: Loaded) -> str:
    mask = getattr(loaded.tokenizer, "mask_token", None)
    return f"A sentence that stands in for any {mask or 'other'}."


def _grey_image(_: Loaded) -> Any:
    return np.full((480, 640, 3), 128, dtype=np.uint8)


def _grey_frames(loaded: Loaded) -> Any:
    return np.full((loaded.frames or 4, 120, 160, 3), 128, dtype=np.uint8)


def _noise(loaded: Loaded) -> Any:
    return np.random.default_rng(0).normal(0, 0.1, loaded.feature_extractor.sampling_rate)


_STAND_INS = {
    "text": _sentence,
    "pair": _sentence,
    "image": _grey_image,
    "video": _grey_frames,
    "audio": _noise,
}


def as_typed(message: str) -> str:
    """An error of an explainer in the words of the command line.

    Examples
    --------
    >>> as_typed("image-classification needs image=, and none is given.")
    'image-classification needs --image, and none is given.'
    >>> as_typed("text='body' names no column of the data.")
    "--text 'body' names no column of the data."
    """
    names = "text|pair|image|video|audio|target|word|threshold"
    message = re.sub(rf"\b({names})=(?=['\"\w])", r"--\1 ", message)
    return re.sub(rf"\b({names})=", r"--\1", message).replace("points=", "--point")
