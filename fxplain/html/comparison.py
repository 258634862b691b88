"""Comparison: explanations side by side, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch

from fxplain.arguments import NAMES, PATH, checked, optional
from fxplain.errors import InputError
from fxplain.explanation import Explanation, Shown, Special, Units
from fxplain.explanation.beneath import of_sample
from fxplain.explanation.shown import shown, without_padding
from fxplain.explanation.units import written_text
from fxplain.html.assets_of import asset, digest, package_version
from fxplain.html.cut_alike import cut_alike, signed
from fxplain.html.numbers import png_url
from fxplain.html.pictures import Pixels, image_of
from fxplain.html.report_data import explanations_in, titles
from fxplain.presentation import text_colour
from fxplain.reports.headline import headline, method_text, notes
from fxplain.reports.shading import signed_percent
from fxplain.views import View, beyond_scale, is_right_to_left, strongest_shade
from fxplain.written import rounded, written

__all__ = ["compare"]

LEVELS = 10
"""Shades on each side of zero."""

READ = "read"
"""What stands in the place of a share of the token that is read."""

MOST_COLUMNS, MOST_CHANGES, MOST_LETTERS, PICTURE_PIXELS = 6, 10, 32, 60_000

_FOR = ("#fffdf9", "#fee3bd", "#fdbb6d", "#ee8422", "#bd5408", "#7a3205")
_AGAINST = ("#fbfdff", "#cfe3f5", "#91c0e8", "#4a92cf", "#1d65a6", "#0c3c6d")
_FOR_IN_DARK = ("#1d2127", "#4a3016", "#83480f", "#c96a12", "#f59b3f", "#ffe0b3")
_AGAINST_IN_DARK = ("#1d2127", "#173250", "#1c507f", "#2f7ec2", "#72b1ea", "#d2e8ff")
"""As the colours of a report's page are."""


@dataclass(frozen=True)
class Cell:
    """A word and its shade."""

    text: str
    gap: str
    shade: str
    share: str
    number: float
    special: bool = False

    @property
    def told(self) -> str:
        """The number as it is read."""
        return rounded(self.number, ".4g")


@dataclass(frozen=True)
class Part:
    """A modality in a column: its words or its pictures, and its most relevant ones as a table.

    `scale` says how words are shaded, where one is beyond the scale.
    """

    name: str
    direction: str = "ltr"
    words: tuple[Cell, ...] = ()
    pictures: tuple[str, ...] = ()
    ranked: tuple[Cell, ...] = ()
    scale: str = ""


@dataclass(frozen=True)
class Column:
    """One explanation of one sample."""

    name: str
    headline: str
    about: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]


@checked(path=optional(PATH), names=optional(NAMES))
def compare(
    explanations: Explanation | Sequence[Explanation],
    path: str | Path | None = None,
    *,
    names: Sequence[str] | None = None,
    units: Units = "word",
    special: Special = "show",
) -> str:
    """Explanations side by side as one self-contained HTML page, and the difference of two.

    They may be of two methods, two targets, two models or two inputs. Where two are of the same
    text, a third one is shaded by how the words' shares of the relevance differ; words that two
    tokenizers cut differently are put together.

    Parameters
    ----------
    explanations
        At most six; each sample of a batch is a column of its own.
    path
        Where to write the page, if anywhere.
    names
        What the columns are called; by default what tells them apart.
    units, special
        As `Explanation.top` takes them.

    Returns
    -------
    str
        The page.

    Raises
    ------
    InputError
        When there are fewer than two, more than six, or not as many names.
    """
    given = explanations_in(explanations)
    pairs = [(e, sample) for e in given for sample in range(e.batch_size)]
    if not 2 <= len(pairs) <= MOST_COLUMNS:
        raise InputError(
            f"{len(pairs)} explanations are given (each sample is one); a comparison shows two to "
            f"{MOST_COLUMNS}."
        )
    called = list(names) if names is not None else _names(given)
    if len(called) != len(pairs):
        raise InputError(f"{len(called)} names are given for {len(pairs)} explanations.")
    entries = [shown(e, sample, units, special) for e, sample in pairs]
    columns = [
        _column(e, sample, name, own, units, special)
        for (e, sample), name, own in zip(pairs, called, entries, strict=True)
    ]
    page = _template().render(
        columns=columns,
        difference=_difference(_comparable(pairs, entries)) if len(pairs) == 2 else None,
        style=_style(),
        style_hash=digest(_style()),
        version=package_version(),
    )
    return written(page, path)


