"""Questions about a 2x2 mosaic of handwritten digits: the data of the demo's LXMERT.

A *mosaic* is a 16 x 16 image with one 8 x 8 handwritten digit in each corner, its pixels integers
from 0 (paper) to 16 (ink). The model sees it as a 4 x 4 grid of patches, so that every corner's
digit covers 4 of the 16 image tokens, and answers a question about one or two of the corners. The
corners that a question asks about are known, which is what makes the model worth explaining: a good
explanation finds the image's relevance there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fxplain.errors import InputError

if TYPE_CHECKING:
    from transformers import LxmertForQuestionAnswering, PreTrainedTokenizerBase

MODEL_FOLDER = Path(__file__).parent / "lxmert_digits"
SAMPLES_FILE = Path(__file__).parent / "samples.json"

DIGIT_SIZE = 8
MOSAIC_SIZE = 16
PATCH_SIZE = 4
GRID_SIZE = MOSAIC_SIZE // PATCH_SIZE
MAX_INK = 16

CORNERS = ("top left", "top right", "bottom left", "bottom right")
"""The corners in the order in which a mosaic's four digits are listed."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""The words for 0 to 9 in a question's text."""

ANSWERS = (*(str(digit) for digit in range(10)), "yes", "no", *CORNERS)
"""Every possible answer; an answer's place is its class in the model's output."""


@dataclass(frozen=True)
class Question:
    """A question about a mosaic, with its answer.

    Attributes
    ----------
    kind : str
        One of `QUESTION_KINDS`.
    text : str
        The question's words, separated by spaces.
    corners : tuple of str
        The corners that the answer depends on, in the order in which the text names them.
    answer : str
        The true answer, one of `ANSWERS`.
    """

    kind: str
    text: str
    corners: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Sample:
    """A mosaic and a question about it.

    Attributes
    ----------
    mosaic : Tensor
        (16, 16) integer pixels from 0 to 16.
    digits : tuple of int
        The mosaic's four digits, in the order of `CORNERS`.
    question : Question
        What is asked about them.
    """

    mosaic: Tensor
    digits: tuple[int, ...]
    question: Question


# ---- the image ----------------------------------------------------------------------------------


def make_mosaic(images: Tensor) -> Tensor:
    """Lay four digit images out as one mosaic.

    Parameters
    ----------
    images : Tensor
        (..., 4, 8, 8) pixels, the four digits in the order of `CORNERS`.

    Returns
    -------
    Tensor
        (..., 16, 16) pixels.
    """
    rows: Tensor = images.unflatten(-3, (2, 2)).transpose(-3, -2)
    return rows.reshape(*images.shape[:-3], MOSAIC_SIZE, MOSAIC_SIZE)


def mosaic_patches(mosaic: Tensor) -> tuple[Tensor, Tensor]:
    """Cut mosaics into the image tokens that the model reads.

    Parameters
    ----------
    mosaic : Tensor
        (..., 16, 16) pixels from 0 to 16.

    Returns
    -------
    visual_feats : Tensor
        (..., 16 patches, 16 pixels), scaled to [0, 1]; patches and their pixels in row-major order.
    visual_pos : Tensor
        (..., 16 patches, 4): each patch's box (x1, y1, x2, y2) in fractions of the mosaic's side.

    Examples
    --------
    >>> visual_feats, visual_pos = mosaic_patches(torch.zeros(16, 16))
    >>> visual_feats.shape
    torch.Size([16, 16])
    >>> visual_pos[1].tolist()
    [0.25, 0.0, 0.5, 0.25]
    """
    grid = mosaic.unflatten(-1, (GRID_SIZE, PATCH_SIZE)).unflatten(-3, (GRID_SIZE, PATCH_SIZE))
    visual_feats = grid.transpose(-3, -2).flatten(-4, -3).flatten(-2) / MAX_INK
    visual_pos = _patch_boxes().to(mosaic.device).expand(*visual_feats.shape[:-1], 4)
    return visual_feats, visual_pos


def _patch_boxes() -> Tensor:
    """(16, 4) boxes (x1, y1, x2, y2) of the patches, in fractions of the mosaic's side."""
    edges = torch.arange(GRID_SIZE) / GRID_SIZE
    top, left = torch.meshgrid(edges, edges, indexing="ij")
    corner = torch.stack([left.flatten(), top.flatten()], dim=-1)
    return torch.cat([corner, corner + 1 / GRID_SIZE], dim=-1)


