"""``fxplain demo``: a small trained model's answers, and whether its relevance is where it should be.

The model reads a question about one or two corners of a mosaic of four digits. The corners are
known, so the explanation can be checked: of the image relevance, more than chance (a quarter per
corner) should lie in the corners that the question asks about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from rich.columns import Columns
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
    to_rich,
)

__all__ = ["Answer", "answer_questions", "run_demo"]

CHANCE = 1 / len(digits.CORNERS)
