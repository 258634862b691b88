"""Encoding: raw inputs to one batch of the model's inputs, by the model's own processor."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxplain.capture import first_parameter
from fxplain.errors import InputError, LoadError
from fxplain.explanation import Word
from fxplain.explanation.originals import Originals, Probes, probe_pictures
from fxplain.generation import decoder_start, positions, text_input, written_behind
from fxplain.pipelines.given import Given
from fxplain.pipelines.hearing import seconds_heard
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.media import pillow
from fxplain.pipelines.spelling import spell

__all__ = [
    "Encoded",
    "encode",
    "padded_left",
    "reads_padding",
    "start_decoder",
    "takes",
    "text_limit",
]


@dataclass(frozen=True)
class Encoded:
    """A batch of the model's inputs, and what is known of how they were made.

    Attributes
    ----------
    inputs
        By argument name, on the model's device, floats in its precision.
    words
        By argument name and text, the words that the ids are pieces of.
    seconds
        By argument name, how long the recordings are (the longest, for they are padded to it).
    pieces
        What a fast tokenizer made of the texts (characters to pieces and back), or None.
    originals
        The photos and recordings.
    """

    inputs: dict[str, Any]
    words: dict[str, list[list[Word]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    pieces: Any = None
    originals: Originals = field(default_factory=Originals)

    @property
    def batch_size(self) -> int:
        """The number of samples."""
        return next((len(v) for v in self.inputs.values() if isinstance(v, Tensor)), 0)

    def with_inputs(self, more: Mapping[str, Any]) -> Encoded:
        """The same with further inputs."""
        return replace(self, inputs={**self.inputs, **more})


def encode(loaded: Loaded, given: Given, *, padding: Any = None) -> Encoded:
    """Make the model's inputs.

    Parameters
    ----------
    padding
        How texts are padded; by default to the longest of several. Those that are padded to their full
        length ("max_length"), as in training, are so whatever length is asked for.

    Raises
    ------
    InputError
        When the processor fails on what was given.
    LoadError
        When what reads several kinds together could not be loaded for lack of a package.
    """
    known = inspect.signature(loaded.model.forward).parameters
    for name in given.inputs:
        if name not in known:  # a forward that takes any name would pass over it in silence
            raise InputError(
                f"{type(loaded.model).__name__} has no input {name!r}; it has {', '.join(known)}."
            )
    if loaded.lacks and len(given.kinds) > 1:  # each by itself has no places for the other
        raise LoadError(
            f"{loaded.name!r} reads {' and '.join(given.kinds)} together by a processor that cannot be "
            f"loaded: {loaded.lacks}."
        )
    text: dict[str, Any] = {}
    if given.text:
        padding = len(given.text) > 1 if padding is None else padding
        text = {"text": given.text, "padding": padding}
        if given.words:
            text |= {"text": given.words, "is_split_into_words": True}
        if given.pair:
            text["text_pair"] = given.pair
        if given.truncation:
            text |= {"truncation": True, "max_length": _cut_to(loaded, given)}
        if given.pad_to and padding != "max_length":
            padding = text["padding"] = "max_length"
            text.setdefault("max_length", given.pad_to)
            text["max_length"] = min(text["max_length"] or given.pad_to, given.pad_to)
        if padding and loaded.tokenizer.pad_token is None:
            loaded.tokenizer.pad_token = loaded.tokenizer.eos_token
    try:
        pieces = _pieces(loaded.tokenizer, text)
        made = _processed(loaded, given, text, pieces)
    except Exception as error:  # whatever a processor raises
        raise InputError(
            f"the processor of {loaded.name!r} fails on these inputs: {error}"
        ) from error
    if given.text and given.truncation is None:
        _check_length(loaded, made.get("input_ids"))
    inputs = {
        name: _placed(value, loaded.model)
        for name, value in {**made, **given.inputs}.items()
        if takes(loaded.model, name)
    }
    if pieces is not None and not _are_of(pieces, made.get("input_ids")):
        pieces = None
    words, seconds = _words(loaded, given, inputs, pieces), _seconds(loaded, given, made)
    return Encoded(inputs, words, seconds, pieces, _originals(loaded, given, text))


def text_limit(loaded: Loaded) -> int | None:
    """The most tokens of a text that the model takes, where tokenizer or config say it."""
    limits = (loaded.tokenizer.model_max_length, positions(loaded.model))
    said = [n for n in limits if isinstance(n, int) and 0 < n < _NO_LIMIT]
    return min(said) if said else None


def _cut_to(loaded: Loaded, given: Given) -> int | None:
    """The most tokens of a text that is cut, with room for what the model writes behind it."""
    limit = text_limit(loaded)
    if limit is None or not written_behind(loaded.model):
        return limit
    return max(limit - given.room, 1)


def reads_padding(loaded: Loaded) -> bool:
    """Whether padding of a text is read as its words are, for no mask says what it is."""
    named = "attention_mask" in loaded.tokenizer.model_input_names
    return not (named and takes(loaded.model, "attention_mask"))


_NO_LIMIT = 10**9
"""A tokenizer that knows no limit says a number beyond."""


def _check_length(loaded: Loaded, ids: Any) -> None:
    limit = text_limit(loaded)
    longest = ids.shape[-1] if isinstance(ids, Tensor) else 0
    if limit is not None and longest > limit:
        raise InputError(
            f"the text has {longest} tokens, and {loaded.name!r} takes {limit} at most. Cut it with "
            f"truncation=True (--truncation on the command line), or give it in parts."
        )


def _processed(
    loaded: Loaded, given: Given, text: dict[str, Any], pieces: Any = None
) -> dict[str, Any]:
    """What the processors make; of a text alone what the tokenizer made of it, `pieces`, already."""
    audio: dict[str, Any] = {}
    if given.audio:
        rate = loaded.feature_extractor.sampling_rate
        audio = {"sampling_rate": rate, "padding": _audio_padding(loaded, len(given.audio))}
    points = {"input_points": [[[list(point) for point in given.points]]]} if given.points else {}
    if loaded.processor is not None and len(given.kinds) > 1:
        images = {"images": given.by_text("image", given.image)} if given.image else {}
        videos = _videos(given)
        sounds = {"audio": given.audio, **audio} if given.audio else {}
        more = {**videos, **sounds, **points}
        return dict(loaded.processor(**text, **images, **more, return_tensors="pt"))
    made: dict[str, Any] = {}
    if text and pieces is not None:
        made |= {name: torch.tensor(rows) for name, rows in pieces.items() if name != OFFSETS}
    elif text:
        made |= loaded.tokenizer(**text, return_tensors="pt")
    if given.image:
        made |= loaded.image_processor(images=given.image, return_tensors="pt")
    if given.video:
        films = [list(video.frames) for video in given.video]
        made |= loaded.video_processor(films, return_tensors="pt")
    if given.audio:
        made |= loaded.feature_extractor(given.audio, **audio, return_tensors="pt")
    return made


def _videos(given: Given) -> dict[str, Any]:
    """Frames that were chosen already, and when they are, for processors that write it down."""
    if not given.video:
        return {}
    times = [
        {
            "total_num_frames": len(video.frames),
            "fps": len(video.frames) / (video.seconds or len(video.frames)),
            "frames_indices": list(range(len(video.frames))),
        }
        for video in given.video
    ]
    frames = [video.frames for video in given.video]
    own = {"videos": given.by_text("video", frames), "video_metadata": times}
    return {**own, "do_sample_frames": False}


def _audio_padding(loaded: Loaded, count: int) -> Any:
    """To a fixed length where the extractor has one (Whisper's 30 seconds), else to the longest."""
    return "max_length" if hasattr(loaded.feature_extractor, "chunk_length") else count > 1


def takes(model: nn.Module, name: str) -> bool:
    """Whether the model's forward has an argument of this name, or takes any."""
    parameters = inspect.signature(model.forward).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _placed(value: Any, model: nn.Module) -> Any:
    """On the model's device, floats (pixels) in the model's own precision."""
    if not isinstance(value, Tensor):
        return value
    weights = first_parameter(model, floating=True)
    if weights is None:
        return value
    return value.to(weights.device, weights.dtype if value.is_floating_point() else None)


# ---- what is remembered -------------------------------------------------------------------------


OFFSETS = "offset_mapping"
"""What a fast tokenizer calls the places of its pieces in the text; no model takes them."""


def _pieces(tokenizer: Any, text: dict[str, Any]) -> Any:
    """What a fast tokenizer makes of the texts, with what it tells of pieces and characters."""
    if not text or not tokenizer.is_fast:
        return None
    return tokenizer(**text, return_offsets_mapping=True)


def _are_of(pieces: Any, ids: Tensor | None) -> bool:
    """Whether the ids are these pieces', and none that a processor put in their place."""
    return ids is not None and [list(row) for row in pieces["input_ids"]] == ids.tolist()


def _words(
    loaded: Loaded, given: Given, inputs: dict[str, Any], pieces: Any
) -> dict[str, list[list[Word]]]:
    ids = inputs.get("input_ids")
    if not given.text or not isinstance(ids, Tensor):
        return {}
    pairs = [[t, *given.pair[i : i + 1]] for i, t in enumerate(given.text)]
    rows = enumerate(ids.tolist())
    given_words: Sequence[list[str] | None] = given.words or [None] * len(pairs)
    return {
        "input_ids": [
            spell(loaded.tokenizer, row, pieces, i, pairs[i], given_words[i]) for i, row in rows
        ]
    }


def _originals(loaded: Loaded, given: Given, text: dict[str, Any]) -> Originals:
    """What was given to look at and to listen to; frames of videos are photos behind the images."""
    frames = [frame for video in given.video for frame in video.frames]
    photos = (*(np.asarray(image) for image in given.image), *frames)

    def probe() -> Probes | None:
        made = probe_pictures([(photo.shape[0], photo.shape[1]) for photo in photos])
        try:
            return Probes(
                **{name: _processed(loaded, _with(given, own), text) for name, own in made.items()}
            )
        except Exception:  # noqa: BLE001 - a processor may refuse plain pictures: then it is not known
            return None

    return Originals(
        photos=photos,
        sounds=tuple(given.audio),
        rate=getattr(loaded.feature_extractor, "sampling_rate", 0) if given.audio else 0,
        probe=probe if photos else None,
        owners=_owners(given),
        films=_films(given),
        lengths=_lengths(given),
    )


def _films(given: Given) -> tuple[int, ...]:
    """Which video each photo is a frame of, -1 of images."""
    if not given.video:
        return ()
    frames = [i for i, video in enumerate(given.video) for _ in video.frames]
    return (*[-1] * len(given.image), *frames)


def _lengths(given: Given) -> tuple[float, ...]:
    """How many seconds each video has; nothing where that is not known of all."""
    told = [video.seconds for video in given.video if video.seconds is not None]
    return tuple(told) if len(told) == len(given.video) else ()


def _owners(given: Given) -> tuple[int, ...]:
    """Which text each image, and each frame of a video, was given for; nothing where none says so."""
    if len(given.text) < 2 or not given.seen:
        return ()
    images = [i for i, count in enumerate(given.seen.get("image", ())) for _ in range(count)]
    films = [i for i, count in enumerate(given.seen.get("video", ())) for _ in range(count)]
    if len(images) != len(given.image) or len(films) != len(given.video):
        return ()
    shown = zip(films, given.video, strict=True)
    return (*images, *(i for i, video in shown for _ in video.frames))


def _with(given: Given, pictures: Sequence[Any]) -> Given:
    """The same with other pictures in the place of images and frames."""
    count = len(given.image)
    images = [pillow().fromarray(picture) for picture in pictures[:count]]
    films, left = [], pictures[count:]
    for video in given.video:
        films.append(replace(video, frames=np.stack(left[: len(video.frames)])))
        left = left[len(video.frames) :]
    return replace(given, image=images, video=films)


def _seconds(loaded: Loaded, given: Given, made: dict[str, Any]) -> dict[str, float]:
    told = _lengths(given)
    names = [n for n in made if n.startswith("pixel_values")]
    films = [n for n in names if n.endswith("videos")] or (names if not given.image else [])
    if told:
        return dict.fromkeys(films, max(told))
    if not given.audio:
        return {}
    extractor = loaded.feature_extractor
    name = next((n for n in made if n in extractor.model_input_names), None)
    if name is None:
        return {}
    longest = max(map(len, given.audio)) / extractor.sampling_rate
    return {name: seconds_heard(extractor, name, made[name], longest)}


# ---- decoders -----------------------------------------------------------------------------------


def start_decoder(loaded: Loaded, encoded: Encoded) -> Encoded:
    """Give a decoder what generation starts with, so that it predicts the first token.

    Raises
    ------
    InputError
        When the configs name no start token.
    """
    name = text_input(loaded.model)
    if name in encoded.inputs or name not in inspect.signature(loaded.model.forward).parameters:
        return encoded
    start = decoder_start(loaded.model)
    if start is None:
        raise InputError(
            f"{loaded.name!r} names no token that its decoder starts with: give inputs={{{name!r}: "
            f"...}}."
        )
    first = next(v for v in encoded.inputs.values() if isinstance(v, Tensor))
    ids = torch.tensor([start], device=first.device).expand(len(first), -1).contiguous()
    return encoded.with_inputs({name: ids})


@contextmanager
def padded_left(loaded: Loaded) -> Iterator[None]:
    """Meanwhile, a tokenizer pads texts that the model goes on writing at their beginning."""
    tokenizer = loaded.tokenizer
    if tokenizer is None or text_input(loaded.model) != "input_ids":
        yield
        return
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    try:
        yield
    finally:
        tokenizer.padding_side = side
