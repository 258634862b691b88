"""Run the paper's experiments on the small models that ship, and write docs/results.md.

    python -m examples.miniature                        # all, on 500 samples each (minutes)
    python -m examples.miniature --samples 50 --only vit --folder /tmp/results

Each part is kept under build/miniature as soon as it is done: an interrupted run goes on where it
stopped, until the code or a model changes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from examples.miniature import record
from examples.miniature.clutter import CLUTTER
from examples.miniature.detection import DETECTION
from examples.miniature.experiment import Experiment, Run
from examples.miniature.findings import Findings, Found
from examples.miniature.lookup import LOOKUP
from examples.miniature.lxmert import LXMERT
from examples.miniature.methods import GENERIC, compared_methods
from examples.miniature.page import IMAGES, page
from examples.miniature.pictures import draw
from examples.miniature.visualbert import VISUALBERT

EXPERIMENTS = (LXMERT, VISUALBERT, CLUTTER, DETECTION, LOOKUP)
SAMPLES = 500
PAGE = "results.md"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    experiments = [e for e in EXPERIMENTS if not options.only or e.name in options.only]
    methods = {m: asked for m, asked in compared_methods().items() if m in options.methods}
    findings = []
    for experiment in experiments:
        found = results(experiment, options.samples, options.seed, methods, options.kept)
        draw(experiment, found, options.folder / IMAGES)
        print(f"{experiment.name}: paired tests", flush=True)
        findings.append(Findings(experiment, found))
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / options.page
    left_out = [each for each in EXPERIMENTS if each not in experiments]
    docs = "../" if options.folder.resolve().parent == record.ROOT / "docs" else ""
    text = page(findings, options.seed, _command(options), left_out, docs)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def results(
    experiment: Experiment, samples: int, seed: int, methods: Mapping[str, Any], folder: Path
) -> Found:
    """An experiment's results by part, those of an earlier run where there are any."""
    found = {}
    for part, find in experiment.parts.items():
        name = f"{experiment.name}-{part}"
        run = Run(samples, seed, methods, Progress(name))
        found[part] = record.kept(name, run, find, experiment.weights, folder)
    return found


class Progress:
    """Prints how far a part is, and how long it has taken."""

    def __init__(self, name: str) -> None:
        self.name, self.start = name, time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        seconds = time.monotonic() - self.start
        print(f"{self.name}: {done} of {total} samples, {seconds:.0f} s", flush=True)


def _command(options: argparse.Namespace) -> str:
    everything = not options.only and len(options.methods) == len(compared_methods())
    if everything and options.samples == SAMPLES and options.seed == 0:
        return "make paper"
    words = ["python -m examples.miniature", f"--samples {options.samples}"]
    if options.seed:
        words.append(f"--seed {options.seed}")
    if len(options.methods) < len(compared_methods()):
        words.append("--methods " + " ".join(repr(method) for method in options.methods))
    if options.only:
        words.append(f"--only {' '.join(options.only)}")
    if options.page != PAGE:
        folder = options.folder.resolve()
        here = folder.is_relative_to(record.ROOT)
        words.append(f"--folder {folder.relative_to(record.ROOT) if here else options.folder}")
        words.append(f"--page {options.page}")
    return " ".join(words)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.miniature",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [experiment.name for experiment in EXPERIMENTS]
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"(default {SAMPLES})")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[*compared_methods()],
        choices=[*compared_methods()],
        metavar="METHOD",
        help="rows of the tables, generic among them (default all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument(
        "--folder", type=Path, default=record.ROOT / "docs", help="of the page and the pictures"
    )
    parser.add_argument("--page", default=PAGE, help=f"its name (default {PAGE})")
    parser.add_argument(
        "--kept", type=Path, default=record.FOLDER, help="where finished parts are kept"
    )
    options = parser.parse_args(arguments)
    if GENERIC not in options.methods:
        parser.error(f"every method is compared with {GENERIC}: name it among --methods.")
    return options


if __name__ == "__main__":
    main()
