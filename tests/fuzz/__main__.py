"""``python -m tests.fuzz --seeds 300``: try random transformers, say what was not right."""

import argparse
import time
from collections import Counter
from pathlib import Path

import torch

from tests.fuzz.compare import OUTCOMES, Finding, tried
from tests.fuzz.rarer import TOPOLOGIES
from tests.fuzz.recipe import Recipe, draw
from tests.fuzz.shrink import shrunk, write


def recipe_of(seed: int, topologies: list[str]) -> Recipe:
    """Seeds go round the topologies, so that every run of a few dozen has them all."""
    return draw(seed, topologies[seed % len(topologies)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--topology", choices=sorted(TOPOLOGIES), action="append")
    parser.add_argument("--shrink", type=int, default=3, help="how many findings to shrink")
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--every-form", action="store_true", help="try each seed in every form")
    parser.add_argument("--minutes", type=float, help="try no more seeds after these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, findings = time.perf_counter(), []
    for seed in range(options.start, options.start + options.seeds):
        if options.minutes and time.perf_counter() - began > 60 * options.minutes:
            break
        recipe = recipe_of(seed, options.topology or list(TOPOLOGIES))
        finding = tried(recipe, options.every_form)
        findings.append(finding)
        if finding.outcome != "equal":
            show(finding)
    counts = Counter(finding.outcome for finding in findings)
    print(", ".join(f"{counts[name]} {name}" for name in OUTCOMES), end=" ")
    print(f"in {time.perf_counter() - began:.0f} s")
    bad = [
        finding for finding in findings if finding.outcome in ("wrong", "crashed", "false alarm")
    ]
    for finding in sorted(bad, key=lambda finding: -finding.off)[: options.shrink]:
        print("shrunk:", write(shrunk(finding, tried), options.output))
    return 1 if bad else 0


def show(finding: Finding) -> None:
    recipe = finding.recipe
    where = f"{recipe.seed} {recipe.topology} {finding.outcome} ({finding.form})"
    print(f"{where}: {finding.detail}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
