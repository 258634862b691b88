"""Files: tensors and a JSON header in one safetensors file, which holds no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fxplain.arguments import PATH
from fxplain.errors import LoadError, SaveError
from fxplain.written import into

__all__ = ["read_file", "write_file"]


def write_file(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, with a JSON header, to a safetensors file.

    Raises
    ------
    InputError
        When `path` is none.
    SaveError
        When it is a folder, lies in none, or cannot be written to.
    """
    contiguous = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    with into(path) as file:
        try:
            save_file(contiguous, str(file), metadata={"fxplain": json.dumps(header)})
        except SafetensorError as error:  # what the disk said; it is no OSError
            raise SaveError(f"{str(file)!r} cannot be written: {error}") from error


def read_file(path: str | Path) -> tuple[Any, dict[str, Tensor]]:
    """Header (None where there is none) and tensors of a file that `write_file` wrote.

    Raises
    ------
    LoadError
        When the file is missing, or is no such file.
    """
    PATH.raising(LoadError).check("path", path)
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("fxplain", "null"))
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read as a saved explanation: {error}") from error
