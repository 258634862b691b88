"""``python -m benchmarks.live``: how soon the live page answers one person, and twenty at once.

A tiny BERT behind uvicorn on this machine; every question is another text of the same length, asked
over HTTP as the page asks it.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

import fxplain
from fxplain.serving import Desk
from tests import small_pretrained
from tests.live_server import address_of

WORDS = ("the", "movie", "was", "great", "bad", "cat", "dog", "london")
PEOPLE = 20


def asked(address: str, what: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Milliseconds to the answer, and the answer."""
    body = json.dumps(what).encode()
    question = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    start = time.perf_counter()
    with urllib.request.urlopen(question) as answer:
        told: dict[str, Any] = json.load(answer)
    return 1000 * (time.perf_counter() - start), told


def main() -> None:
    """Print the times."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        explainer = fxplain.from_pretrained(small_pretrained.save("classifier", Path(folder)))
    texts = [" ".join((WORDS[i % 8], WORDS[i // 8 % 8], "was", "bad")) for i in range(60)]
    with address_of(Desk(explainer)) as address:
        cold, _ = asked(f"{address}/explain", {"text": texts[0]})
        alone = [asked(f"{address}/explain", {"text": text}) for text in texts]
        cuts = [
            asked(f"{address}/cut", {"id": told["id"], "tokens": {"input_ids": [1 + i % 4]}})[0]
            for i, (_, told) in enumerate(alone[-20:])
        ]
        with ThreadPoolExecutor(PEOPLE) as pool:
            together = list(
                pool.map(lambda text: asked(f"{address}/explain", {"text": text})[0], texts)
            )
    console.print(f"first answer of all, with capture: {cold:.0f} ms")
    for what, times in (
        ("a warm answer", [each for each, _ in alone]),
        ("a word struck out", cuts),
        (f"a warm answer with {PEOPLE} people at once", together),
    ):
        low, high = min(times), max(times)
        console.print(f"{what}: median {statistics.median(times):.0f} ms ({low:.0f} to {high:.0f})")


if __name__ == "__main__":
    main()
