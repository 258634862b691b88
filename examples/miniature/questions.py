"""What the LXMERT and the VisualBERT experiment share: digit questions, perturbed and localised."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

import fxplain
from examples.miniature.experiment import (
    Claim,
    Column,
    Experiment,
    Results,
    Run,
    perturbation_columns,
)
from examples.tasks import questions
from examples.tasks.digit_images import split_digits
from fxplain.demo.digits import Sample

METRICS = ("positive", "negative", "relevance_mass", "pointing_game")
EXPLAINED = ("predicted", "true")
"""Which class is explained."""

ABOUT = """\
Held-out questions about a mosaic of four handwritten digits, of all four kinds in turn. Tokens of
the image and of the text go in the order of their relevance, by the paper's steps for LXMERT (0,
25, 50, 75, 80, 85, 90, 95 and 100%); the number is the area under the accuracy: for *negative*
perturbation, which removes the least relevant tokens first, higher is better, for *positive*, the
most relevant first, lower. *Mass* is the share of the image's positive relevance in the corners
that are asked about, *point* how often its most relevant patch is in one."""

Encode = Callable[[Any, Sequence[Sample]], Mapping[str, Tensor]]


def experiment(
    name: str,
    kind: str,
    model: str,
    weights: Path,
    paper: str,
    load: Callable[[], tuple[Any, Any]],
    encode: Encode,
    image: str,
    others: tuple[str, ...],
) -> Experiment:
    """The digit questions of one model.

    Parameters
    ----------
    name, model, kind
        What files call the experiment, pages the model, and both its kind of attention.
    weights
        The model's folder.
    paper
        What the paper found.
    load, encode
        The model with its tokenizer, and what makes its inputs.
    image
        The modality that is the image.
    others
        The methods that the paper found `generic` better than.
    """
    return Experiment(
        name=name,
        title=f"{model}: digit questions, {kind}",
        model=f"{kind} ({model})",
        weights=weights,
        about=ABOUT,
        paper=paper,
        parts=parts(load, encode, image),
        columns=columns(image),
        claims=claims(image, others),
        plots={f"{name}-image": ("true", image), f"{name}-text": ("true", "input_ids")},
    )


def parts(
    load: Callable[[], tuple[Any, Any]], encode: Encode, image: str
) -> dict[str, Callable[[Run], Results]]:
    """By the class that is explained, what evaluates all methods on held-out questions."""
    load = cache(load)  # so that the model is traced once
    return {
        explained: partial(_evaluate, load, encode, image, explained) for explained in EXPLAINED
    }


def _evaluate(
    load: Callable[[], tuple[Any, Any]], encode: Encode, image: str, explained: str, run: Run
) -> Results:
    model, tokenizer = load()
    samples = questions.draw_samples(split_digits()[1], run.samples, random.Random(run.seed))
    example = fxplain.Example(
        encode(tokenizer, samples),
        questions.encode_targets(samples),
        {image: questions.asked_patches(samples)},
    )
    return fxplain.evaluate(
        model,
        [example],
        run.methods,
        METRICS,
        target=explained,
        score="accuracy",
        steps="lxmert",
        tokenizer=tokenizer,
        batch_size=100,
        seed=run.seed,
        progress=run.progress,
    )


def columns(image: str) -> list[Column]:
    """The table's columns."""
    return [
        *perturbation_columns(image, "image", EXPLAINED),
        *perturbation_columns("input_ids", "text", EXPLAINED),
        Column(("asked corners", "mass"), "true", "relevance_mass", image),
        Column(("asked corners", "point"), "true", "pointing_game", image),
    ]


def claims(image: str, others: tuple[str, ...]) -> list[Claim]:
    """The paper's findings on question answering."""
    perturbed = [c for c in columns(image) if c.metric in ("positive", "negative")]
    return [
        Claim(
            f"the {name}'s perturbation", [c for c in perturbed if c.modality == modality], others
        )
        for name, modality in (("image", image), ("text", "input_ids"))
    ]
