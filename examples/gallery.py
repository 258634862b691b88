"""The gallery: reports of the models that ship, as ``python -m examples.gallery FOLDER`` makes them.

Each piece is a report (``NAME.html``), and the same as a picture (``NAME.png``); ``index.md`` is a
page about all of them.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import fxplain
from examples import co_attention, encoder_decoder, windows
from examples.tasks import clutter, detection, lookup, questions
from examples.tasks.digit_images import split_digits
from fxplain.demo import digits

INTRODUCTION = """# Gallery

Reports of the models that come with fxplain, each one file: open it, choose a word, a patch or a node.
`make docs` makes them anew with `examples/gallery.py`. The calls:
[how to share a report](../how-to/share-a-report.md).
"""


@dataclass(frozen=True)
class Piece:
    """A report and its picture.

    Attributes
    ----------
    name
        The files' name.
    title, about
        What the page says of it.
    result
        What is shown: a graph, an explanation, several of one input, or a generated text.
    picture
        The first of them, drawn.
    extras
        What else the report knows, as `fxplain.to_html` takes it.
    """

    name: str
    title: str
    about: str
    result: Any
    picture: Figure
    extras: dict[str, Any] = field(default_factory=dict)


def answers() -> Iterator[Piece]:
    """What the demo's LXMERT looked at when it answered questions about a mosaic of digits."""
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()

    def ask(asked: Sequence[digits.Sample], **options: Any) -> fxplain.Explanation:
        texts = [sample.question.text for sample in asked]
        inputs = digits.encode(tokenizer, texts, mosaics(asked))
        return fxplain.explain(model, inputs, tokenizer=tokenizer, **options)

    def mosaics(asked: Sequence[digits.Sample]) -> torch.Tensor:
        return torch.stack([sample.mosaic for sample in asked])

    def drawn(e: fxplain.Explanation, sample: digits.Sample, place: int = 0) -> Figure:
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        fxplain.plot_text(e, "input_ids", sample=place, ax=left)
        fxplain.plots.plot_boxes(e, sample=place, image=sample.mosaic.numpy(), ax=right)
        return figure

    def seen(asked: Sequence[digits.Sample]) -> dict[str, Any]:
        return {"class_names": digits.ANSWERS, "pictures": {"visual_feats": mosaics(asked)}}

    one = samples[:1]
    methods = [ask(one, method=name) for name in ("generic", "rollout", "raw_attention", "lrp")]
    yield Piece(
        "one-corner",
        one[0].question.text,
        "The answer is read from `[CLS]`, which drew on patches of the corner that was asked about. "
        "The report switches to attention rollout, raw attention and LRP.",
        methods,
        drawn(methods[0], one[0]),
        seen(one),
    )
    two = [samples[3]]
    yield Piece(
        "two-corners",
        two[0].question.text,
        "Two corners are compared, and both are looked at. The matrix says which word asked for which "
        "patch.",
        compared := ask(two),
        fxplain.plot_matrix(compared, "input_ids", "visual_feats"),
        seen(two),
    )
    other = fxplain.Contrast(one[0].question.answer, "6")
    yield Piece(
        "contrast",
        f"Why {one[0].question.answer} rather than 6?",
        "A contrast explains the difference of two scores. By input x gradient relevance has a sign: "
        "orange speaks for the one, purple (blue in the report) for the other.",
        contrast := ask(one, target=other, method="input_x_gradient", gradients="corrected"),
        drawn(contrast, one[0]),
        seen(one),
    )
    yield Piece(
        "batch",
        f"{len(samples)} questions in one batch",
        "One forward and one backward explain all of them; the page switches between the samples.",
        batch := ask(samples),
        drawn(batch, samples[7], 7),
        seen(samples),
    )


def joint_answers() -> Iterator[Piece]:
    """What the small VisualBERT looked at: its words and patches are one sequence."""
    model, tokenizer = questions.load_visualbert()
    samples = digits.load_samples()[:4]
    inputs = questions.encode_visualbert(tokenizer, samples)
    explained = fxplain.explain(model, inputs, tokenizer=tokenizer)
    # the model is given the patches as a sequence: how they lie is known here alone
    explained = replace(explained, grids={**explained.grids, "visual_embeds": (4, 4)})
    yield Piece(
        "joint-sequence",
        "Questions and mosaics in one sequence",
        "This VisualBERT reads words and patches as one sequence, so that all of its attention is "
        "self-attention: relevance is told apart by where tokens come from.",
        explained,
        fxplain.plot_matrix(explained, "input_ids", "visual_embeds"),
        {
            "class_names": digits.ANSWERS,
            "pictures": {"visual_embeds": torch.stack([sample.mosaic for sample in samples])},
        },
    )


