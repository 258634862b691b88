"""Video: frames from whatever a user has: a file, a folder of images, an array, a list of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fxplain.errors import InputError, LoadError
from fxplain.extras import extra
from fxplain.pipelines.media import is_one_image, open_image, pillow

__all__ = ["MOST_FRAMES", "Video", "evenly", "is_one_video", "open_video", "read_animation"]

MOST_FRAMES = 16
"""So many frames of a file, evenly apart, where the model does not say how many it takes."""


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of a video.

    Attributes
    ----------
    frames
        (frames, height, width, 3) colours from 0 to 255.
    seconds
        How long it is; None where nothing tells.
    """

    frames: NDArray[np.uint8]
    seconds: float | None = None


def is_one_video(value: Any) -> bool:
    """Whether this is a video, and not several of them: a path, an array, or a list of images."""
    if isinstance(value, (str, Path, Video)):
        return True
    if isinstance(value, (np.ndarray, Tensor)):
        return value.ndim == 4
    several = isinstance(value, (list, tuple)) and bool(value)
    return several and all(
        is_one_image(each)
        and not (isinstance(each, (np.ndarray, Tensor)) and each.ndim == 4)
        and not (isinstance(each, (str, Path)) and _is_video_file(Path(each)))
        for each in value
    )


def open_video(value: Any, count: int | None = None) -> Video:
    """A video's frames in RGB.

    Parameters
    ----------
    value
        A video file or an animated GIF, PNG or WebP, of which `count` frames evenly apart are taken;
        a folder of images in the order of their names, an array or tensor (frames, height, width, 3)
        or (frames, 3, height, width), or a list of images, of which all are taken.
    count
        How many frames the model takes: then also of the others so many are taken.

    Raises
    ------
    LoadError
        When the file is no video, or the folder has no images.
    MissingExtraError
        When what reads it is not installed.
    InputError
        When it is nothing that could be a video.
    """
    if isinstance(value, Video):
        return value
    if isinstance(value, (str, Path)) and not Path(value).is_dir():
        return _read(Path(value), count or MOST_FRAMES)
    frames = [np.asarray(open_image(each)) for each in _images(value)]
    if len({frame.shape for frame in frames}) > 1:
        sizes = ", ".join(sorted({f"{f.shape[1]} x {f.shape[0]}" for f in frames}))
        raise InputError(f"the frames of a video are of one size, not of {sizes} pixels.")
    return Video(np.stack([frames[i] for i in evenly(len(frames), count or len(frames))]))


def _images(value: Any) -> Any:
    if isinstance(value, (str, Path)):
        files = sorted(f for f in Path(value).iterdir() if f.suffix.lower() in _PICTURES)
        if not files:
            raise LoadError(f"the folder {str(value)!r} has no images that could be frames.")
        return files
    if isinstance(value, (np.ndarray, Tensor)) and value.ndim != 4:
        raise InputError(
            f"an array of shape {tuple(value.shape)} is no video: it is (frames, height, width, 3) or "
            f"(frames, 3, height, width)."
        )
    if not isinstance(value, (list, tuple, np.ndarray, Tensor)) or not len(value):
        raise InputError(
            f"a video is a path, an array of frames or a list of images, not "
            f"{'nothing' if isinstance(value, (list, tuple)) else f'a {type(value).__name__}'}."
        )
    return value


_PICTURES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"])
_ANIMATED = frozenset([".gif", ".webp", ".png", ".apng"])


def _is_video_file(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() not in _PICTURES


def evenly(length: int, count: int) -> list[int]:
    """The middles of `count` equal stretches; again and again where there are too few."""
    return [min(length - 1, int((i + 0.5) * length / count)) for i in range(count)]


def _read(path: Path, count: int) -> Video:
    try:
        return (
            read_animation(path, count) if path.suffix.lower() in _ANIMATED else _film(path, count)
        )
    except (LoadError, ImportError):
        raise
    except Exception as error:  # whatever a decoder raises
        raise LoadError(f"{str(path)!r} cannot be read as a video: {error}") from error


def read_animation(source: Path | BinaryIO, count: int) -> Video:
    """So many frames, evenly apart, of an animated GIF, PNG or WebP: its path, or the open file."""
    with pillow().open(source) as file:
        length = getattr(file, "n_frames", 1)
        frames, milliseconds = [], 0.0
        chosen = evenly(length, min(count, length))
        for number in range(length):
            file.seek(number)
            milliseconds += file.info.get("duration", 0)
            if number in chosen:
                frames.append(np.asarray(file.convert("RGB")))
    return Video(np.stack(frames), milliseconds / 1000 or None)


def _film(path: Path, count: int) -> Video:
    av = extra(
        "av",
        "reading video files needs PyAV, which is not installed: pip install 'fxplain[video]'; or give "
        "an array of frames, a folder of images, or an animated GIF.",
    )
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        told = stream.frames or sum(1 for _ in file.decode(video=0))
        file.seek(0)
        chosen = evenly(told, min(count, told))
        frames = [
            frame.to_ndarray(format="rgb24")
            for number, frame in enumerate(file.decode(video=0))
            if number in chosen
        ]
        rate = float(stream.average_rate or 0)
    if not frames:
        raise LoadError(f"{str(path)!r} has no frames.")
    return Video(np.stack(frames), told / rate if rate else None)
