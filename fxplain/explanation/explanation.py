"""Explanation: relevance of every token to every sample's target, and the matrices behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fxplain.arguments import YES_NO, checked, one_of
from fxplain.errors import FxplainError, MethodError
from fxplain.explanation.by_modality import ByModality
from fxplain.explanation.files import write_file
from fxplain.explanation.highest import Highest, highest
from fxplain.explanation.merging import Word
from fxplain.explanation.originals import Originals
from fxplain.explanation.output_fields import are_boxes, named_outputs
from fxplain.explanation.pictures import Picture
from fxplain.explanation.seen import AsSeen
from fxplain.explanation.seen_inside import SeenInside
from fxplain.explanation.shown import SPECIAL, Special, shown
from fxplain.explanation.target import plain_target
from fxplain.explanation.tried import Tried
from fxplain.explanation.units import Units
from fxplain.presentation import Presentable
from fxplain.program import AttentionGraph

if TYPE_CHECKING:
    from fxplain.explanation.asked import Asked

__all__ = ["ByModality", "Explanation"]

FORMAT = "fxplain-explanation-1"


class _Matrices:
    """Matrices that were made before, or the error that kept them from being made."""

    def __init__(self, made: Mapping[tuple[str, str], Tensor], error: FxplainError | None) -> None:
        self._made, self._error = made, error

    @classmethod
    def of(cls, explanation: Explanation) -> _Matrices:
        """Those of an explanation."""
        if isinstance(explanation.matrix_of, cls):
            return explanation.matrix_of
        try:
            return cls(explanation.matrices(), None)
        except FxplainError as error:  # a method without matrices, a model that has changed
            return cls({}, error)

    def __call__(self, a: str, b: str) -> Tensor:
        if self._error is not None:
            raise self._error
        return self._made[a, b]


@dataclass(frozen=True, eq=False)
class Explanation(AsSeen, SeenInside, Tried, Presentable):
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
        The model's output; of a loaded explanation only the boxes that it put around what it found,
        by name, else None.
    labels
        By modality and sample, a label for every token.
    special
        By modality, place and full name of each special token (a CLS, registers).
    grids
        By modality, the shape of the grid that its plain tokens lie on, such as (rows, columns),
        (frames or tiles, rows, columns), or () for a sequence; of grids of several strides, one behind
        the other, the rows and columns of each. `pictures` tells where each token lies.
    inputs
        The explained inputs by argument name, as they were given (pixels, ids, masks), for drawing.
    target_names
        Per sample, what people call the target: a label of the model's config, or a word of the
        tokenizer; empty where neither names it.
    word_pieces
        By modality and sample, the words that the tokens are pieces of, where a tokenizer told.
    seconds
        By modality, how long the recording is that it was made of.
    originals
        The photos and recordings that an explainer made the inputs of.
    options
        The method's options, those that were left out included.
    chosen
        Why this method, where ``method="auto"`` chose it; else empty.
    engine
        How the relevance was found: "rows" (products with vectors), "matrices" (all of R), or
        "tokens" for a method that has no matrices.
    conservation
        Of a method with layer-wise relevance propagation: per graph node the relevance that came in
        and that went out to its operands. Empty for other methods and in a loaded explanation.
    biases
        Of "fullgrad": by the path of each bias, and of the module that adds a constant, (batch,) what
        it gets of the score. Empty for other methods and in a loaded explanation.
    identity
        By modality, how much of the relevance is the identity that R starts from, (batch, tokens): 1 of
        a token that the target is read from, 1/n of each in a mean over n, 0 for a method without
        matrices. None where that was not kept; it is then taken from `readout`.
    promised
        (batch,) what a method's relevance should add up to, where it promises a sum: how far the score
        is from that of a baseline, or the 1 that layer-wise relevance starts from.
    error
        By modality, (batch, tokens): the standard error of relevance, where something was drawn; None
        where nothing was. A word's is the sum over its tokens, which were judged together.
    compete
        Whether the output's classes compete, so that a softmax tells how probable each is; False of
        several labels that may all be right.
    highest
        Per sample of a loaded explanation, which has not the whole output: its highest classes and the
        explained one, as far as they were known.
    tiled
        The modalities whose grid's first axis are the tiles of a picture, and not frames.
    blocks
        By modality of patches that are given as rows of colours, the side of the blocks that they are
        listed in, 1 where row by row; of those for which the model tells.
    layouts
        By modality and sample, the pictures that the sample's own tokens lie on; of those of a batch
        whose samples were given different ones.
    named
        The modalities whose tokens have names that the caller gave, such as a table's columns.
    rows
        By modality, the row of the batch's tokens that each sample's target reads: another sample's
        where the model compares samples (CLIP: this image with that text). Not known of a loaded one.
    class_name
        What the classes of the explained output are called, where config or tokenizer tell; in a loaded
        explanation, the kept ones.
    provenance
        What it was made of and with: the model's path or weights' hash, date, versions.
    asked
        What it was asked of, to ask the model more about the same: attention weights, what a look
        inside needs, cuts; None in a loaded one.
    matrix_of
        Makes matrices of R when they are asked for; None in a loaded explanation, unless they were
        saved.
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
    biases: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    target_names: tuple[str, ...] = ()
    word_pieces: Mapping[str, list[list[Word]]] = field(default_factory=dict, repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict, repr=False)
    identity: Mapping[str, Tensor] | None = field(default=None, repr=False)
    promised: Tensor | None = field(default=None, repr=False)
    error: ByModality | None = field(default=None, repr=False)
    compete: bool = True
    highest: tuple[Highest | None, ...] = field(default=(), repr=False)
    tiled: tuple[str, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict, repr=False)
    layouts: Mapping[str, tuple[tuple[Picture, ...], ...]] = field(default_factory=dict, repr=False)
    named: tuple[str, ...] = ()
    rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    originals: Originals = field(default=Originals(), repr=False)
    provenance: Mapping[str, str] = field(default_factory=dict, repr=False)
    class_name: Callable[[int], str] | None = field(default=None, repr=False)
    asked: Asked | None = field(default=None, repr=False)
    chosen: str = ""

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
            self.relevance[name]  # an unknown one is answered with the known
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
        self.relevance[modality]  # an unknown one is answered with the known
        return self.labels[modality]

    # -- files --------------------------------------------------------------------------------------

    @checked(matrices=YES_NO)
    def save(self, path: str | Path, *, matrices: bool = False) -> None:
        """Write everything but the model's output to one safetensors file with a JSON header.

        Of the output, the highest classes and the explained one are kept, and the boxes of a detector.

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
        write_file(path, *self.to_file(matrices=matrices))

    def to_file(self, *, matrices: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What `save` writes: a header of plain data, and tensors by name."""
        names = self.modalities
        tensors = {f"relevance/{i}": self.relevance[m] for i, m in enumerate(names)}
        if matrices:
            for (a, b), matrix in self.matrices().items():
                tensors[f"matrix/{names.index(a)}/{names.index(b)}"] = matrix
        tensors["scores"] = self.scores
        tensors |= {f"identity/{i}": self._identity[m] for i, m in enumerate(names)}
        if self.promised is not None:
            tensors["promised"] = self.promised
        if self.error is not None:
            tensors |= {f"error/{i}": self.error[m] for i, m in enumerate(names)}
        tensors |= {f"input/{name}": value for name, value in self.inputs.items()}
        for name, value in filter(lambda own: are_boxes(own[1]), named_outputs(self.output)):
            tensors.setdefault(f"output/{name}", value)
        originals = self._kept_originals()
        tensors |= originals.tensors()
        header = {
            **self._facts(),
            "modalities": list(names),
            "labels": self.labels,
            "word_pieces": {
                name: [[[w.text, w.tokens, w.gap, w.special] for w in words] for words in samples]
                for name, samples in self.word_pieces.items()
            },
            "seconds": dict(self.seconds),
            "rate": originals.rate,
            "placed": originals.placed_as_lists(),
            "provenance": dict(self.provenance),
            "chosen": self.chosen,
            "compete": self.compete,
            "highest": [
                None if found is None else asdict(found)
                for found in (highest(self, sample) for sample in range(self.batch_size))
            ],
            "tiled": list(self.tiled),
            "named": list(self.named),
            "blocks": dict(self.blocks),
            "layouts": {
                name: [[asdict(picture) for picture in own] for own in samples]
                for name, samples in self.layouts.items()
            },
        }
        return header, tensors

    def to_dict(self, units: Units | None = None, special: Special = "show") -> dict[str, Any]:
        """Relevance, labels and graph as plain data, of the format that ``docs/json.md`` describes.

        Parameters
        ----------
        units
            Also tell relevance by word, sentence, ...: as `units` takes them.
        special
            Whether these leave special tokens and sinks out: "hide".
        """
        one_of(SPECIAL).raising(MethodError).check("special", special)
        by_unit = {} if units is None else {"units": self._by_unit(units, special)}
        return {
            **self._facts(),
            **by_unit,
            **self._errors(),
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

    def _errors(self) -> dict[str, Any]:
        told = {"error": self.error or {}, "biases": self.biases}
        return {
            key: {name: values.tolist() for name, values in own.items()}
            for key, own in told.items()
            if own
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

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: all but the model, with the matrices made."""
        matrices = None if self.matrix_of is None else _Matrices.of(self)
        kept = {
            "matrix_of": matrices,
            "asked": None,
            "originals": self._kept_originals(),
        }
        return {**vars(self), **kept}

    def _kept_originals(self) -> Originals:
        """With what was found of them, and without what finds it."""
        if not self.originals.photos:
            return self.originals
        samples = range(self.batch_size)
        return self.originals.kept(
            {m: [self.placements(m, sample) for sample in samples] for m in self.modalities}
        )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {tuple(r.shape)}" for name, r in self.relevance.items())
        return f"<Explanation of {self.graph.model} by {self.method!r}: {sizes}>"