def classes() -> Iterator[Piece]:
    """What the small ViT looked at when it recognised a digit among fragments of others."""
    model = clutter.load_model()
    inputs = clutter.encode(clutter.draw_scenes(split_digits()[1], 1, random.Random(0)))
    methods = [
        fxplain.explain(model, inputs, method=name)
        for name in ("generic", "transformer_attribution", "rollout", "integrated_gradients")
    ]
    yield Piece(
        "clutter",
        "A digit among fragments of others",
        "The class is read from a CLS token. The report switches from `generic` to "
        "`transformer_attribution`, `rollout` and `integrated_gradients`.",
        methods,
        methods[0].plot("pixel_values"),
    )


def detections() -> Iterator[Piece]:
    """What the small DETR's object queries looked at when they found digits on a canvas."""
    model = detection.load_model()
    scenes = detection.draw_scenes(split_digits()[1], 1, random.Random(0))
    inputs = detection.encode(scenes)
    with torch.no_grad():
        found = detection.detections(model(**inputs))[0]
    explained = fxplain.explain(model, inputs, targets=[(each.query, each.digit) for each in found])
    yield Piece(
        "detections",
        f"{len(found)} digits found in a scene",
        "Each detection is an object query, explained by itself from one forward; the report switches "
        "between them. The blue frame is the box that the query predicts.",
        explained,
        explained[0].plot("pixel_values"),
    )


def texts() -> Iterator[Piece]:
    """What the small T5 drew on when it looked up three keys, word by word."""
    model, tokenizer = lookup.load_model()
    (asked,) = lookup.draw_lookups(1, random.Random(0))
    inputs = lookup.encode(tokenizer, [asked])
    del inputs["decoder_input_ids"]
    targets = [
        *range(len(asked.answer) + 1),
        fxplain.Span(0, 2),
        fxplain.Contrast(3, asked.answer[5]),
    ]
    yield Piece(
        "generated-text",
        f"{' '.join(asked.words)}: {' '.join(asked.answer)}",
        "Point at a word of the answer to see which words of the source, and which earlier words of "
        "the answer, it drew on. Two rows more: the first two words together, and why one digit rather "
        "than another.",
        written := fxplain.explain_generation(model, inputs, 8, targets, tokenizer=tokenizer),
        written.plot(),
    )


def graphs() -> Iterator[Piece]:
    """The attention that is found in models written from scratch."""
    for example, about in (
        (co_attention, "A question and an image that attend to each other, in einsum."),
        (encoder_decoder, "Hand-written attention, and a learned query that pools."),
        (windows, "Attention within shifted windows, and a class token."),
    ):
        graph = fxplain.inspect(*example.build())
        module = example.__name__.rpartition(".")[2]
        yield Piece(
            f"graph-{module.replace('_', '-')}",
            graph.model,
            f"{about} It needs no adapter: `examples/{module}.py` is the model and the one call.",
            graph,
            graph.plot(),
        )


def write(folder: Path) -> None:
    """Write every piece's files and the page about them."""
    folder.mkdir(parents=True, exist_ok=True)
    page = [INTRODUCTION]
    sections = (
        ("Answers", answers()),
        ("Answers from one sequence", joint_answers()),
        ("Classes", classes()),
        ("Detections", detections()),
        ("Generated text", texts()),
        ("Attention graphs", graphs()),
    )
    for heading, pieces in sections:
        page.append(f"## {heading}\n")
        for piece in pieces:
            print(f"gallery: {piece.name}", flush=True)
            fxplain.to_html(piece.result, folder / f"{piece.name}.html", **piece.extras)
            piece.picture.savefig(folder / f"{piece.name}.png", dpi=120, bbox_inches="tight")
            page.append(f"### {piece.title}\n")
            page.append(f"{piece.about} [Open the report]({piece.name}.html).\n")
            page.append(f"[![{piece.title}]({piece.name}.png)]({piece.name}.html)\n")
    (folder / "index.md").write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "build/gallery"))
