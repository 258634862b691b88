"""Received: what a page sends, opened within limits. Nothing is fetched, no other program is run."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fxplain.errors import InputError, LoadError, MissingExtraError
from fxplain.pipelines.media import pillow, read_wav
from fxplain.pipelines.video import MOST_FRAMES, Video, evenly, read_animation
from fxplain.serving.limits import Limits

__all__ = ["KINDS", "Receiver", "opened_bytes"]

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that Pillow decodes by itself: for others (EPS) it runs a program on the file."""

MOST_RATE = 384_000
"""Samples a second of the finest recorders: the filter that converts a rate grows with it."""


class Receiver:
    """Opens what is sent for one model.

    Parameters
    ----------
    limits
        How much of it is taken.
    frames
        How many frames of a video the model takes, where it says so.
    """

    def __init__(self, limits: Limits, frames: int | None = None) -> None:
        self.limits, self.frames = limits, frames or MOST_FRAMES

    def opened(self, kind: str, value: Any) -> Any:
        """What an explainer takes for a kind of input.

        Parameters
        ----------
        kind
            One of `KINDS`.
        value
            As JSON has it: a text; a data URL of an image, a .wav file or an animation; of a video
            also ``{"frames": [data URL, ...], "seconds": how long it is}``.

        Raises
        ------
        InputError
            When it is missing, too much, or cannot be read.
        """
        if value is None or value == "" or (isinstance(value, str) and not value.strip()):
            raise InputError(f"the model needs {kind}: nothing was given.")
        return KINDS[kind](self, value)

    def _text(self, text: Any) -> str:
        if not isinstance(text, str):
            raise InputError("a text is sent as a string.")
        if len(text) > self.limits.characters:
            raise InputError(
                f"the text has {len(text)} characters; up to {self.limits.characters} are taken."
            )
        return text

    def _image(self, url: Any, most: int | None = None) -> Any:
        """A PIL image, as it was sent: an explainer turns and converts it as every image."""
        file = io.BytesIO(_data("image", url))
        most = self.limits.pixels if most is None else most

        def read() -> Any:
            image = pillow().open(file, formats=PICTURES)
            _few("the image", image.width * image.height, most, "pixels")
            image.load()
            return image

        return _read("image", read)

    def _recording(self, url: Any) -> dict[str, Any]:
        """Samples with their rate, which an explainer converts to the model's."""
        file = io.BytesIO(_data("audio", url))
        rate, samples = _read("recording", lambda: read_wav(file, "it"))
        _few("the recording", rate, MOST_RATE, "samples a second")
        _few("the recording", len(samples) / rate, self.limits.seconds, "seconds")
        return {"array": samples, "sampling_rate": rate}

    def _video(self, value: Any) -> Video:
        """Frames that a page chose, or so many of an animation as the model takes."""
        if isinstance(value, Mapping):
            return self._frames(value.get("frames"), value.get("seconds"))
        file = io.BytesIO(_data("image", value))

        def read() -> Video:
            with pillow().open(file, formats=PICTURES) as shown:
                count = getattr(shown, "n_frames", 1)
                _few("the video", count, self.limits.frames, "frames")
                _few("the video", shown.width * shown.height * count, self.limits.pixels, "pixels")
            return read_animation(file, self.frames)

        video: Video = _read("video", read)
        return video

    def _frames(self, urls: Any, seconds: Any) -> Video:
        if not isinstance(urls, list) or not urls:
            raise InputError("the frames of a video are sent as a list of data URLs.")
        _few("the video", len(urls), self.limits.frames, "frames")
        known = isinstance(seconds, (int, float)) and 0 < seconds < 1e9
        chosen = [urls[i] for i in evenly(len(urls), self.frames)]
        most = self.limits.pixels // len(chosen)
        frames = [np.asarray(self._image(url, most).convert("RGB")) for url in chosen]
        if len({frame.shape for frame in frames}) > 1:
            raise InputError("the frames of a video are of one size.")
        return Video(np.stack(frames), float(seconds) if known else None)


KINDS: Mapping[str, Callable[[Receiver, Any], Any]] = {
    "text": Receiver._text,
    "pair": Receiver._text,
    "image": Receiver._image,
    "video": Receiver._video,
    "audio": Receiver._recording,
}
"""The kinds of input that a page can send."""


def opened_bytes(value: Any) -> int:
    """How much memory what was opened takes, about."""
    if isinstance(value, Video):
        return value.frames.nbytes
    if isinstance(value, Mapping):
        return int(value["array"].nbytes)
    return len(value) if isinstance(value, str) else 3 * value.width * value.height


def _data(kind: str, url: Any) -> bytes:
    """The bytes of a data URL."""
    head, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not head.startswith(f"data:{kind}/") or not head.endswith(";base64"):
        raise InputError(f"{_ARTICLE[kind]} is sent as a data URL.")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise InputError(f"{_ARTICLE[kind]} is sent as base64: {error}") from error


_ARTICLE = {"image": "an image", "audio": "a recording"}


def _read(kind: str, read: Callable[[], Any]) -> Any:
    """What a decoder makes of a file; whatever it raises is the file's fault."""
    try:
        return read()
    except (InputError, MissingExtraError):
        raise
    except LoadError as error:
        raise InputError(f"the {kind} cannot be read: {error}") from error
    except MemoryError as error:
        raise InputError(f"the {kind} is too large.") from error
    except Exception as error:  # whatever a decoder raises
        raise InputError(f"the {kind} cannot be read: {error}") from error


def _few(what: str, count: float, most: int, unit: str) -> None:
    if count > most:
        raise InputError(f"{what} has {count:.10g} {unit}; up to {most} are taken.")
