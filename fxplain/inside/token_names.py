"""Token names: what people call a token of a stream, wherever in the program it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fxplain.explanation.reading import samples_of

if TYPE_CHECKING:
    from fxplain.explanation import Explanation
    from fxplain.explanation.kept import Kept

__all__ = ["Token", "TokenNames"]


class Token(NamedTuple):
    """One token.

    Attributes
    ----------
    modality
        The modality that it is of; of a token that a route made, the name of its stream.
    position
        Its place there.
    label
        What it is called: a word piece, a place on a grid.
    """

    modality: str
    position: int
    label: str


class TokenNames:
    """The names of one sample's tokens, by stream and position.

    Parameters
    ----------
    explanation, kept
        The explanation and what its passes left behind.
    view
        The sample.
    """

    def __init__(self, explanation: Explanation, kept: Kept, view: int) -> None:
        self._streams = kept.program.streams
        self._known: dict[tuple[int, int], Token] = {}
        program = kept.program
        for modality in program.modalities:
            labels = explanation.labels[modality.name][view]
            for table in (modality.tokens, *modality.more):
                row = table[samples_of(program, table, [kept.views[view]])[0]]
                for position, token in enumerate(row.tolist()):
                    if token >= 0:
                        at = (int(program.token_stream[token]), int(program.token_index[token]))
                        named = Token(modality.name, position, labels[position])
                        self._known.setdefault(at, named)

    def of(self, stream: int, position: int) -> Token:
        """The token at a place of a stream."""
        known = self._known.get((stream, position))
        return known or Token(self._streams[stream].name, position, f"[{position}]")
