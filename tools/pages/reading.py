"""Reading back: the numbers on a page against those of what is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import playwright.sync_api

import fxplain
from fxplain.explanation.shown import shown
from fxplain.generation import Generation
from fxplain.reports.shading import signed_percent
from tools.pages.page import Page

__all__ = ["wrong_numbers"]

DIGITS, FEW_DIGITS, SMALL = 6e-4, 6e-3, 1e-4
"""Tables show four digits, of very small numbers three."""

PACKED = 2 / 65535
"""Matrices have 16 bits a number, which are off by a part of the largest one."""

TABLES = """() => {
  document.querySelectorAll("details").forEach((details) => (details.open = true));
  return [...document.querySelectorAll(".panel")].map((panel) => [
    panel.querySelector("h3").textContent,
    [...panel.querySelectorAll("details tbody tr")].map((row) => row.lastElementChild.textContent),
  ]);
}"""
RANKED = """() => [...document.querySelectorAll("table.ranking:not(.classes) tbody tr")].map((row) =>
  [...row.querySelectorAll("td.number")].map((cell) => cell.textContent))"""
WORDS = """() => [...document.querySelectorAll(".columns > section")].map((column) =>
  [...column.querySelectorAll(".shaded [data-value]")].map((word) => Number(word.dataset.value)))"""


def wrong_numbers(page: playwright.sync_api.Page, about: Page, result: Any) -> Iterator[str]:
    """What a page says that the explanation does not."""
    if about.beside:
        yield from _beside(page, result)
    elif isinstance(result, Generation):
        yield from _differing(page, lambda name: _of_first_output(result, name), rounded=True)
    elif isinstance(result, (fxplain.Explanation, list)):
        first = result if isinstance(result, fxplain.Explanation) else result[0]
        yield from _differing(page, lambda name: _of_first_sample(first, name))
        yield from _ranked(page, first)
        said = page.locator(".headline").first.text_content() or ""
        if f"{first.scores[0]:.4g}" not in page.content() or not said:
            yield "the score or the sentence is missing"


def _of_first_sample(explanation: fxplain.Explanation, name: str) -> Sequence[float]:
    """Beside the identity; a token that is read alone keeps its own 1 in the table."""
    values = explanation.beyond_identity()[name][0].clone()
    alone = explanation.apart(name, 0)
    values[alone] = explanation.relevance[name][0, alone]
    found: list[float] = values.tolist()
    return found


def _ranked(page: playwright.sync_api.Page, explanation: fxplain.Explanation) -> Iterator[str]:
    """What the list of the largest says, numbers and shares, against `Explanation.top`."""
    own = explanation.top(10)
    rows = page.evaluate(RANKED)
    numbers = [_number(number) for number, _ in rows]
    if len(rows) != len(own) or not all(
        map(_alike, map(abs, numbers), (abs(entry.relevance) for entry in own))
    ):
        yield "the list of the largest has other numbers than the explanation"
    elif [share for _, share in rows] != [
        signed_percent(entry.share if entry.relevance >= 0 else -entry.share) for entry in own
    ]:
        yield "the list of the largest has other shares than the explanation"


def _of_first_output(generation: Generation, name: str) -> Sequence[float]:
    return generation.row(0, 0, name).tolist()


def _differing(
    page: playwright.sync_api.Page, expected: Any, *, rounded: bool = False
) -> Iterator[str]:
    """Panels whose tables have other numbers."""
    page.wait_for_timeout(50)
    page.evaluate(TABLES)
    page.wait_for_timeout(100)
    for heading, cells in page.evaluate(TABLES):
        name = heading.partition(" ")[0]
        if name == "Generated":
            continue
        own = expected(name)
        read = [_number(cell) for cell in cells]
        packed = PACKED * max(map(abs, own), default=0.0) if rounded else 0.0
        if len(read) != len(own) or not all(map(_alike, read, own, repeat(packed))):
            yield f"{name}: the table has other numbers than the explanation"


def _beside(page: playwright.sync_api.Page, explanations: Sequence[Any]) -> Iterator[str]:
    for explanation, read in zip(explanations, page.evaluate(WORDS), strict=True):
        texts = [m for m in explanation.modalities if explanation.is_text(m)]
        own = [entry.relevance for entry in shown(explanation) if entry.modality in texts]
        if len(read) != len(own) or not all(map(_alike, read, own)):
            yield "a column has other numbers than its explanation"


def _number(cell: str) -> float:
    return math.nan if cell == "\u2013" else float(cell)


def _alike(one: float, other: float, packed: float = 0.0) -> bool:
    few = abs(other) < SMALL
    return math.isclose(one, other, rel_tol=FEW_DIGITS if few else DIGITS, abs_tol=packed + 1e-12)
