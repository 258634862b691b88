"""Media: images and recordings from whatever a user has: a path, an array, a tensor, a PIL image."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import SEEK_END, BytesIO
from math import gcd
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxplain.arguments import blaming, whole
from fxplain.errors import InputError, LoadError
from fxplain.extras import extra

__all__ = [
    "MOST_RATE", "is_one_image", "is_one_recording", "open_image", "open_recording", "pillow",
    "read_wav",
]  # fmt: skip

MOST_RATE = 10_000_000
"""Samples a second: of ultrasound."""

Samples = NDArray[np.float32]


def is_one_image(value: Any) -> bool:
    """Whether this is an image, and not several of them."""
    kinds = (str, Path, bytes, np.ndarray, Tensor, Mapping)
    return isinstance(value, kinds) or hasattr(value, "convert")


def is_one_recording(value: Any) -> bool:
    """Whether this is a recording, and not several of them."""
    return isinstance(value, (str, Path, bytes, np.ndarray, Tensor, Mapping))


def _file_in(value: Any) -> Any:
    """The bytes or else the path that a mapping has, as `datasets` stores a file; or the value."""
    if not isinstance(value, Mapping) or not {"bytes", "path"} & set(value):
        return value
    held = value.get("bytes")
    return value.get("path") if held is None else held


def _called(file: str | Path | bytes) -> str:
    return f"{len(file):,} bytes" if isinstance(file, bytes) else repr(str(file))


def _source(file: str | Path | bytes) -> Any:
    return BytesIO(file) if isinstance(file, bytes) else file


# ---- images -------------------------------------------------------------------------------------


def open_image(value: Any) -> Any:
    """An RGB `PIL.Image` from an image file, a PIL image, or an array.

    Parameters
    ----------
    value
        A file is a path, its bytes, or a mapping with "bytes" or "path". Pictures are turned as their
        EXIF tag says, which is how people see them. Arrays and tensors are (height,
        width), (height, width, channels) or (channels, height, width): bytes from 0 to 255, 16 bits
        from 0 to 65535, or floats from 0 to 1.

    Raises
    ------
    LoadError
        When the file is no image, is cut off, or is too large to be one.
    MissingExtraError
        When pillow is missing.
    InputError
        When it is nothing that could be an image.
    """
    Image = pillow()
    value = _file_in(value)
    if isinstance(value, Image.Image):
        with blaming("decoding the image", LoadError):  # it may be closed, or be read no further
            return _as_seen(value)
    if isinstance(value, (np.ndarray, Tensor)):
        return Image.fromarray(_bytes(_as_array(value))).convert("RGB")
    if not isinstance(value, (str, Path, bytes)):
        raise InputError(
            f"an image is a path, a PIL image or an array, not a {type(value).__name__}."
        )
    try:
        with Image.open(_source(value)) as file:
            return _as_seen(file)
    except InputError:
        raise
    except Exception as error:  # whatever a decoder raises
        raise LoadError(
            f"{_called(value)} cannot be read as an image: {str(error).rstrip('.')}. Give a whole PNG, "
            f"JPEG or other picture file, whatever its name ends in."
        ) from error


def _as_seen(image: Any) -> Any:
    """In RGB, turned as its EXIF tag says, 16 bits and floats scaled to bytes."""
    from PIL import ImageOps

    if 0 in image.size:
        raise InputError(f"an image of {image.width} by {image.height} pixels has nothing to show.")
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith(("I", "F")):  # convert would clip, not scale
        turned = pillow().fromarray(_bytes(_counted(np.asarray(turned))))
    return turned.convert("RGB")


def _counted(pixels: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers of 32 bits hold bytes or 16 bits: the largest tells."""
    if pixels.dtype.kind == "i" and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint8 if pixels.max() <= 255 else np.uint16)
    return pixels


