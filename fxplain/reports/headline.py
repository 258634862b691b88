"""Headline: an explanation in a sentence or two that anybody can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fxplain.explanation import Contrast, Explanation, Special, Units
from fxplain.explanation.on_photos import which
from fxplain.explanation.pictures import names_of
from fxplain.explanation.shown import Shown, shown, visible
from fxplain.explanation.units import REST
from fxplain.reports.shading import percent, signed_percent
from fxplain.views.boxes import boxes_of
from fxplain.views.outputs import ClassNames, name_of, target_text, top_classes
from fxplain.written import rounded

__all__ = ["drawn", "headline", "method_text", "notes", "probability", "tells_for_from_against"]

LIKELY = 0.5
"""A label that does not compete with others is said where it is likelier than this."""

BESIDE = 0.5
"""A neighbour with this much of the most relevant word's number is quoted with it."""

ROUNDING = 1e-6
"""Beside the largest number, one with less than this is what float32 rounds, and speaks neither way."""

MOST_SPECIAL = 3
"""So many special tokens are named, at most."""

UNHEARD = 0.05
"""Seconds at a recording's end that make no frame of their own, and are neither cut off nor padding."""

CANNOT_TELL = (
    "This method shows what the answer drew on. It cannot show what spoke for it and what against it "
    "(signed=True, input_x_gradient and integrated_gradients can)."
)
UNSIGNED = frozenset({
    "generic", "transformer_attribution", "raw_attention", "rollout", "gradcam", "legrad",
    "value_weighted", "weighted_accumulation", "partial_lrp",
})  # fmt: skip


def tells_for_from_against(explanation: Explanation) -> bool:
    """Whether the method could tell what spoke for the target from what spoke against it."""
    return explanation.method not in UNSIGNED or bool(explanation.options.get("signed"))


def method_text(explanation: Explanation) -> str:
    """The method, with the option that makes it what it is."""
    corrected = explanation.options.get("gradients") == "corrected"
    return explanation.method + (", corrected gradients" if corrected else "")


def headline(
    explanation: Explanation, sample: int = 0, names: ClassNames | None = None,
    units: Units = "word", special: Special = "show",
) -> str:  # fmt: skip
    """What the model says of one sample, and what it drew on most.

    Parameters
    ----------
    names
        What the output's classes are called, where the explanation does not know.
    units, special
        As `Explanation.top` takes them.
    """
    return f"{_said(explanation, sample, names)} {drawn(explanation, sample, units, special)}"


def drawn(
    explanation: Explanation, sample: int = 0, units: Units = "word", special: Special = "show"
) -> str:
    """What a sample's target drew on most; by a signed method, what spoke for it and what against."""
    entries = [
        entry
        for entry in shown(explanation, sample, units, special)
        if not entry.apart and not (entry.special and special == "hide")
    ]
    words = [entry for entry in entries if not entry.special and entry.text != REST]
    quoted = words if any(entry.relevance for entry in words) else entries
    if not any(entry.relevance for entry in quoted):
        return "It drew on nothing that could be measured."
    if any(entry.relevance < 0 for entry in entries):
        return f"{_signed(explanation, quoted, sample)}{_beyond(entries, quoted)}"
    return f"{_unsigned(explanation, entries, quoted, sample)}{_beyond(entries, quoted)}"


def probability(explanation: Explanation, sample: int, names: ClassNames | None) -> float | None:
    """How probable the model finds the explained class, where its outputs are shares of one whole."""
    found = top_classes(explanation, sample, names)
    if found is None or isinstance(explanation.target[sample], Contrast):
        return None
    return next((float(row["share"]) for row in found["rows"] if row["target"]), None)


def _said(explanation: Explanation, sample: int, names: ClassNames | None) -> str:
    target = explanation.target[sample]
    own = explanation.target_names[sample] if explanation.target_names else ""
    name = own or target_text(target, names)
    found = top_classes(explanation, sample, names)
    share = probability(explanation, sample, names)
    if found is None or share is None:
        return f"Explained: {name} ({rounded(float(explanation.scores[sample]), '.4g')})."
    first = found["rows"][0]
    told = name if name.endswith("%") else f"{name} ({percent(share)})"
    if first["target"] if explanation.compete else share > LIKELY:
        return f"The model says {told}."
    if not explanation.compete:
        return f"The model does not say {told}."
    best = first["name"] or _name_of(explanation, first["index"], names)
    return f"Explained: {told}; the model says {best} ({percent(first['share'])})."


