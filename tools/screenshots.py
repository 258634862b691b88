"""Photograph reports for the documentation: ``python -m tools.screenshots`` (needs Chromium).

Reports of the models that ship are opened in a browser, and what is seen is written to ``docs/images``.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from playwright.sync_api import Page

import fxplain
from examples.tasks import lookup
from fxplain.demo import digits
from tests.browser import Visit, launched

FOLDER = Path(__file__).parents[1] / "docs" / "images"
COLOURS = 256
"""Of a picture's palette, so that it is small."""


def answers(file: Path) -> None:
    """The demo's questions by three methods."""
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()[:3]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)
    explanations = [
        fxplain.explain(model, inputs, tokenizer=tokenizer, method=method)
        for method in ("generic", "rollout", "input_x_gradient")
    ]
    pictures = {"visual_feats": mosaics}
    fxplain.to_html(explanations, file, class_names=digits.ANSWERS, pictures=pictures)


def text(file: Path) -> None:
    """An answer of the T5 that looks keys up, with a span and a contrast."""
    model, tokenizer = lookup.load_model()
    inputs = lookup.encode(tokenizer, lookup.draw_lookups(1, random.Random(0)))
    del inputs["decoder_input_ids"]
    targets = [*range(7), fxplain.Span(0, 2), fxplain.Contrast(3, "c")]
    generation = fxplain.explain_generation(model, inputs, 8, targets, tokenizer=tokenizer)
    generation.to_html(file)


def pick(place: int) -> Callable[[Page], None]:
    """Choose a token of the first panel."""
    return lambda page: page.locator(".panel").first.locator(f"[data-place='{place}']").click()


def to_inputs(page: Page) -> None:
    """Scroll past the answer."""
    heading = page.get_by_role("heading", name="Input", exact=True)
    heading.evaluate("heading => heading.parentElement.scrollIntoView()")


def to_node(page: Page) -> None:
    """Choose a node of the graph."""
    page.locator(".mark[data-index='4']").click()


@dataclass(frozen=True)
class Shot:
    """A picture.

    Attributes
    ----------
    name
        The file's.
    report
        What writes the report.
    size
        Of the window: width and height.
    act
        What is done before.
    section
        The one section that is pictured, by its heading; the window by default.
    context
        Of the browser.
    """

    name: str
    report: Callable[[Path], None]
    size: tuple[int, int]
    act: Callable[[Page], None]
    section: str = ""
    context: dict[str, Any] = field(default_factory=dict)


SHOTS = (
    Shot("report", answers, (1080, 1240), pick(2)),
    Shot("report-phone", answers, (390, 844), to_inputs),
    Shot(
        "report-graph-dark", answers, (1080, 900), to_node, "Attention graph",
        {"color_scheme": "dark"},
    ),
    Shot("report-generation", text, (1080, 1400), pick(3)),
)  # fmt: skip


def main() -> None:
    """Write every picture."""
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        for shot in SHOTS:
            file = Path(folder) / f"{shot.name}.html"
            shot.report(file)
            width, height = shot.size
            viewport = {"width": width, "height": height}
            with Visit(browser, file, viewport=viewport, **shot.context) as visit:
                shot.act(visit.page)
                visit.page.wait_for_timeout(
                    300
                )  # what was scrolled stands, what was hovered is drawn
                target = FOLDER / f"{shot.name}.png"
                section = visit.page.locator(
                    "section", has=visit.page.get_by_role("heading", name=shot.section)
                )
                (section.first if shot.section else visit.page).screenshot(path=target)
            with Image.open(target) as picture:
                small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(target, optimize=True)
            print(f"{target.name}: {target.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