def pillow() -> Any:
    """The module `PIL.Image`.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    message = "images need pillow, which is not installed: pip install 'fxplain[image]'."
    extra("PIL", message)
    from PIL import Image

    return Image


def _bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(height, width) or (height, width, 3) from 0 to 255."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))  # as big-endian TIFF has them
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise InputError(
            f"an array of shape {pixels.shape} is no image: it is (height, width), (height, width, "
            f"channels) or (channels, height, width)."
        )
    if not pixels.size:
        raise InputError(f"an array of shape {pixels.shape} has no pixels.")
    if pixels.dtype == np.uint16:
        return (pixels / 257).round().astype(np.uint8)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "iuf":
        raise InputError(f"an image has numbers for pixels, not {pixels.dtype}.")
    if pixels.dtype.kind in "iu" and not (pixels.min() >= 0 and pixels.max() <= 255):
        raise InputError(
            f"an image of {pixels.dtype} has values from 0 to 255, but these are from {pixels.min()} "
            f"to {pixels.max()}: give 16 bits as uint16."
        )
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"an image of floats has values from 0 to 1, but these are from {low:.3g} to "
                f"{high:.3g}: give the image as it was before any normalisation."
            )
        pixels = (pixels * 255).round()
    return pixels.astype(np.uint8)


# ---- recordings ---------------------------------------------------------------------------------


def open_recording(value: Any, rate: int) -> Samples:
    """One channel of samples from a .wav file's path or an array.

    Parameters
    ----------
    value
        A path, or the file's bytes; an array or tensor (samples,) at the model's own rate; or a mapping
        with "array" and "sampling_rate", or with "bytes" or "path".
    rate
        The model's samples per second: others are converted.

    Raises
    ------
    LoadError
        When the file is no .wav file.
    MissingExtraError
        When what reads and converts it is not installed.
    InputError
        When it is nothing that could be a recording.
    """
    if not isinstance(value, Mapping) or not {"array", "sampling_rate"} <= set(value):
        value = _file_in(value)
    if isinstance(value, (str, Path, bytes)):
        own_rate, samples = read_wav(_source(value), _called(value))
        return _converted(samples, own_rate, rate)
    if isinstance(value, Mapping):
        if not {"array", "sampling_rate"} <= set(value):
            raise InputError(
                f"a recording as a mapping has 'array' and 'sampling_rate', not "
                f"{sorted(map(str, value))}."
            )
        own_rate = value["sampling_rate"]
        whole(1, MOST_RATE).check("sampling_rate", own_rate)
        return _converted(_mono(value["array"]), int(own_rate), rate)
    if isinstance(value, (np.ndarray, Tensor)):
        return _mono(value)
    raise InputError(
        f"a recording is a path to a .wav file, an array of samples, or a mapping of 'array' and "
        f"'sampling_rate', not a {type(value).__name__}."
    )


def _as_array(value: Any) -> Any:
    """Numbers of whatever kind as NumPy has them."""
    if not isinstance(value, Tensor):
        if isinstance(value, np.ma.MaskedArray) and bool(np.ma.getmaskarray(value).any()):
            raise InputError(
                "a masked array lacks some of its numbers: fill them (numpy.ma.filled)."
            )
        return np.asarray(value)
    if value.is_meta:
        raise InputError("a tensor on the meta device has a shape and no values.")
    with blaming(f"making an array of a tensor of {value.dtype}"):
        plain = value.detach().cpu()
        return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()


def _mono(value: Any) -> Samples:
    samples = _as_array(value)
    if samples.ndim != 1 or not len(samples):
        raise InputError(
            f"an array of shape {samples.shape} is no recording: it is (samples,), one channel."
        )
    if samples.dtype.kind not in "biuf":
        raise InputError(f"a recording has numbers for samples, not {samples.dtype}.")
    if not np.isfinite(samples).all():
        raise InputError("a recording holds NaN or infinite samples.")
    found: Samples = samples.astype(np.float32)
    return found


def read_wav(source: str | Path | BinaryIO, name: str) -> tuple[int, Samples]:
    """The samples of a .wav file.

    Parameters
    ----------
    source
        Its path, or the file, open for reading.
    name
        What it is called in messages.

    Returns
    -------
    tuple
        Samples per second, and (samples,) from -1 to 1, channels averaged.

    Raises
    ------
    LoadError
        When it is none, or holds no sound.
    """
    wavfile = _scipy("io.wavfile")
    try:
        rate, samples = wavfile.read(source)
    except Exception as error:  # whatever a damaged header makes of it
        if isinstance(error, ValueError):  # it was opened
            _check_whole(name, source)
        raise LoadError(
            f"{name} cannot be read as a .wav file: {str(error).rstrip('.')}. Make one of it with a "
            f"sound editor, or by ffmpeg -i RECORDING SOUND.wav."
        ) from error
    _check_whole(name, source)
    if not 1 <= rate <= MOST_RATE or not samples.size:
        raise LoadError(f"{name} holds no sound: {samples.size} samples at {rate} a second.")
    if samples.dtype == np.uint8:  # the only unsigned kind of a .wav file: silence is 128
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if samples.ndim == 2:
        samples = samples.mean(1)
    return int(rate), _mono(samples)


_UNTOLD = 0x7FFF0000
"""From here on a size stands for an end that was not known when the file was begun."""


def _check_whole(name: str, source: str | Path | BinaryIO) -> None:
    if lacking := _lacking(source):
        raise LoadError(f"{name} is cut off: {lacking:,} bytes of its sound are missing.")


def _lacking(source: str | Path | BinaryIO) -> int:
    """How many bytes of sound a .wav file is short of what it says it has."""
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            return _lacking(file)
    end = source.seek(0, SEEK_END)
    source.seek(0)
    place = 12 if source.read(4) == b"RIFF" else end
    while place + 8 <= end:
        source.seek(place)
        kind, size = struct.unpack("<4sI", source.read(8))
        place += 8 + size + size % 2
        if kind == b"data":
            lacking: int = place - size % 2 - end
            return 0 if size >= _UNTOLD else max(0, lacking)
    return 0


def _converted(samples: Samples, own: int, wanted: int) -> Samples:
    if own == wanted:
        return samples
    common = gcd(own, wanted)
    converted = _scipy("signal").resample_poly(samples, wanted // common, own // common)
    result: Samples = converted.astype(np.float32)
    return result


def _scipy(module: str) -> Any:
    return extra(
        f"scipy.{module}",
        "reading and converting recordings needs scipy, which is not installed: pip install "
        "'fxplain[audio]'; or give an array of samples at the model's own rate.",
    )