def corner_patches(corner: str) -> list[int]:
    """The image tokens that a corner's digit covers.

    Parameters
    ----------
    corner : str
        One of `CORNERS`.

    Returns
    -------
    list of int
        The 4 places in the row-major 4 x 4 grid of patches.

    Raises
    ------
    InputError
        When there is no such corner.

    Examples
    --------
    >>> corner_patches("top right")
    [2, 3, 6, 7]
    """
    if corner not in CORNERS:
        raise InputError(
            f"there is no corner {corner!r}; the corners are {', '.join(map(repr, CORNERS))}"
        )
    bottom, right = divmod(CORNERS.index(corner), 2)
    first = GRID_SIZE * 2 * bottom + 2 * right
    return [first, first + 1, first + GRID_SIZE, first + GRID_SIZE + 1]


# ---- the questions ------------------------------------------------------------------------------


def _ask_digit(digits: Sequence[int], generator: random.Random) -> Question:
    """``what digit is top left ?``."""
    place = generator.randrange(4)
    corner = CORNERS[place]
    return Question("digit", f"what digit is {corner} ?", (corner,), str(digits[place]))


def _ask_parity(digits: Sequence[int], generator: random.Random) -> Question:
    """``is the bottom right digit even ?``."""
    place = generator.randrange(4)
    corner, parity = CORNERS[place], generator.choice(("even", "odd"))
    answer = _yes_or_no((digits[place] % 2 == 0) == (parity == "even"))
    return Question("parity", f"is the {corner} digit {parity} ?", (corner,), answer)


def _ask_threshold(digits: Sequence[int], generator: random.Random) -> Question:
    """``is the top left digit greater than five ?``; the two are never equal."""
    place = generator.randrange(4)
    corner, order = CORNERS[place], generator.choice(("greater", "less"))
    number = generator.choice([number for number in range(10) if number != digits[place]])
    answer = _yes_or_no((digits[place] > number) == (order == "greater"))
    return Question(
        "threshold", f"is the {corner} digit {order} than {NUMBERS[number]} ?", (corner,), answer
    )


def _ask_comparison(digits: Sequence[int], generator: random.Random) -> Question:
    """``which corner is larger , top left or bottom left ?``; the two digits are never equal."""
    pairs = [(a, b) for a in range(4) for b in range(4) if digits[a] != digits[b]]
    if not pairs:
        raise InputError(
            f"no two corners of the mosaic {tuple(digits)} differ, so that none is larger"
        )
    a, b = generator.choice(pairs)
    answer = CORNERS[a] if digits[a] > digits[b] else CORNERS[b]
    text = f"which corner is larger , {CORNERS[a]} or {CORNERS[b]} ?"
    return Question("comparison", text, (CORNERS[a], CORNERS[b]), answer)


def _yes_or_no(truth: bool) -> str:
    return "yes" if truth else "no"


_ASK: dict[str, Callable[[Sequence[int], random.Random], Question]] = {
    "digit": _ask_digit,
    "parity": _ask_parity,
    "threshold": _ask_threshold,
    "comparison": _ask_comparison,
}

QUESTION_KINDS = tuple(_ASK)
"""Which digit, even or odd, greater or less than a number, and which of two corners is larger."""


def ask(kind: str, digits: Sequence[int], generator: random.Random) -> Question:
    """Draw a question of one kind about a mosaic.

    Parameters
    ----------
    kind : str
        One of `QUESTION_KINDS`.
    digits : sequence of int
        The mosaic's four digits, in the order of `CORNERS`.
    generator : random.Random
        Where the corners and words are drawn from.

    Returns
    -------
    Question
        With its true answer.

    Raises
    ------
    InputError
        When there is no such kind, or when a comparison is asked for and all four digits are equal.

    Examples
    --------
    >>> question = ask("digit", (3, 1, 4, 1), random.Random(0))
    >>> question.text, question.answer
    ('what digit is bottom right ?', '1')
    """
    if kind not in _ASK:
        raise InputError(
            f"there is no question kind {kind!r}; "
            f"the kinds are {', '.join(map(repr, QUESTION_KINDS))}"
        )
    return _ASK[kind](digits, generator)


