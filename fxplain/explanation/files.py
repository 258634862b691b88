"""Files: tensors and a JSON header in one safetensors file, which holds no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fxplain.errors import InputError, LoadError

__all__ = ["read_file", "write_file"]


def write_file(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, with a JSON header, to a safetensors file.

    Raises
    ------
    InputError
        When `path` is none.
    OSError
        When it is a folder, or lies in none.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"a path is a text or a pathlib.Path, not {path!r}.")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file in it.")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.resolve().parent} to save into")
    contiguous = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    save_file(contiguous, str(path), metadata={"fxplain": json.dumps(header)})


def read_file(path: str | Path) -> tuple[Any, dict[str, Tensor]]:
    """Header (None where there is none) and tensors of a file that `write_file` wrote.

    Raises
    ------
    LoadError
        When the file is missing, or is no such file.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("fxplain", "null"))
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read as a saved explanation: {error}") from error
