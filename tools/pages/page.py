"""What one page is: a result, and what has to be on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fxplain

__all__ = ["Make", "Page", "write"]

Make = Callable[[], Any]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes
    ----------
    name
        The file's.
    make
        What is shown: an explanation, several (side by side, where `beside`), a generation, a graph.
    beside
        Whether explanations stand side by side, rather than one at a time.
    about
        What people should see in it.
    """

    name: str
    make: Make
    beside: bool = False
    about: str = ""


def write(pages: Iterator[Page], folder: Path) -> list[tuple[Page, Any]]:
    """Write every page; what is shown on each."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for page in pages:
        result = page.make()
        file = folder / f"{page.name}.html"
        if page.beside:
            fxplain.compare(result, file)
        else:
            fxplain.to_html(result, file)
        print(f"{page.name}: {file.stat().st_size // 1024} KB", flush=True)
        made.append((page, result))
    return made
