"""Endurance: threads on cold models, and memory over many calls (``python -m benchmarks.endurance``).

Eight threads explain four models that nobody explained before, twenty times over, and each number is
compared with what one thread alone finds. Then a model that is recorded meets a thousand inputs, one
that is exported a thousand lengths, and one a hundred updates of its weights; said after each tenth
is how much the process holds, which must not grow once its bounded memories are full.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

import fxplain

THREADS, ROUNDS = 8, 20
INPUTS, LENGTHS, UPDATES = 1000, 1000, 100
LONGEST = 1024
MOST_MEGABYTES = 32
"""How much more may be held at the end than halfway: what the allocator keeps comes and goes."""


class Reader(nn.Module):
    """A layer of attention over words."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.attention = nn.MultiheadAttention(16, heads, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        scores: Tensor = self.head(x[:, 0])
        return scores


class Branching(Reader):
    """A branch on data, so that each input is recorded."""

    def forward(self, input_ids: Tensor) -> Tensor:
        scores = super().forward(input_ids)
        return scores * 2 if bool(scores.sum() > -1e9) else scores


MODELS = (lambda: Reader(), lambda: Reader(4), lambda: Branching(), lambda: Branching(4))


def made(number: int, seed: int) -> nn.Module:
    """One of the four kinds, with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[number]().eval()


def words(length: int, seed: int = 0) -> Tensor:
    """(1, length) ids."""
    return torch.randint(50, (1, length), generator=torch.Generator().manual_seed(seed))


def relevance(model: nn.Module, ids: Tensor) -> Tensor:
    """Of each word."""
    return fxplain.explain(model, (ids,), target=1).relevance["input_ids"]


# ---- threads ------------------------------------------------------------------------------------


def right_in_threads(rounds: int) -> tuple[int, int]:
    """How many explanations of cold models are right, of how many."""
    right = asked = 0
    for round_ in range(rounds):
        seeds = [4 * round_ + number for number in range(4)]
        inputs = [words(5 + number, seed) for number, seed in enumerate(seeds)]
        models = [made(number, seed) for number, seed in enumerate(seeds)]
        found = _by_threads(models, inputs)
        alone = [relevance(made(i, seeds[i]), ids) for i, ids in enumerate(inputs)]
        for answers in found:
            asked += len(models)
            right += sum(_equal(a, b) for a, b in zip(answers, alone, strict=True))
        print(f"round {round_ + 1}: {right} of {asked}", flush=True)
    return right, asked


def _by_threads(models: list[nn.Module], inputs: list[Tensor]) -> list[list[Tensor | Exception]]:
    start = threading.Barrier(THREADS)

    def run(thread: int) -> list[Tensor | Exception]:
        start.wait()
        answers: dict[int, Tensor | Exception] = {}
        for step in range(len(models)):
            which = (thread + step) % len(models)
            try:
                answers[which] = relevance(models[which], inputs[which])
            except Exception as error:  # noqa: BLE001 - it counts as wrong, whatever it is
                answers[which] = error
        return [answers[which] for which in range(len(models))]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def _equal(answer: Tensor | Exception, expected: Tensor) -> bool:
    return isinstance(answer, Tensor) and torch.allclose(answer, expected, atol=1e-6)


# ---- memory -------------------------------------------------------------------------------------


def _held() -> tuple[int, float]:
    """Objects, and MiB of resident memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(gc.get_objects()), pages * resource.getpagesize() / 2**20


def _flat(name: str, count: int, call: Callable[[int], object]) -> bool:
    """Call so many times, saying what is held along the way; whether the second half added none."""
    said = []
    for i in range(count):
        call(i)
        if (i + 1) % max(1, count // 10) == 0:
            said.append(_held())
            objects, megabytes = said[-1]
            print(f"{name}: after {i + 1:,}: {objects:,} objects, {megabytes:.0f} MiB", flush=True)
    (objects, megabytes), (objects_after, megabytes_after) = said[len(said) // 2], said[-1]
    return objects_after < objects * 1.01 and megabytes_after < megabytes + MOST_MEGABYTES


def memory(share: float) -> bool:
    """Whether what the process holds is flat over many inputs, lengths and updates."""
    recorded, exported, trained = made(2, 0), made(0, 1), made(0, 2)
    longer = LONGEST - LENGTHS
    flat = [
        _flat(
            "inputs of a recorded model",
            int(INPUTS * share),
            lambda i: relevance(recorded, words(6, i)),
        ),
        _flat(
            "lengths",
            int(LENGTHS * share),
            lambda i: relevance(exported, words(longer + i * 619 % LENGTHS, i)),
        ),
    ]

    def update(_: int) -> None:
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter.add_(1e-3)
        relevance(trained, words(6))

    flat.append(_flat("updates of weights", int(UPDATES * share), update))
    return all(flat)


def main() -> int:
    """Print both; 1 where something was wrong, or memory grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--share", type=float, default=1.0, help="of the many calls")
    options = parser.parse_args()
    right, asked = right_in_threads(options.rounds)
    print(
        f"{THREADS} threads x {len(MODELS)} cold models x {options.rounds} rounds: {right} of {asked}"
    )
    flat = memory(options.share)
    print("memory is flat" if flat else "memory grows")
    return int(right < asked or not flat)


if __name__ == "__main__":
    sys.exit(main())
