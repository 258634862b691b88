"""``fxplain demo``: a trained model's answers, and whether their relevance is where it should be.

The model reads a question about one or two corners of a mosaic of four digits. The corners are
known, so the explanation can be checked: of the image relevance, more than chance (a quarter per
corner) should lie in the corners that the question asks about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from torch import Tensor

import fxplain
from fxplain.cli.terminal import progress
from fxplain.demo import digits
from fxplain.reports import (
    GreyImage,
    ShadedGrid,
    ShadedWords,
    has_colour,
    percent,
    readout_place,
    to_rich,
)

__all__ = ["Answer", "answer_questions", "run_demo", "show_demo"]

CHANCE = 1 / len(digits.CORNERS)
"""The share of the image's patches that one corner covers."""


@dataclass(frozen=True)
class Answer:
    """The model's answer to one question, explained.

    Attributes
    ----------
    sample
        The mosaic and the question.
    text, probability
        The model's answer and how probable it finds it.
    words
        The question's tokens, as the model reads them.
    word_relevance
        One number per word; None for the token that the answer is read from.
    patch_relevance
        (16,) of the patches, row by row.
    """

    sample: digits.Sample
    text: str
    probability: float
    words: tuple[str, ...]
    word_relevance: tuple[float | None, ...]
    patch_relevance: Tensor

    @property
    def is_right(self) -> bool:
        """Whether it is the true answer."""
        return self.text == self.sample.question.answer

    @property
    def corner_shares(self) -> dict[str, float]:
        """How much of the image relevance lies in each corner."""
        positive = self.patch_relevance.clamp(min=0)
        total = float(positive.sum()) or 1.0
        return {
            corner: float(positive[digits.corner_patches(corner)].sum()) / total
            for corner in digits.CORNERS
        }

    @property
    def asked_share(self) -> float:
        """How much of the image relevance lies in the corners that the question asks about."""
        return sum(self.corner_shares[corner] for corner in self.sample.question.corners)

    @property
    def chance(self) -> float:
        """What `asked_share` would be if relevance were spread evenly."""
        return CHANCE * len(self.sample.question.corners)


def answer_questions(
    samples: Sequence[digits.Sample], method: str = "generic"
) -> tuple[list[Answer], fxplain.AttentionGraph]:
    """Ask the trained model, and explain each of its answers, in one batch."""
    model, tokenizer = digits.load_model()
    questions = [sample.question.text for sample in samples]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, questions, mosaics)
    explanation = fxplain.explain(model, inputs, method=method, tokenizer=tokenizer)
    chances = explanation.output.question_answering_score.softmax(-1)
    answers = []
    for i, sample in enumerate(samples):
        real = int(inputs["attention_mask"][i].sum())
        read = readout_place(explanation.readout[i], "input_ids")
        values = explanation.relevance["input_ids"][i, :real].tolist()
        answers.append(
            Answer(
                sample=sample,
                text=digits.ANSWERS[explanation.target[i]],
                probability=float(chances[i, explanation.target[i]]),
                words=tuple(explanation.tokens("input_ids")[i][:real]),
                word_relevance=tuple(None if w == read else v for w, v in enumerate(values)),
                patch_relevance=explanation.relevance["visual_feats"][i],
            )
        )
    return answers, explanation.graph


# ---- what is printed ----------------------------------------------------------------------------


def run_demo(console: Console, questions: int, method: str) -> None:
    """Explain all questions and print the demo.

    Parameters
    ----------
    console
        Where it is printed.
    questions
        How many questions are shown; the summary is over all that come with fxplain.
    method
        The explanation method.
    """
    with progress("loading the model and explaining its answers"):
        answers, graph = answer_questions(digits.load_samples(), method)
    show_demo(console, answers, graph, questions, method)


def show_demo(
    console: Console,
    answers: Sequence[Answer],
    graph: fxplain.AttentionGraph,
    questions: int,
    method: str,
) -> None:
    """Print the graph, the first `questions` answers, and a summary of them all."""
    console.print(
        "A small LXMERT reads a question and a mosaic of four handwritten digits, and answers. "
        "fxplain knows nothing of LXMERT: it traced the model and found this.\n"
    )
    console.print(to_rich(graph))
    for number, answer in enumerate(answers[:questions], 1):
        console.print(_shown(number, answer, has_colour(console)))
    console.print(_summary(answers, method))


def _shown(number: int, answer: Answer, colour: bool) -> RenderableType:
    question = answer.sample.question
    verdict = "right" if answer.is_right else f"wrong: it is {question.answer}"
    asked = " and ".join(question.corners)
    pictures = Table.grid(padding=(0, 4, 0, 0))
    pictures.add_row(Text("the mosaic"), Text("image relevance by patch"))
    grid = ShadedGrid(
        answer.patch_relevance.reshape(digits.GRID_SIZE, digits.GRID_SIZE),
        cell=(6, 2) if colour else (8, 4),
    )
    pictures.add_row(GreyImage(answer.sample.mosaic / digits.MAX_INK), grid)
    return Group(
        Text(),
        Rule(Text(f"{number}. {question.text}", "bold"), align="left", characters="-", style="dim"),
        Text.assemble(
            ("answer: ", "dim"), (answer.text, "bold"), f" ({answer.probability:.1%}), {verdict}"
        ),
        Text("\nword relevance", "dim"),
        Padding(ShadedWords(answer.words, answer.word_relevance, "(read)"), (0, 0, 0, 2)),
        Text(),
        Padding(pictures, (0, 0, 0, 2)),
        Text(),
        Text.assemble(
            "image relevance in the asked ",
            f"{'corner' if len(question.corners) == 1 else 'corners'}, {asked}: ",
            (percent(answer.asked_share), "bold"),
            f" (chance {percent(answer.chance)})",
        ),
    )


def _summary(answers: Sequence[Answer], method: str) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("question", "all")
    for heading, footer in zip(
        ("asked", "answered right", "relevance in asked corners", "chance"),
        _figures(answers),
        strict=True,
    ):
        table.add_column(heading, footer, justify="right")
    for kind in digits.QUESTION_KINDS:
        of_kind = [a for a in answers if a.sample.question.kind == kind]
        if of_kind:
            table.add_row(kind, *_figures(of_kind))
    return Group(
        Text(),
        Rule(
            Text(f"All {len(answers)} held-out questions, method {method}", "bold"),
            align="left",
            characters="-",
            style="dim",
        ),
        table,
        Text(),
        *_conclusion(answers),
    )


def _figures(answers: Sequence[Answer]) -> list[str]:
    return [
        str(len(answers)),
        str(sum(a.is_right for a in answers)),
        percent(mean(a.asked_share for a in answers)),
        percent(mean(a.chance for a in answers)),
    ]


def _conclusion(answers: Sequence[Answer]) -> Iterator[Text]:
    asked: list[float] = []
    other: list[float] = []
    for answer in answers:
        for corner, share in answer.corner_shares.items():
            (asked if corner in answer.sample.question.corners else other).append(share)
    above = sum(a.asked_share > a.chance for a in answers)
    yield Text.assemble(
        "Overall, a corner holds ",
        (percent(mean(asked)), "bold"),
        " of the image relevance where it is asked about and ",
        (percent(mean(other)), "bold"),
        f" where it is not (chance {percent(CHANCE)}).",
    )
    yield Text(f"The asked corners hold more than chance in {above} of {len(answers)} questions.")