def _names(explanations: Sequence[Explanation]) -> list[str]:
    """By methods and targets, by models and texts where these differ, and samples by their place."""
    pairs = [(i, sample) for i, e in enumerate(explanations) for sample in range(e.batch_size)]
    models = _told_apart(map(_model, explanations))
    texts = _told_apart(_text(explanations[i], sample) for i, sample in pairs)
    told = [_listed(models[i], text) for (i, _), text in zip(pairs, texts, strict=True)]
    alike = len({(e.method, repr(e.target)) for e in explanations}) == 1
    if alike and all(told) and len(set(told)) == len(told):
        return told
    titled = titles(explanations)
    if alike and not any(told) and len(explanations) == 1:
        titled = [""]
    elif alike and not any(told) and _inputs_differ(explanations):
        titled = [f"input {number + 1}" for number in range(len(explanations))]
    names = [_listed(titled[i], own) for (i, _), own in zip(pairs, told, strict=True)]
    return [
        name if names.count(name) == 1 else _listed(name, f"sample {sample}")
        for name, (_, sample) in zip(names, pairs, strict=True)
    ]


def _listed(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _inputs_differ(explanations: Sequence[Explanation]) -> bool:
    first, *others = explanations
    return any(
        not _same_input(name, first, 0, other, 0)
        for other in others
        for name in {*first.modalities, *other.modalities}
    )


def _told_apart(names: Iterable[str]) -> list[str]:
    """Names where they differ, else nothing."""
    given = list(names)
    return given if len(set(given)) > 1 else [""] * len(given)


def _model(explanation: Explanation) -> str:
    """What a checkpoint is called: the last part of its path, with what tells its weights apart."""
    known = explanation.provenance
    name = Path(known.get("model", "")).name
    return f"{name} ({known.get('weights', '')[:6]})" if name else ""


def _text(explanation: Explanation, sample: int) -> str:
    """How a sample's text begins."""
    texts = [name for name in explanation.modalities if explanation.is_text(name)]
    if not texts:
        return ""
    words = " ".join(written_text(explanation.words_in(texts[0])[sample]).split())
    begun = f"{words[:MOST_LETTERS].rstrip()}\u2026" if words[MOST_LETTERS:] else words
    return f"\u2018{begun}\u2019"


def _column(
    explanation: Explanation, sample: int, name: str, entries: Sequence[Shown], units: Units,
    special: Special,
) -> Column:  # fmt: skip
    parts = tuple(_part(explanation, sample, m, entries, special) for m in explanation.modalities)
    return Column(
        name,
        headline(explanation, sample, explanation.class_name, units, special),
        f"{explanation.graph.model}, method {method_text(explanation)}, score "
        f"{rounded(float(explanation.scores[sample]), '.4g')}",
        parts,
        tuple(notes(explanation, sample)),
        tuple(explanation.provenance.items()),
    )


def _part(
    explanation: Explanation, sample: int, name: str, entries: Sequence[Shown], special: Special
) -> Part:
    own = [e for e in entries if e.modality == name and not (e.special and special == "hide")]
    compared = [0.0 if e.apart else e.relevance for e in own]
    top = strongest_shade(compared)
    beyond = [f"\u201c{own[i].text}\u201d" for i in beyond_scale(compared)]
    cells = [_cell(e, e.relevance / (top or 1.0)) for e in own]
    told = [cell for cell in cells if cell.share != READ and cell.number]
    ranked = tuple(sorted(told, key=lambda cell: -abs(cell.number))[:MOST_CHANGES])
    if explanation.is_text(name):
        backwards = is_right_to_left(entry.text for entry in own)
        words = tuple(cells[: without_padding(own)])
        scale = f"Shaded up to {top:.3g}; beyond that: {', '.join(beyond)}." if beyond else ""
        direction = "rtl" if backwards else "ltr"
        return Part(name, direction, words=words, ranked=ranked, scale=scale)
    pictures = tuple(map(png_url, _heat(explanation, sample, name)))
    return Part(name, pictures=pictures, ranked=ranked)


def _cell(entry: Shown, level: float) -> Cell:
    share = READ if entry.apart else signed_percent(entry.share if level >= 0 else -entry.share)
    shade = "" if entry.apart else _shade(level)
    return Cell(entry.text, entry.gap, shade, share, entry.relevance, entry.special)


def _shade(level: float) -> str:
    """The class of a shade: f0 to f10 for the target, a1 to a10 against it."""
    step = min(LEVELS, round(abs(level) * LEVELS))
    return f"{'a' if level < 0 and step else 'f'}{step}"


def _heat(explanation: Explanation, sample: int, name: str) -> list[Pixels]:
    """Each picture of a modality with its heat map on it."""
    on = explanation.on_photos(name, sample)
    if on:
        return [
            _photo_heat(explanation, sample, name, i) for i in range(min(len(on), MOST_COLUMNS))
        ]
    view = View(explanation, name, sample)
    frames = view.frames()
    values = explanation.beyond_identity()[name][sample].float().cpu()
    top = float(values[view.plain].abs().max()) if view.plain else 0.0
    made = []
    for i, picture in enumerate(view.pictures[:MOST_COLUMNS]):
        levels = values[list(picture.tokens)].reshape(1, 1, *picture.grid) / (top or 1.0)
        most = PICTURE_PIXELS // min(len(view.pictures), MOST_COLUMNS)
        under = image_of(frames[i].float(), most) if i < len(frames) else None
        size = under.shape[:2] if under is not None else tuple(24 * n for n in picture.grid)
        heat = torch.nn.functional.interpolate(levels, size=size)[0, 0].numpy()
        made.append(_blended(under, heat))
    return made


def _photo_heat(explanation: Explanation, sample: int, name: str, number: int) -> Pixels:
    """A photo that was given with the heat map on it."""
    on = explanation.on_photos(name, sample)[number]
    photo = explanation.originals.photos[on.photo]
    height, width = photo.shape[:2]
    scale = min(1.0, (PICTURE_PIXELS / (height * width)) ** 0.5)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    values = explanation.beyond_identity()[name][sample].float().cpu()
    top = float(values[list(on.tokens)].abs().max()) or 1.0
    under = torch.from_numpy(photo.copy()).permute(2, 0, 1).float()[None]
    small = torch.nn.functional.interpolate(under, size=size, mode="area")[0]
    pixels = small.permute(1, 2, 0).round().to(torch.uint8).numpy()
    return _blended(pixels, on.heat(values / top, size, "nearest").numpy())


def _blended(under: Pixels | None, heat: Any) -> Pixels:
    colours = np.where(heat[..., None] < 0, [0x1D, 0x65, 0xA6], [0xEE, 0x84, 0x22])
    strength = 0.8 * np.clip(np.abs(heat), 0, 1)[..., None]
    paper = np.full((*heat.shape, 3), 255.0) if under is None else under.astype(float)
    paper = paper[..., None].repeat(3, -1) if paper.ndim == 2 else paper
    mixed: Pixels = (paper * (1 - strength) + colours * strength).round().astype(np.uint8)
    return mixed


def _comparable(
    pairs: Sequence[tuple[Explanation, int]], entries: Sequence[Sequence[Shown]]
) -> tuple[Sequence[Sequence[Shown]], set[str]]:
    """What is of the same words, or of an input that both were given; and which of it are texts."""
    (one, first), (two, second) = pairs
    texts = {name for name in one.modalities if one.is_text(name)}
    same = {name for name in one.modalities if _same_input(name, one, first, two, second)}
    kept = [
        [
            e if e.tokens in own else replace(e, special=False)
            for e in of_one
            if e.modality in texts | same
        ]
        for of_one, own in zip(entries, (_special(*pair) for pair in pairs), strict=True)
    ]
    return kept, texts


def _special(explanation: Explanation, sample: int) -> set[tuple[int, ...]]:
    """The places of special tokens, and none of words on which attention is parked."""
    texts = filter(explanation.is_text, explanation.modalities)
    words = (word for name in texts for word in explanation.words_in(name)[sample])
    return {word.tokens for word in words if word.special}


def _same_input(name: str, one: Explanation, first: int, two: Explanation, second: int) -> bool:
    before, after = (of_sample(e.inputs.get(name), i) for e, i in ((one, first), (two, second)))
    if before is None or after is None:
        return before is after
    return before.shape == after.shape and bool(torch.equal(before, after))


# ---- the difference -----------------------------------------------------------------------------


def _difference(
    given: tuple[Sequence[Sequence[Shown]], set[str]],
) -> dict[str, Any] | None:
    """How shares change from the first to the second, where both are of the same words."""
    entries, texts = given
    apart = {(e.modality, e.tokens) for own in entries for e in own if e.apart}
    first, second = ([e for e in own if (e.modality, e.tokens) not in apart] for own in entries)
    if {(e.modality, e.tokens, e.text) for e in first} != {
        (e.modality, e.tokens, e.text) for e in second
    }:
        one, two = entries
        first, second = cut_alike(one, two, texts)
    after = {(e.modality, e.tokens, e.text): e for e in second}
    keys = [(e.modality, e.tokens, e.text) for e in first]
    if not keys or set(keys) != after.keys():
        return None
    changes = [signed(after[key]) - signed(e) for key, e in zip(keys, first, strict=True)]
    top = strongest_shade(changes) or 1.0
    words = [
        _cell(replace(e, relevance=change, share=abs(change)), change / top)
        for e, change in zip(first, changes, strict=True)
        if (e.gap or e.text) and e.modality in texts
    ]
    order = sorted(range(len(keys)), key=lambda i: -abs(changes[i]))[:MOST_CHANGES]
    rows = [
        (
            first[i].text
            if first[i].modality in texts
            else f"{first[i].text} of {first[i].modality}",
            signed_percent(signed(first[i])),
            signed_percent(signed(after[keys[i]])),
            _points(changes[i]),
        )
        for i in order
        if changes[i]
    ]
    backwards = is_right_to_left(entry.text for entry in first)
    return {"words": words, "rows": rows, "direction": "rtl" if backwards else "ltr"}


def _points(change: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    size = abs(change) * 100
    told = f"{size:.0f}" if size >= 0.5 else f"{size:.1f}".replace("0.0", "0")
    return ("+" if change > 0 else "\u2212") + told


# ---- the page -----------------------------------------------------------------------------------


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("comparison.html.j2"))


@cache
def _style() -> str:
    light, dark = _shades(_FOR, _AGAINST), _shades(_FOR_IN_DARK, _AGAINST_IN_DARK)
    shades = f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"
    return asset("page.css") + asset("comparison.css") + shades


def _shades(above: Sequence[str], below: Sequence[str]) -> str:
    made = [_rule(f"f{i}", _between(above, i / LEVELS)) for i in range(LEVELS + 1)]
    made += [_rule(f"a{i}", _between(below, i / LEVELS)) for i in range(1, LEVELS + 1)]
    return "\n".join(made)


def _rule(name: str, colour: str) -> str:
    return f".{name} {{ background: {colour}; color: {text_colour(colour)}; }}"


def _between(ramp: Sequence[str], level: float) -> str:
    place = level * (len(ramp) - 1)
    i = min(int(place), len(ramp) - 2)
    low, high = ([int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in (ramp[i], ramp[i + 1]))
    mixed = (round(a + (b - a) * (place - i)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
