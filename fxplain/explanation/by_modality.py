"""Tensors by modality name."""

from __future__ import annotations

from torch import Tensor

from fxplain.arguments import TEXT
from fxplain.errors import ModalityError

__all__ = ["ByModality"]


class ByModality(dict[str, Tensor]):
    """Tensors by modality name; an unknown name is answered with the known ones."""

    def __getitem__(self, name: str) -> Tensor:
        TEXT.raising(ModalityError).check("modality", name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Tensor:
        raise ModalityError(
            f"there is no modality {name!r}; there are: {', '.join(map(repr, self))}."
        )
