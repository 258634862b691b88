"""Explanation: relevance of every token to every sample's target, and the matrices behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import MethodError, MissingExtraError, ModalityError
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
from fxplain.explanation.pictures import Picture, grid_of, patch_size, pictures_of
from fxplain.explanation.readouts import identity_of
from fxplain.explanation.shown import Shown, Special, shown
from fxplain.explanation.target import plain_target
from fxplain.explanation.units import Units, units_of
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
        a sample has no such token.
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
        By modality, the shape of the grid that its plain tokens lie on, such as (rows, columns),
        (frames or tiles, rows, columns), or () for a sequence. `pictures` tells where each token lies.
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
    identity
        By modality, how much of the relevance is the identity that R starts from, (batch, tokens): 1 of
        a token that the target is read from, 1/n of each in a mean over n, 0 for a method without
        matrices. None where that was not kept; it is then taken from `readout`.
    promised
        (batch,) what a method's relevance should add up to, where it promises a sum: how far the score
        is from that of a baseline, or the 1 that layer-wise relevance starts from.
    compete
        Whether the output's classes compete, so that a softmax tells how probable each is; False of
        several labels that may all be right.
    class_name
        What the classes of the explained output are called, where config or tokenizer tell.
    provenance
        What it was made of and with: the model's path or weights' hash, date, versions.
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
    identity: Mapping[str, Tensor] | None = field(default=None, repr=False)
    promised: Tensor | None = field(default=None, repr=False)
    compete: bool = True
    class_name: Callable[[int], str] | None = field(default=None, repr=False)

    def starts(self, modality: str, sample: int = 0) -> list[int]:
        """The places whose relevance has a part of the identity: those that the target is read from."""
        self._check(modality)
        return [int(place) for place in (self._identity[modality][sample] > 0).nonzero().flatten()]

    provenance: Mapping[str, str] = field(default_factory=dict, repr=False)

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

    # -- beside the identity --------------------------------------------------------------------------

    def beyond_identity(self) -> ByModality:
        """Relevance without the identity that R starts from: what displays shade, rank and share out.

        Every token is relevant to itself from its birth. A target that is read from one token has that
        1 at it, and one that is read from a mean over n tokens 1/n at each, which would make them all
        look alike. `relevance` has it, as the rules say.

        Returns
        -------
        dict
            By modality name, (batch, tokens).
        """
        return ByModality(
            {name: values - self._identity[name] for name, values in self.relevance.items()}
        )

    def apart(self, modality: str, sample: int = 0) -> list[int]:
        """The places that displays leave out: a token that alone is read, and is all of itself.

        What such a token adds beside its own 1 is not measured apart from it.
        """
        self._check(modality)
        whole = self._identity[modality][sample] >= 1 - 1e-4
        found = [int(place) for place in whole.nonzero().flatten()]
        return found if len(found) == 1 else []

    def is_mean_readout(self, modality: str, sample: int = 0) -> bool:
        """Whether the target is read from many tokens, which each carry a share of the identity."""
        return bool(self.starts(modality, sample)) and not self.apart(modality, sample)

    @cached_property
    def _identity(self) -> Mapping[str, Tensor]:
        if self.identity is not None:
            return self.identity
        return {
            name: torch.stack([
                identity_of(self.readout[i], name, values[i], tokens=self.engine == "tokens")
                for i in range(len(values))
            ])
            for name, values in self.relevance.items()
        }  # fmt: skip

    @property
    def is_signed(self) -> bool:
        """Whether some tokens speak against the target: negative relevance."""
        return any(bool((values < 0).any()) for values in self.beyond_identity().values())

    def completeness(self) -> Tensor | None:
        """How much of what the method promises to share out its relevance adds up to.

        Integrated gradients promise the score less that of the baseline, layer-wise relevance
        propagation the whole of the score.

        Returns
        -------
        torch.Tensor or None
            (batch,) 1 where it adds up; None for a method that promises no sum.
        """
        if self.promised is None:
            return None
        total = sum(values.double().sum(1).cpu() for values in self.relevance.values())
        return torch.as_tensor(total) / self.promised.double().cpu()

    # -- by what people see ---------------------------------------------------------------------------

    def words(self, modality: str) -> list[WordRelevance]:
        """Relevance by word, one result per sample: the sum over each word's pieces.

        What the words are is known from the tokenizer where an explainer made the inputs, and read
        from the marks in the pieces ("##ing", "▁it") elsewhere.
        """
        return self.units(modality, "word")

    def units(
        self, modality: str, units: Units = "word", *, beyond_identity: bool = False
    ) -> list[WordRelevance]:
        """Relevance of a text by word, sentence, line, passage or what is given, added up.

        Parameters
        ----------
        modality
            A text's.
        units
            "token", "word", "sentence", "line", "passage", or parts of the text: as strings, as
            (start, stop) of its characters, or these by name. What no part holds is one unit more.
        beyond_identity
            Of `beyond_identity()` rather than of `relevance`.

        Returns
        -------
        list of WordRelevance
            One for each sample. Every token is in one unit, so that sums stay.

        Raises
        ------
        MethodError
            When there is no such unit, or the text has no such part.
        """
        values = (self.beyond_identity() if beyond_identity else self.relevance)[modality]
        labels = self.tokens(modality)
        made = []
        for sample, words in enumerate(self.words_in(modality)):
            parts = units_of(words, labels[sample], units)
            made.append(WordRelevance(tuple(parts), merge(values[sample], parts)))
        return made

    def words_in(self, modality: str) -> list[list[Word]]:
        """By sample, the words that the tokens are pieces of."""
        labels, known = self.tokens(modality), self.word_pieces.get(modality)
        return [known[i] if known else words_of(labels[i]) for i in range(self.batch_size)]

    def is_text(self, modality: str) -> bool:
        """Whether a modality's tokens are words: ids, or labels that say more than a place."""
        given = self.inputs.get(modality)
        if given is not None:
            return not given.is_floating_point()
        special = self.special.get(modality, {})
        labels = [x for i, x in enumerate(self.tokens(modality)[0]) if i not in special]
        named = any(label and not label.replace(",", "").isdigit() for label in labels)
        return named and not self.pictures(modality)

    def top(
        self,
        most: int = 10,
        *,
        sample: int = 0,
        units: Units = "word",
        special: Special = "show",
    ) -> list[Shown]:
        """What one sample's target draws on most, over all modalities, the largest first.

        Parameters
        ----------
        most
            How many.
        sample
            Which of the batch.
        units
            As `units` takes them, for texts.
        special
            "hide" leaves special tokens and sinks out.

        Returns
        -------
        list of Shown
            Each with ``.text``, ``.relevance`` (beside the identity), ``.share``, ``.modality``.
        """
        entries = [e for e in shown(self, sample, units, special) if not e.apart]
        kept = [e for e in entries if e.relevance and not (e.special and special == "hide")]
        return sorted(kept, key=lambda entry: -abs(entry.relevance))[:most]

    def to_frame(self, *, units: Units = "word", special: Special = "show") -> Any:
        """All that `top` ranks as a pandas data frame: a row for each word or token of each sample.

        Returns
        -------
        pandas.DataFrame
            Columns sample, target, modality, text, tokens, relevance, share, special, read.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise MissingExtraError("to_frame needs pandas: pip install pandas.") from error
        rows = [
            {
                "sample": sample,
                "target": self.target_names[sample] if self.target_names else self.target[sample],
                "modality": e.modality,
                "text": e.text,
                "tokens": e.tokens,
                "relevance": e.relevance,
                "share": e.share,
                "special": e.special,
                "read": e.apart,
            }
            for sample in range(self.batch_size)
            for e in shown(self, sample, units, special)
            if not (e.special and special == "hide")
        ]
        return pandas.DataFrame(rows)

    def pictures(self, modality: str) -> tuple[Picture, ...]:
        """The pictures, tiles or frames that a modality's tokens lie on, and where in each; or none."""
        self._check(modality)
        if modality not in self._pictures:
            count = self.relevance[modality].shape[1]
            special, grid = self.special.get(modality, {}), self.grids.get(modality, ())
            self._pictures[modality] = pictures_of(modality, count, special, grid, self.inputs)
        return self._pictures[modality]

    @cached_property
    def _pictures(self) -> dict[str, tuple[Picture, ...]]:
        return {}

    def pixels(
        self,
        modality: str,
        mode: str = "bilinear",
        size: tuple[int, int] | None = None,
        image: int | None = None,
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
        image
            Which of several pictures of different sizes, or of `pictures(modality)` altogether.

        Returns
        -------
        torch.Tensor
            (batch, height, width), or (batch, frames or tiles, height, width) of several; special
            tokens (a CLS) have no place in it.

        Raises
        ------
        ModalityError
            When the modality is unknown, its tokens lie on no grid, or there is no such image.
        """
        values, pictures = self.relevance[modality], self.pictures(modality)
        if image is not None:
            pictures = self._one_picture(pictures, modality, image)
        sizes = {picture.grid for picture in pictures}
        if len(sizes) > 1:
            told = ", ".join(f"{i}: {picture.grid}" for i, picture in enumerate(pictures))
            raise ModalityError(
                f"{modality!r} is {len(pictures)} pictures of different sizes in patches ({told}): "
                f"say which, image=."
            )
        size = size or self._size_in_pixels(modality, *sizes)
        if not pictures:
            return upsample(self._plain(modality), self.grids.get(modality, ()), size, mode)
        places = [place for picture in pictures for place in picture.tokens]
        return upsample(values[:, places], grid_of(pictures, ()), size, mode)

    def _one_picture(
        self, pictures: Sequence[Picture], modality: str, image: int
    ) -> tuple[Picture, ...]:
        if not 0 <= image < len(pictures):
            raise ModalityError(
                f"there is no image {image}: {modality!r} has {len(pictures)}, from 0."
            )
        return (pictures[image],)

    def _size_in_pixels(self, modality: str, grid: Sequence[int] = ()) -> tuple[int, int]:
        given = self.inputs.get(modality)
        if given is not None and given.dim() >= 4:
            return given.shape[-2], given.shape[-1]
        patch = patch_size(given) if given is not None and given.is_floating_point() else None
        if patch is None or not grid:
            raise ModalityError(
                f"{modality!r} is given as no image of rows and columns: say size=(height, width)."
            )
        return grid[0] * patch[0], grid[1] * patch[1]

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
        tensors |= {f"identity/{i}": self._identity[m] for i, m in enumerate(names)}
        if self.promised is not None:
            tensors["promised"] = self.promised
        tensors |= {f"input/{name}": value for name, value in self.inputs.items()}
        header = {
            **self._facts(),
            "modalities": list(names),
            "labels": self.labels,
            "word_pieces": {
                name: [[[w.text, w.tokens, w.gap, w.special] for w in words] for words in samples]
                for name, samples in self.word_pieces.items()
            },
            "seconds": dict(self.seconds),
            "provenance": dict(self.provenance),
        }
        write_file(path, header, tensors)

    def to_dict(self, units: Units | None = None, special: Special = "show") -> dict[str, Any]:
        """Relevance, labels and graph as plain data, of the format that ``docs/json.md`` describes.

        Parameters
        ----------
        units
            Also tell relevance by word, sentence, ...: as `units` takes them.
        special
            Whether these leave special tokens and sinks out: "hide".
        """
        by_unit = {} if units is None else {"units": self._by_unit(units, special)}
        return {
            **self._facts(),
            **by_unit,
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

    def _by_unit(self, units: Units, special: Special) -> list[list[dict[str, Any]]]:
        """By sample, what displays show, as plain data."""
        return [
            [
                {
                    "modality": e.modality,
                    "text": e.text,
                    "tokens": list(e.tokens),
                    "relevance": e.relevance,
                    "share": e.share,
                    "read": e.apart,
                }
                for e in shown(self, sample, units, special)
                if not (e.special and special == "hide")
            ]
            for sample in range(self.batch_size)
        ]

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
