"""Explanation: relevance of every token to every sample's target, and the matrices behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fxplain.errors import MethodError, ModalityError
from fxplain.explanation.files import write_file
from fxplain.explanation.merging import (
    Timeline,
    Word,
    WordRelevance,
    merge,
    timeline,
    upsample,
    words_of,
)
from fxplain.explanation.target import plain_target
from fxplain.explanation.weights import AttentionOf
from fxplain.presentation import Presentable
from fxplain.program import AttentionGraph

__all__ = ["ByModality", "Explanation"]

FORMAT = "fxplain-explanation-1"


class ByModality(dict[str, Tensor]):
    """Tensors by modality name; an unknown name is answered with the known ones."""

    def __missing__(self, name: str) -> Tensor:
        raise ModalityError(
            f"there is no modality {name!r}; there are: {', '.join(map(repr, self))}."
        )


@dataclass(frozen=True, eq=False)
class Explanation(Presentable):
    """What one call of `fxplain.explain` found.

    Attributes
    ----------
    relevance
        By modality name: relevance of each token to each sample's target, (batch, tokens), 0 where
        a sample has no such token. An argument that is embedded in several places has one number for
        each of its positions, their sum.
    graph
        The detected attention structure.
    method
        The method's name.
    target
        Per sample: the explained class index, index tuple, or the target function's name.
    readout
        Per sample: the token(s) that the target is computed from, such as ``"input_ids[0]"``.
    scores
        The explained number per sample, (batch,).
    output
        The model's output (None in a loaded explanation).
    labels
        By modality and sample, a label for every token.
    special
        By modality, place and full name of each special token (a CLS, registers).
    grids
        By modality, the shape of the grid that its plain tokens lie on, such as (rows, columns), or ()
        for a sequence.
    inputs
        The explained inputs by argument name, as they were given (pixels, ids, masks), for drawing.
    target_names
        Per sample, what people call the target: a label of the model's config, or a word of the
        tokenizer; empty where neither names it.
    word_pieces
        By modality and sample, the words that the tokens are pieces of, where a tokenizer told.
    seconds
        By modality, how long the recording is that it was made of.
    options
        The method's options, those that were left out included.
    engine
        How the relevance was found: "rows" (products with vectors), "matrices" (all of R), or
        "tokens" for a method that has no matrices.
    conservation
        Of a method with layer-wise relevance propagation: per graph node the relevance that came in
        and that went out to its operands. Empty for other methods and in a loaded explanation.
    matrix_of, attention_of
        What makes matrices of R, and the attention weights of the nodes that are named, when they
        are asked for; None in a loaded explanation, for matrices unless they were saved.
    """

    relevance: ByModality
    graph: AttentionGraph
    method: str
    target: tuple[Any, ...]
    readout: tuple[str, ...]
    scores: Tensor
    output: Any = field(repr=False)
    labels: Mapping[str, list[list[str]]] = field(repr=False)
    special: Mapping[str, Mapping[int, str]] = field(repr=False)
    grids: Mapping[str, tuple[int, ...]] = field(repr=False)
    matrix_of: Callable[[str, str], Tensor] | None = field(repr=False)
    inputs: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    engine: str = "matrices"
    conservation: Mapping[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    target_names: tuple[str, ...] = ()
    word_pieces: Mapping[str, list[list[Word]]] = field(default_factory=dict, repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict, repr=False)
    attention_of: AttentionOf | None = field(default=None, repr=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of all modalities."""
        return tuple(self.relevance)

    @property
    def batch_size(self) -> int:
        """The number of explained samples."""
        return len(self.scores)

    def matrix(self, a: str, b: str) -> Tensor:
        """The relevancy matrix R[a, b] after the last update of `a`.

        Where relevance was found without the matrices and nothing was kept to make them from, the
        model runs once more; an explanation keeps its model and inputs for that.

        Parameters
        ----------
        a, b
            Modality names: of the rows (context) and of the columns (what they drew on).

        Returns
        -------
        torch.Tensor
            (batch, tokens of a, tokens of b).

        Raises
        ------
        ModalityError
            When there is no such modality.
        MethodError
            When the method scores tokens and has no matrices, or none were saved.
        ChangedModelError
            When the model runs once more and says something else.
        """
        for name in (a, b):
            self._check(name)
        if self.matrix_of is None:
            raise MethodError(
                "this explanation was loaded from a file without matrices: explanation.save(path, "
                "matrices=True) writes them."
            )
        return self.matrix_of(a, b)

    def matrices(self) -> dict[tuple[str, str], Tensor]:
        """All relevancy matrices by (row modality, column modality).

        Raises
        ------
        MethodError
            When the method scores tokens and has no matrices, or none were saved.
        """
        return {(a, b): self.matrix(a, b) for a in self.modalities for b in self.modalities}

    def tokens(self, modality: str) -> list[list[str]]:
        """A label for every token, by sample: word pieces, grid positions, special tokens' names."""
        self._check(modality)
        return self.labels[modality]

    def _check(self, name: str) -> None:
        self.relevance[name]

    # -- by what people see ---------------------------------------------------------------------------

    def words(self, modality: str) -> list[WordRelevance]:
        """Relevance by word, one result per sample: the sum over each word's pieces.

        What the words are is known from the tokenizer where an explainer made the inputs, and read
        from the marks in the pieces ("##ing", "▁it") elsewhere.
        """
        labels, known = self.tokens(modality), self.word_pieces.get(modality)
        return [
            WordRelevance(tuple(words), merge(self.relevance[modality][sample], words))
            for sample in range(self.batch_size)
            for words in [known[sample] if known else words_of(labels[sample])]
        ]

    def pixels(
        self, modality: str, mode: str = "bilinear", size: tuple[int, int] | None = None
    ) -> Tensor:
        """Relevance as a heat map over the image that the model was given.

        Parameters
        ----------
        modality
            An image's or a video's.
        mode
            "bilinear", or "nearest" for the bare patches.
        size
            (height, width) in pixels; by default those of the model's input. Another size is the
            whole image's only where the processor cuts nothing off.

        Returns
        -------
        torch.Tensor
            (batch, height, width), or (batch, frames, height, width) for a video; special tokens
            (a CLS) have no place in it.

        Raises
        ------
        ModalityError
            When the modality is unknown or its tokens lie on no grid.
        """
        plain = self._plain(modality)
        if size is None:
            given = self.inputs.get(modality)
            if given is None or given.dim() < 4:
                raise ModalityError(
                    f"{modality!r} is given as no image of rows and columns: say size=(height, width)."
                )
            size = (given.shape[-2], given.shape[-1])
        return upsample(plain, self.grids.get(modality, ()), size, mode)

    def timeline(
        self, modality: str, seconds: float | None = None, axis: int | None = None
    ) -> Timeline:
        """Relevance of a recording or a video over time.

        Parameters
        ----------
        modality
            A recording's or a video's.
        seconds
            How long it is; an explainer that was given the recording knows it.
        axis
            The axis of the tokens' grid that is time, where that is not obvious.

        Raises
        ------
        ModalityError
            When the modality is unknown, has no such axis, or its length is not known.
        """
        plain = self._plain(modality)
        seconds = self.seconds.get(modality) if seconds is None else seconds
        if seconds is None:
            raise ModalityError(f"it is not known how long {modality!r} is: say seconds=.")
        return timeline(plain, self.grids.get(modality, ()), seconds, axis)

    def _plain(self, modality: str) -> Tensor:
        """(batch, tokens) of relevance without special tokens."""
        values, special = self.relevance[modality], self.special.get(modality, {})
        return values[:, [i for i in range(values.shape[1]) if i not in special]]

    # -- files --------------------------------------------------------------------------------------

    def save(self, path: str | Path, *, matrices: bool = False) -> None:
        """Write everything but the model's output to one safetensors file with a JSON header.

        Load it again with `fxplain.load`.

        Parameters
        ----------
        path
            The file.
        matrices
            Write the relevancy matrices too: as many numbers as tokens squared, and where they were
            not made yet, another run of the model.

        Raises
        ------
        MethodError
            When matrices are asked for of a method that has none.
        """
        names = self.modalities
        tensors = {f"relevance/{i}": self.relevance[m] for i, m in enumerate(names)}
        if matrices:
            for (a, b), matrix in self.matrices().items():
                tensors[f"matrix/{names.index(a)}/{names.index(b)}"] = matrix
        tensors["scores"] = self.scores
        tensors |= {f"input/{name}": value for name, value in self.inputs.items()}
        header = {
            **self._facts(),
            "modalities": list(names),
            "labels": self.labels,
            "word_pieces": {
                name: [[[word.text, word.tokens] for word in words] for words in samples]
                for name, samples in self.word_pieces.items()
            },
            "seconds": dict(self.seconds),
        }
        write_file(path, header, tensors)

    def to_dict(self) -> dict[str, Any]:
        """Relevance, labels and graph as plain data, of the format that ``docs/json.md`` describes."""
        return {
            **self._facts(),
            "scores": self.scores.tolist(),
            "relevance": {
                name: [
                    [
                        {"token": label, "relevance": value}
                        for label, value in zip(*pair, strict=False)
                    ]
                    for pair in zip(self.labels[name], values.tolist(), strict=True)
                ]
                for name, values in self.relevance.items()
            },
        }

    def _facts(self) -> dict[str, Any]:
        """What is neither a tensor nor as long as one, as plain data: in files and in JSON."""
        return {
            "format": FORMAT,
            "method": self.method,
            "options": dict(self.options),
            "engine": self.engine,
            "target": [plain_target(t) for t in self.target],
            "target_names": list(self.target_names),
            "readout": list(self.readout),
            "special": {k: {str(i): s for i, s in v.items()} for k, v in self.special.items()},
            "grids": {k: list(v) for k, v in self.grids.items()},
            "graph": self.graph.to_dict(),
        }

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {tuple(r.shape)}" for name, r in self.relevance.items())
        return f"<Explanation of {self.graph.model} by {self.method!r}: {sizes}>"
