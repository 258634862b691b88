"""Reading back: the numbers on a page against those of what is shown, whatever the page is of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import playwright.sync_api
import torch

import fxplain
from fxplain.explanation.shown import shown
from fxplain.generation import ActivationMaps, Generation
from fxplain.inside import Flow
from fxplain.reports.headline import headline
from fxplain.reports.shading import signed_percent
from fxplain.written import rounded
from tools.pages.page import Page

__all__ = ["wrong_numbers"]

DIGITS, FEW_DIGITS, SMALL = 6e-4, 6e-3, 1e-4
"""Tables show four digits, of very small numbers three."""

PACKED = 2 / 65535
"""Matrices have 16 bits a number, which are off by a part of the largest one."""

BYTE = 1 / 127
"""Where they do not fit so, they have 8."""

MOST = 12
"""So many samples, and so many outputs of a text, are looked at, the last ones too."""

CHANGE = """async (state) => {
  fxplain.change({ token: null, direction: "target", preview: null, ...state });
  document.querySelectorAll("details").forEach((details) => (details.open = true));
  await new Promise(requestAnimationFrame);
  await new Promise((done) => setTimeout(done, 20));
}"""
TABLES = """() => [...document.querySelectorAll(".panel")].map((panel) => [
    panel.querySelector("h3").textContent,
    [...panel.querySelectorAll("details tbody tr")].map((row) => row.lastElementChild.textContent),
  ])"""
RANKED = """() => [...document.querySelectorAll("table.ranking:not(.classes) tbody tr")].map((row) =>
  [...row.querySelectorAll("td.number")].map((cell) => cell.textContent))"""
SAID = """() => [".headline", ".answer"].map((part) => document.querySelector(part).textContent)"""
MATRIX = """([a, b]) => {
  const found = fxplain.relevancies(a, b);
  return found && [...found.values];
}"""
WORDS = """() => [...document.querySelectorAll(".columns > section")].map((column) =>
  [...column.querySelectorAll(".shaded [data-value]")].map((word) => Number(word.dataset.value)))"""
LARGEST = """() => [...document.querySelectorAll(".columns > section")].map((column) =>
  [...column.querySelectorAll("details")].map((part) => [
    part.querySelector("summary").textContent,
    [...part.querySelectorAll("tbody tr")].map((row) =>
      [...row.children].slice(1).map((cell) => cell.textContent)),
  ]))"""
EDGES = "() => [...document.querySelectorAll('.lines title')].map((edge) => edge.textContent)"
CAPTIONS = "() => [...document.querySelectorAll('figcaption')].map((one) => one.textContent.trim())"
NODES = """async () => {
  document.querySelectorAll("details").forEach((details) => (details.open = true));
  await new Promise((done) => setTimeout(done, 50));
  return document.body.textContent;
}"""


def wrong_numbers(page: playwright.sync_api.Page, about: Page, result: Any) -> Iterator[str]:
    """What a page says that its result does not, in whatever state it can be brought into."""
    if about.beside:
        yield from _beside(page, result)
    elif isinstance(result, Generation):
        yield from _of_generation(page, result)
    elif isinstance(result, (fxplain.Explanation, list)):
        given = result if isinstance(result, list) else [result]
        for number, explanation in enumerate(given):
            yield from _of_explanation(page, explanation, number)
    elif isinstance(result, Flow):
        told = sorted(each.rpartition(": ")[2] for each in page.evaluate(EDGES))
        if told != sorted(f"{edge.share:.1%}" for edge in result.edges):
            yield "the edges have other shares than the flow"
    elif isinstance(result, ActivationMaps):
        yield from _of_maps(page, result)
    elif isinstance(result, fxplain.AttentionGraph):
        text = page.evaluate(NODES)
        yield from (
            f"{node.module} is not told" for node in result.nodes if node.module not in text
        )
    else:
        yield f"nobody reads a page of a {type(result).__name__}"


# ---- explanations -------------------------------------------------------------------------------


def _of_explanation(
    page: playwright.sync_api.Page, explanation: fxplain.Explanation, number: int
) -> Iterator[str]:
    for sample in _some(explanation.batch_size):
        page.evaluate(CHANGE, {"explanation": number, "sample": sample})
        where = f"explanation {number}, sample {sample}"
        faults = [
            *_differing(page, lambda name, k=sample: _of_sample(explanation, name, k)),
            *_ranked(page, explanation, sample),
            *_said(page, explanation, sample),
            *_matrices(page, explanation, sample),
        ]
        yield from (f"{where}: {fault}" for fault in faults)


def _some(count: int) -> list[int]:
    return [*range(count)] if count <= MOST else [*range(MOST - 2), count - 2, count - 1]


def _of_sample(explanation: fxplain.Explanation, name: str, sample: int) -> Sequence[float]:
    """Beside the identity; a token that is read alone keeps its own 1 in the table."""
    values = explanation.beyond_identity()[name][sample].clone()
    alone = explanation.apart(name, sample)
    values[alone] = explanation.relevance[name][sample, alone]
    found: list[float] = values.tolist()
    return found


def _ranked(
    page: playwright.sync_api.Page, explanation: fxplain.Explanation, sample: int
) -> Iterator[str]:
    """What the list of the largest says, numbers and shares, against `Explanation.top`."""
    own = explanation.top(10, sample=sample)
    rows = page.evaluate(RANKED)
    numbers = [_number(number) for number, _ in rows]
    if len(rows) != len(own) or not all(
        map(_alike, map(abs, numbers), (abs(entry.relevance) for entry in own))
    ):
        yield "the list of the largest has other numbers"
    elif [share for _, share in rows] != [
        signed_percent(entry.share if entry.relevance >= 0 else -entry.share) for entry in own
    ]:
        yield "the list of the largest has other shares"


def _said(
    page: playwright.sync_api.Page, explanation: fxplain.Explanation, sample: int
) -> Iterator[str]:
    """The sentence on top, and the score."""
    sentence, answer = page.evaluate(SAID)
    if sentence != headline(explanation, sample, explanation.class_name):
        yield f"the sentence is {sentence!r}"
    score = float(explanation.scores[sample])
    told = answer.partition("Score")[2].partition("Read from")[0]
    if not _alike(_number(told.partition(" ")[0]), score):
        yield f"the score is {told}, not {score:.4g}"


def _matrices(
    page: playwright.sync_api.Page, explanation: fxplain.Explanation, sample: int
) -> Iterator[str]:
    """The relevancy matrices that are on the page, but for what packing rounds away."""
    names = explanation.modalities
    for a, b in ((a, b) for a in range(len(names)) for b in range(len(names))):
        read = page.evaluate(MATRIX, [a, b])
        if read is None or explanation.asked is None:
            continue
        own = explanation.matrix(names[a], names[b])[sample].detach().float().cpu()
        found = torch.tensor(read).reshape(own.shape)
        beside = own - torch.eye(*own.shape) if a == b else own  # a diagonal of 1 is kept apart
        most = beside.abs().amax(1, keepdim=True).clamp(min=1e-30)
        if bool(((found - own).abs() > BYTE * most + 1e-6).any()):
            yield f"matrix {names[a]}, {names[b]}: other numbers"


# ---- generated texts, and what else -------------------------------------------------------------


def _of_generation(page: playwright.sync_api.Page, generation: Generation) -> Iterator[str]:
    for sample in _some(generation.batch_size):
        targets = generation.real[sample].nonzero().flatten().tolist()
        for row in _some(len(targets)):
            page.evaluate(CHANGE, {"sample": sample, "output": row})
            faults = _differing(page, _row(generation, targets[row], sample), rounded_off=True)
            yield from (f"sample {sample}, output {row}: {fault}" for fault in faults)


def _row(
    generation: Generation, target: int, sample: int
) -> Callable[[str], Sequence[float]]:  # fmt: skip
    return lambda name: generation.row(target, sample, name).tolist()


def _of_maps(page: playwright.sync_api.Page, maps: ActivationMaps) -> Iterator[str]:
    own = [
        f"at most {rounded(float(row.max()), '.3g')}"
        for of_sample in maps.maps
        for row in of_sample
    ]
    read = page.evaluate(CAPTIONS)
    if len(read) != len(own) or not all(map(str.endswith, read, own)):
        yield "the maps have other numbers"


def _differing(
    page: playwright.sync_api.Page,
    expected: Callable[[str], Sequence[float]],
    *,
    rounded_off: bool = False,
) -> Iterator[str]:
    """Panels whose tables have other numbers."""
    for heading, cells in page.evaluate(TABLES):
        name = heading.partition(" ")[0]
        if name == "Generated":
            name = fxplain.generation.EARLIER
        own = expected(name)
        read = [_number(cell) for cell in cells]
        packed = PACKED * max(map(abs, own), default=0.0) if rounded_off else 0.0
        if len(read) != len(own) or not all(map(_alike, read, own, repeat(packed))):
            yield f"{name}: the table has other numbers"


def _beside(page: playwright.sync_api.Page, explanations: Sequence[Any]) -> Iterator[str]:
    words, largest = page.evaluate(WORDS), page.evaluate(LARGEST)
    for explanation, read, parts in zip(explanations, words, largest, strict=True):
        entries = shown(explanation)
        texts = [m for m in explanation.modalities if explanation.is_text(m)]
        own = [entry.relevance for entry in entries if entry.modality in texts]
        if len(read) != len(own) or not all(map(_alike, read, own)):
            yield "a column has other numbers than its explanation"
        for title, rows in parts:
            of_part = [e for e in entries if f"Numbers of {e.modality}:" in title and not e.apart]
            of_part = sorted((e for e in of_part if e.relevance), key=lambda e: -abs(e.relevance))
            if not rows or not all(
                _alike(_number(number), entry.relevance)
                and share == signed_percent(entry.share if entry.relevance >= 0 else -entry.share)
                for (number, share), entry in zip(rows, of_part, strict=False)
            ):
                yield f"{title}: other numbers than its explanation's"


def _number(cell: str) -> float:
    return math.nan if cell == "\u2013" else float(cell)


def _alike(one: float, other: float, packed: float = 0.0) -> bool:
    few = abs(other) < SMALL
    off = packed + 1e-12 + (FEW_DIGITS if few else DIGITS) * abs(other)  # packed, and then rounded
    return math.isclose(one, other, rel_tol=0.0, abs_tol=off)
