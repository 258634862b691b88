"""What a user gives: texts, images and recordings, one or a batch, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fxplain.arguments import YES_NO, blaming, number, optional, shown, whole
from fxplain.errors import InputError, LoadError
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.media import (
    is_one_image,
    is_one_recording,
    open_image,
    open_recording,
    pillow,
)
from fxplain.pipelines.messages import conversations_in, written_messages
from fxplain.pipelines.video import Video, is_one_video, open_video

__all__ = ["Given", "gather"]

READERS = {
    "text": "tokenizer",
    "image": "image processor",
    "video": "video processor",
    "audio": "feature extractor",
}


@dataclass(frozen=True)
class Given:
    """Raw inputs, one entry per sample in each kind that is given.

    Attributes
    ----------
    text, pair
        Texts, and the second text that goes with each (a hypothesis, a context).
    image
        RGB PIL images.
    video
        Frames of each.
    audio
        (samples,) each.
    inputs
        Further inputs of the model by argument name, handed on as they are.
    truncation
        Whether a text that is longer than the model takes is cut; None where that is an error.
    room
        How many tokens the model writes behind the text, which a text that is cut leaves room for.
    pad_to
        How many tokens every text is padded to; None for the longest of several.
    words
        The words of each text, where texts are given as words.
    points
        (x, y) of places in the image, in its own pixels.
    seen
        By kind ("image", "video"), how many of them belong to each text, where conversations say so.
    """

    text: list[str] = field(default_factory=list)
    pair: list[str] = field(default_factory=list)
    image: list[Any] = field(default_factory=list)
    video: list[Video] = field(default_factory=list)
    audio: list[Any] = field(default_factory=list)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    truncation: bool | None = None
    room: int = 0
    pad_to: int | None = None
    words: list[list[str]] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    seen: Mapping[str, list[int]] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """What there is of it: a text, images, ..., by name."""
        named = ("text", "image", "video", "audio", "points")
        return [name for name in named if getattr(self, name)]

    def by_text(self, kind: str, values: list[Any]) -> list[Any]:
        """What is seen, in lists for each text where it is known which are whose."""
        if len(self.text) < 2 or kind not in self.seen:
            return values
        left = iter(values)
        return [list(islice(left, count)) for count in self.seen[kind]]


def gather(
    loaded: Loaded,
    *,
    text: Any = None,
    pair: Any = None,
    image: Any = None,
    video: Any = None,
    audio: Any = None,
    inputs: Mapping[str, Any] | None = None,
    truncation: bool | None = None,
    pad_to: int | None = None,
    points: Any = None,
) -> Given:
    """Check and open what was given; a conversation becomes the text of the model's chat template.

    Raises
    ------
    InputError
        When something has the wrong type, or the model has nothing that reads it.
    LoadError
        When a file cannot be read, or the model has no processor at all.
    MissingExtraError
        When what reads the files is not installed.
    """
    seen: dict[str, list[int]] = {}
    text, pair = _listed(text), _listed(pair)
    conversations = conversations_in(text)
    if conversations:
        written = [written_messages(loaded, messages) for messages in conversations]
        text = [own for own, _, _ in written]
        image, seen["image"] = _of_each(image, [images for _, images, _ in written])
        video, seen["video"] = _of_each(video, [videos for _, _, videos in written])
    if image is not None or video is not None:
        pillow()  # without it no image processor could be loaded, either
    if not loaded.reads and not inputs:
        reasons = "".join(f"\n  {failure}" for failure in loaded.failures)
        raise LoadError(
            f"{loaded.name!r} has no tokenizer, image processor or feature extractor that could be "
            f"loaded. Give the model's inputs yourself: fxplain.explain(model, inputs), or on the "
            f"command line MODEL as package.module:factory.{reasons}"
        )
    kinds = {"text": text, "image": image, "video": video, "audio": audio}
    for kind, value in kinds.items():
        if value is not None and kind not in loaded.reads:
            taken = " and ".join(f"{own}=" for own in loaded.reads) or "inputs="
            raise InputError(
                f"{kind} is given, but {loaded.name!r} has no {READERS[kind]}: it is given {taken}."
            )
    rate = getattr(loaded.feature_extractor, "sampling_rate", 16_000)
    words = _words(text)
    if words and pair is not None:
        raise InputError(
            "a text that is given as words has no pair=: give both as they are written."
        )
    return Given(
        text=[" ".join(own) for own in words] or _texts("text", text),
        words=words,
        pair=_texts("pair", pair),
        image=_each(image, is_one_image, open_image),
        video=_each(video, is_one_video, lambda value: open_video(value, loaded.frames)),
        audio=_each(audio, is_one_recording, lambda value: open_recording(value, rate)),
        inputs=_by_name(inputs),
        truncation=_flag(truncation),
        pad_to=_length(pad_to),
        points=_points(points),
        seen={kind: counts for kind, counts in seen.items() if counts},
    )


def _of_each(given: Any, told: list[list[Any]]) -> tuple[Any, list[int]]:
    """What conversations show, and how much of it each; nothing is counted of what is given besides."""
    if given is not None or not any(told):
        return given, []
    return [one for own in told for one in own], [len(own) for own in told]


def _by_name(inputs: Any) -> Mapping[str, Any]:
    if inputs is not None and not isinstance(inputs, Mapping):
        raise InputError(f"inputs is a mapping by argument name, not a {type(inputs).__name__}.")
    return inputs or {}


def _flag(truncation: Any) -> bool | None:
    optional(YES_NO).check("truncation", truncation)
    return None if truncation is None else bool(truncation)


def _length(pad_to: Any) -> int | None:
    optional(whole(1, 1 << 24)).check("pad_to", pad_to)
    return None if pad_to is None else int(pad_to)


def _listed(given: Any) -> Any:
    """A column of a table, or an array, as a list."""
    for listing in ("to_list", "tolist"):
        with blaming("reading the texts"):
            if callable(getattr(given, listing, None)):
                return getattr(given, listing)()
    return given


def _texts(name: str, given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
        raise InputError(f"{name} is a string or a list of strings, not {_type_of(given)}.")
    if given is not None and not texts:
        raise InputError(f"{name} is an empty list: leave it out, or give a text.")
    if any("\ud800" <= letter <= "\udfff" for t in texts if not t.isascii() for letter in t):
        raise InputError(
            f"{name} holds half of a letter, a lone surrogate, which no tokenizer reads: decode its "
            f"bytes anew, with errors='replace'."
        )
    return list(texts)


def _points(points: Any) -> list[tuple[float, float]]:
    """Places in an image: one (x, y), or a list of them."""
    if points is None:
        return []
    try:
        told = points.tolist() if hasattr(points, "tolist") else points
    except Exception:  # noqa: BLE001 - a tensor that holds no numbers, or an object of the user's
        told = None
    several = [told] if _is_point(told) else told
    if not isinstance(several, (list, tuple)) or not several or not all(map(_is_point, several)):
        raise InputError(
            f"points= must be places in the image, (x, y) in pixels, or a list of them, not "
            f"{shown(points)}."
        )
    return [(float(x), float(y)) for x, y in several]


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(number().fits(v) for v in value)
    )


def _words(given: Any) -> list[list[str]]:
    """Texts that are given as words: a list of words for each, ``[["Ada", "lived"]]``."""
    parts = given if isinstance(given, (list, tuple)) else ()
    if not any(isinstance(part, (list, tuple)) for part in parts):
        return []
    for part in parts:
        several = isinstance(part, (list, tuple)) and len(part)
        if not several or not all(isinstance(word, str) and word.strip() for word in part):
            raise InputError(
                f"texts that are given as words are lists of words, one list for each text; "
                f"{shown(part)} is none."
            )
    return [list(part) for part in parts]


def _type_of(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        others = sorted({type(item).__name__ for item in value if not isinstance(item, str)})
        return f"a {type(value).__name__} with {', '.join(others)}"
    return f"a {type(value).__name__}"


def _each(given: Any, is_one: Callable[[Any], bool], read: Callable[[Any], Any]) -> list[Any]:
    if given is None:
        return []
    several = isinstance(given, (list, tuple)) and not is_one(given)
    return [read(value) for value in (given if several else [given])]