def _name_of(explanation: Explanation, number: int, names: ClassNames | None) -> str:
    return name_of(number, names or explanation.class_name) or f"class {number}"


def _signed(explanation: Explanation, entries: Sequence[Shown], sample: int) -> str:
    """Which spoke most for the target, and which most against it."""
    most = max(entries, key=lambda entry: entry.relevance)
    least = min(entries, key=lambda entry: entry.relevance)
    rounding = ROUNDING * max(most.relevance, -least.relevance)
    is_against = least.relevance < -rounding
    against = f"{_named(explanation, least, sample)} most against it" if is_against else ""
    if most.relevance <= rounding:
        kind = "word" if explanation.is_text(most.modality) else "part of it"
        return f"No {kind} spoke for it, and {against}."
    name = _named(explanation, most, sample)
    found = f"{name[:1].upper()}{name[1:]} spoke most for it"
    return f"{found}, and {against}." if against else f"{found}, and nothing against it."


def _unsigned(
    explanation: Explanation, entries: Sequence[Shown], quoted: Sequence[Shown], sample: int
) -> str:
    """What it drew on most; of several inputs, how much on the one that it drew on most."""
    shares = {
        name: sum(entry.share for entry in entries if entry.modality == name)
        for name in explanation.modalities
    }
    own = {name: sum(e.share for e in quoted if e.modality == name) for name in shares}
    first = max(own, key=lambda name: own[name])
    of_first = [entry for entry in quoted if entry.modality == first]
    top = max(of_first, key=lambda entry: entry.relevance)
    found = _quoted(explanation, of_first, top, sample)
    if sum(share > 0 for share in shares.values()) == 1:
        return f"It drew most on {found}."
    called = _called(explanation, first, sample)
    where = found.removesuffix(f" of {called}")
    return f"It drew {percent(shares[first])} on {called}, there most on {where}."


def _beyond(entries: Sequence[Shown], quoted: Sequence[Shown]) -> str:
    """The rest of a text, and special tokens, where they have more than anything quoted."""
    most = max(entry.share for entry in quoted)
    more = [entry for entry in entries if entry.share > most and entry not in quoted]
    rest = [entry for entry in more if entry.text == REST]
    more = [entry for entry in more if entry.text != REST]
    told = f" No part has as much as {_told(rest).replace(REST, 'the rest')}." if rest else ""
    return f"{told}{_beyond_special(more)}"


def _beyond_special(more: Sequence[Shown]) -> str:
    if not more:
        return ""
    alike: dict[tuple[str, str], list[Shown]] = {}
    for entry in sorted(more, key=lambda entry: -entry.share):
        alike.setdefault((entry.modality, entry.text), []).append(entry)
    told = " or ".join(map(_told, list(alike.values())[:MOST_SPECIAL]))
    kind = "special tokens" if more[1:] else "a special token"
    return f" No word or place has as much as {told}, {kind}."


def _told(alike: Sequence[Shown]) -> str:
    """A special token with its share; of several that are written alike, the sum."""
    share = signed_percent(sum(e.share if e.relevance >= 0 else -e.share for e in alike))
    return f"{alike[0].text} ({f'{len(alike)} of them, ' if alike[1:] else ''}{share})"


def _quoted(explanation: Explanation, entries: Sequence[Shown], top: Shown, sample: int) -> str:
    """The most relevant entry, with a word beside it that has nearly as much."""
    if not explanation.is_text(top.modality):
        return _named(explanation, top, sample)
    of_text = [entry for entry in entries if entry.modality == top.modality]
    first = last = of_text.index(top)

    def fits(place: int) -> bool:
        inside = 0 <= place < len(of_text)
        return (
            inside
            and not of_text[place].special
            and (of_text[place].relevance > BESIDE * top.relevance)
        )

    if not top.special and fits(last + 1):
        last += 1
    elif not top.special and fits(first - 1):
        first -= 1
    words = of_text[first : last + 1]
    text = words[0].text + "".join(word.gap + word.text for word in words[1:])
    return f"\u2018{' '.join(text.split())}\u2019"


def _named(explanation: Explanation, entry: Shown, sample: int) -> str:
    """An entry as a part of a sentence."""
    if explanation.is_text(entry.modality):
        return f"\u2018{entry.text}\u2019"
    called = _called(explanation, entry.modality, sample)
    if entry.modality in explanation.named:
        return f"\u2018{entry.text}\u2019"
    if len(entry.tokens) > 1 or entry.text != _own_name(explanation, entry, sample):
        return f"\u2018{entry.text}\u2019 of {called}"
    where = _place_in_picture(explanation, entry, sample)
    if where:
        return f"the {where}" if called == "the images" else f"the {where} of {called}"
    if explanation.seconds.get(entry.modality) and entry.text.endswith(" s"):
        return f"{entry.text} of {called}"
    kind = "token" if boxes_of(explanation, entry.modality) is None else "box"
    return f"{kind} {entry.text} of {entry.modality}"