def draw_mosaic(
    images: Tensor, labels: Sequence[int], generator: random.Random
) -> tuple[Tensor, tuple[int, ...]]:
    """Draw a mosaic of four of the given digit images, not all of the same digit.

    Parameters
    ----------
    images : Tensor
        (n, 8, 8) pixels to draw from, at least two different digits.
    labels : sequence of int
        The n images' digits.
    generator : random.Random
        Where the images are drawn from.

    Returns
    -------
    mosaic : Tensor
        (16, 16) pixels.
    digits : tuple of int
        The mosaic's four digits, in the order of `CORNERS`.
    """
    while True:
        places = [generator.randrange(len(labels)) for _ in CORNERS]
        digits = tuple(int(labels[place]) for place in places)
        if len(set(digits)) > 1:  # nothing could be compared in a mosaic of one digit
            return make_mosaic(images[places]), digits


def vocabulary() -> list[str]:
    """Every word that a question can contain, in alphabetical order."""
    words = {*NUMBERS, *" ".join(CORNERS).split(), "what", "digit", "is", "the", "even", "odd"}
    words |= {"greater", "less", "than", "which", "corner", "larger", "or", ",", "?"}
    return sorted(words)


# ---- the model's inputs -------------------------------------------------------------------------


def encode(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], mosaics: Tensor
) -> dict[str, Tensor]:
    """Make one batch of model inputs.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer, as `load_model` returns it.
    questions : sequence of str
        The questions' texts; shorter ones are padded to the longest.
    mosaics : Tensor
        (batch, 16, 16) pixels from 0 to 16, one mosaic per question.

    Returns
    -------
    dict of str to Tensor
        ``input_ids`` and ``attention_mask`` (batch, words), ``visual_feats`` (batch, 16, 16) and
        ``visual_pos`` (batch, 16, 4).

    Raises
    ------
    InputError
        When there are not as many questions as mosaics.
    """
    if len(questions) != len(mosaics):
        raise InputError(
            f"{len(questions)} questions were given with {len(mosaics)} mosaics; each needs its own"
        )
    words = tokenizer(list(questions), padding=True, return_tensors="pt")
    visual_feats, visual_pos = mosaic_patches(mosaics)
    return {
        "input_ids": words["input_ids"],
        "attention_mask": words["attention_mask"],
        "visual_feats": visual_feats,
        "visual_pos": visual_pos,
    }


def load_model(
    folder: Path = MODEL_FOLDER,
) -> tuple[LxmertForQuestionAnswering, PreTrainedTokenizerBase]:
    """Load the trained model, in evaluation mode, and its tokenizer.

    Parameters
    ----------
    folder : Path
        A ``save_pretrained`` folder; by default the one that comes with fxplain.

    Returns
    -------
    model : LxmertForQuestionAnswering
        Its ``config.id2label`` names the answers.
    tokenizer : PreTrainedTokenizerBase
    """
    from transformers import LxmertForQuestionAnswering, PreTrainedTokenizerFast

    model = LxmertForQuestionAnswering.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    # the class by name: what the folder calls it depends on the release that wrote it
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return model.eval(), tokenizer


# ---- the samples --------------------------------------------------------------------------------


def load_samples(path: Path = SAMPLES_FILE) -> list[Sample]:
    """Load the questions that ``fxplain demo`` explains, about digits held out from training.

    Parameters
    ----------
    path : Path
        A file that `save_samples` wrote; by default the one that comes with fxplain.

    Returns
    -------
    list of Sample
    """
    return [_read_sample(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _read_sample(entry: dict[str, Any]) -> Sample:
    question = entry["question"]
    return Sample(
        mosaic=torch.tensor([[int(pixel) for pixel in row.split()] for row in entry["mosaic"]]),
        digits=tuple(entry["digits"]),
        question=Question(**{**question, "corners": tuple(question["corners"])}),
    )


def save_samples(samples: Sequence[Sample], path: Path = SAMPLES_FILE) -> None:
    """Write samples as JSON, a line of text per row of pixels so that a reader sees the digits.

    Parameters
    ----------
    samples : sequence of Sample
    path : Path
        The file to write.
    """
    entries = [
        {
            "mosaic": [" ".join(f"{int(pixel):2d}" for pixel in row) for row in sample.mosaic],
            "digits": list(sample.digits),
            "question": asdict(sample.question),
        }
        for sample in samples
    ]
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
