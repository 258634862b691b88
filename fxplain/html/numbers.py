"""Numbers and pictures as text: what a page carries of tensors."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Floats", "PackedMatrix", "pack_matrix", "pack_vector", "packed_size", "png_url"]

Floats = NDArray[np.float32]
PackedMatrix = dict[str, Any]


def floats(values: Tensor) -> Floats:
    """A tensor's values in single precision, on the CPU."""
    numbers: Floats = values.detach().float().cpu().numpy()
    return numbers


def pack_vector(values: Tensor) -> str:
    """Base64 of little-endian single-precision numbers."""
    return base64.b64encode(floats(values).astype("<f4").tobytes()).decode("ascii")


def packed_size(rows: int, columns: int, bits: int) -> int:
    """How many characters `pack_matrix` makes of a matrix, nearly."""
    return math.ceil((rows * columns * bits // 8 + 4 * rows) * 4 / 3)


def pack_matrix(matrix: Tensor, bits: int, apart: Tensor | None = None) -> PackedMatrix:
    """A matrix as whole numbers, each row with a scale of its own.

    A row's largest number becomes 127 (8 bits) or 32767 (16 bits), so that every number is off by at
    most 1/254 or 1/65534 of the largest in its row.

    Parameters
    ----------
    matrix
        (rows, columns).
    bits
        8 or 16.
    apart
        (rows, columns) which numbers are kept apart in single precision: those that start from 1, as
        a token's relevancy to itself, beside which the rest of the row would be rounded away.
    """
    values = floats(matrix).copy()
    packed: PackedMatrix = {"rows": values.shape[0], "columns": values.shape[1], "bits": bits}
    if apart is not None:
        places = np.flatnonzero(apart.cpu().numpy())
        packed["apart"] = [
            _base64(places.astype("<i4")),
            _base64(values.flat[places].astype("<f4")),
        ]
        values.flat[places] = 0
    most = 2 ** (bits - 1) - 1
    scales = np.abs(values).max(axis=1, initial=0) / most
    safe = np.where(scales > 0, scales, 1)
    whole = np.rint(values / safe[:, None]).clip(-most, most).astype(f"<i{bits // 8}")
    packed["scales"] = _base64(scales.astype("<f4"))
    packed["values"] = _base64(whole)
    return packed


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def png_url(pixels: NDArray[np.uint8]) -> str:
    """A picture as a ``data:`` address.

    Parameters
    ----------
    pixels
        (height, width) grey or (height, width, 3) colours, 0 to 255.
    """
    height, width = pixels.shape[:2]
    depth = 1 if pixels.ndim == 2 else 3
    lines = pixels.reshape(height, width, depth)
    # Each pixel as its difference from the one above (filter "up"), which packs better than itself.
    change = np.diff(lines, axis=0, prepend=np.zeros_like(lines[:1])).reshape(height, -1)
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), change], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if depth == 1 else 2, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(filtered.tobytes(), 9)),
        (b"IEND", b""),
    )
    file = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)
    return f"data:image/png;base64,{base64.b64encode(file).decode('ascii')}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