def _own_name(explanation: Explanation, entry: Shown, sample: int) -> str:
    """What a token is called where nothing else was asked for."""
    (token, *_) = entry.tokens
    return visible(explanation.named_tokens(entry.modality, sample)[token] or str(token))


def _called(explanation: Explanation, name: str, sample: int) -> str:
    """What people call a modality, where it is the only one of its kind; its name elsewhere."""

    def kind(modality: str) -> str:
        if explanation.is_text(modality):
            return "the text"
        pictures = explanation.pictures(modality, sample)
        if pictures:
            return _kind_of_pictures(explanation, modality, sample)
        return "the recording" if modality in explanation.seconds else modality

    own = kind(name)
    return own if [kind(each) for each in explanation.modalities].count(own) == 1 else name


def _kind_of_pictures(explanation: Explanation, modality: str, sample: int) -> str:
    pictures, found = (
        explanation.pictures(modality, sample),
        explanation.on_photos(modality, sample),
    )
    if any(on.frame_number is not None for on in found):
        return "the video"
    if pictures[-1].is_frame and pictures[-1].part:
        return "the video"
    if modality in explanation.seconds or explanation.originals.sounds:
        return "the spectrogram"
    photos = {on.photo for on in found} or {picture.source for picture in pictures}
    return "the images" if len(photos) > 1 else "the image"


def _place_in_picture(explanation: Explanation, entry: Shown, sample: int) -> str:
    """Where in the photo that was given, or else in which of the model's pictures."""
    (token, *_), modality = entry.tokens, entry.modality
    found = explanation.on_photos(modality, sample)
    for on in found:
        if token in on.tokens:
            where, called = _where(on.tokens.index(token), on.grid), which(on, found)
            return f"{where} of {called}" if called else where
    pictures = explanation.pictures(modality, sample)
    for picture, name in zip(pictures, names_of(pictures), strict=True):
        if token in picture.tokens:
            where = _where(picture.tokens.index(token), picture.grid)
            return f"{where} of {name}" if name else where
    return ""


def _where(place: int, grid: tuple[int, int]) -> str:
    down, across = divmod(place, grid[1])
    row = ("upper", "middle", "lower")[3 * down // grid[0]]
    column = ("left", "centre", "right")[3 * across // grid[1]]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def notes(explanation: Explanation, sample: int = 0) -> Iterator[str]:
    """What a reader has to know of the numbers, one plain sentence each."""
    if not tells_for_from_against(explanation):
        yield CANNOT_TELL
    for name in explanation.modalities:
        if explanation.is_mean_readout(name, sample):
            yield (
                f"The answer is read from many tokens of {name} at once, such as their mean: each has "
                f"a share of it from the start, which is left out of what is shown here."
            )
    yield from _heard(explanation, sample)
    for name in filter(explanation.lacks_heat_map, explanation.modalities):
        yield (
            f"There is no heat map of {name}: the samples of this batch have different numbers of "
            f"pictures, or pictures of different layouts, in one row. Explain one sample at a time to "
            f"see where it looked."
        )
    if any(explanation.apart(name, sample) for name in explanation.modalities):
        yield (
            "The token that the answer is read from stands for itself (1): what that token itself "
            "contributes is not measured."
        )
    complete = explanation.completeness()
    if complete is not None:
        yield f"The relevance adds up to {float(complete[sample]):.0%} of what it should explain."


def _heard(explanation: Explanation, sample: int) -> Iterator[str]:
    """What a processor left out of a recording, or put behind it, to make it of a fixed length."""
    given = explanation.originals
    if len(given.sounds) != explanation.batch_size or not given.rate or given.photos:
        return
    long = len(given.sounds[sample]) / given.rate
    for name, heard in explanation.seconds.items():
        if name not in explanation.relevance or abs(long - heard) < UNHEARD:
            continue
        if long > heard:
            did = f"the model was given {heard:.2f} s of it: the processor cut the rest off"
        else:
            did = f"the processor padded it: {name} is of {heard:.2f} s"
        yield f"The recording is {long:.2f} s long, and {did}."
