"""How long an evaluation takes: held-out digit questions, eight methods, image and text perturbed.

python -m benchmarks.evaluation              # 500 questions
python -m benchmarks.evaluation --questions 50
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

import fxplain
from examples.tasks.digit_images import split_digits
from examples.tasks.questions import draw_samples, encode_lxmert, encode_targets
from fxplain.demo import digits
from fxplain.reports import to_rich

METHODS = (
    "generic",
    "transformer_attribution",
    "raw_attention",
    "rollout",
    "gradcam",
    "partial_lrp",
    "legrad",
    "input_x_gradient",
)
BAR_MINUTES = 10


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    model, tokenizer = digits.load_model()
    _, held_out = split_digits()
    samples = draw_samples(held_out, options.questions, random.Random(options.seed))
    inputs, answers = encode_lxmert(tokenizer, samples), encode_targets(samples)
    start, start_of_work = time.perf_counter(), time.process_time()
    found = fxplain.evaluate(
        model,
        [(inputs, answers)],
        METHODS,
        ("positive", "negative"),
        score="accuracy",
        tokenizer=tokenizer,
    )
    minutes = (time.perf_counter() - start) / 60
    work = (time.process_time() - start_of_work) / 60
    console = Console(width=120)
    console.print(to_rich(found))
    console.print(
        f"{options.questions} questions, {len(METHODS)} methods, {options.threads} threads: "
        f"{minutes:.2f} minutes (bar: {BAR_MINUTES}), {work:.2f} minutes of computing"
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"minutes": minutes, "core minutes": work, **found.to_dict()}, indent=1)
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--questions", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the questions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
