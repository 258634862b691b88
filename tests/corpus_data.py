"""Texts for the tests of corpora, and a folder of rows explained from them."""

import csv
import random
from pathlib import Path

WORDS = (
    "the",
    "movie",
    "was",
    "great",
    "bad",
    "watching",
    "ada",
    "lived",
    "in",
    "a",
    "cat",
    "dog",
    "?",
)
TOO_LONG = 7
EMPTY = 11


def rows(count: int) -> list[dict[str, str]]:
    """Rows of 1 to 24 words, one of them empty and one too long for the model."""
    chance = random.Random(0)
    made = []
    for i in range(count):
        words = chance.choices(WORDS, k=90 if i == TOO_LONG else chance.randint(1, 24))
        text = "" if i == EMPTY else " ".join(words)
        made.append({"id": f"r{i}", "text": text, "label": ("bad", "good")[i % 2]})
    return made


def write_csv(path: Path, count: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text", "label"])
        writer.writeheader()
        writer.writerows(rows(count))
    return path
