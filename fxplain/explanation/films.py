"""Films: which of the pictures that tokens lie on are of which video, and when they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fxplain.arguments import place_in
from fxplain.errors import ModalityError

if TYPE_CHECKING:
    from fxplain.explanation.seen import AsSeen

__all__ = ["Film", "film_of"]


@dataclass(frozen=True)
class Film:
    """A video that a sample was given.

    Attributes
    ----------
    steps
        The tokens of each of its moments, as many as the model tells apart.
    seconds
        How long it is; None where nothing tells.
    """

    steps: tuple[tuple[int, ...], ...]
    seconds: float | None = None


def film_of(explanation: AsSeen, modality: str, sample: int, video: int | None) -> Film | None:
    """The video that a sample's tokens are of; None where they are of none that is known.

    Parameters
    ----------
    explanation
        It knows the pictures and the originals.
    modality, sample
        Whose tokens they are.
    video
        Which of several.

    Raises
    ------
    ModalityError
        When there are several, and `video` does not say which.
    """
    of_picture = _numbers(explanation, modality, sample)
    films = [film for film in dict.fromkeys(of_picture) if film is not None]
    if not films:
        return None
    if video is None and len(films) > 1:
        raise ModalityError(
            f"{modality!r} is of {len(films)} videos, each with a time of its own: say which, video=."
        )
    film = films[place_in("video", video or 0, len(films))]
    pictures = explanation.pictures(modality, sample)
    steps = [p.tokens for p, own in zip(pictures, of_picture, strict=True) if own == film]
    lengths = explanation.originals.lengths
    return Film(tuple(steps), lengths[film] if film < len(lengths) else None)


def _numbers(explanation: AsSeen, modality: str, sample: int) -> Sequence[int | None]:
    """By picture the number of its video, None of an image; nothing where it is of none known."""
    pictures, originals = explanation.pictures(modality, sample), explanation.originals
    placed = [p for p in explanation.placements(modality, sample) if p is not None]
    if pictures and len(placed) == len(pictures):
        frames = [originals.frame_of(p.photo) for p in placed]
        return [None if frame is None else frame[0] for frame in frames]
    if any(p.is_frame and p.parts > 1 for p in pictures):
        return [p.source for p in pictures]
    return []
