"""Peak memory of ``recompute=True`` by depth: ``python -m benchmarks.recompute [LAYERS ...]``.

BERT-base's sizes with more or fewer layers, random weights; MiB above what the process holds with
the model loaded, captured and analysed. Both explanations are compared: 1 where they differ.
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

import fxplain
from benchmarks.measure import Peak

LAYERS = (4, 12, 24)


def measured(layers: int, ids: Tensor) -> tuple[list[int], bool]:
    """MiB of the forward, of an explanation and of one that recomputes; whether the two agree."""
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=layers)
    model = BertForSequenceClassification(config).eval().requires_grad_(False)

    def explained(recompute: bool) -> Tensor:
        found = fxplain.explain(model, (ids,), target=0, recompute=recompute, verify="off")
        return found.relevance["input_ids"]

    def plain() -> Tensor:
        with torch.no_grad():
            return model(ids).logits

    explained(True)  # captures the model, and follows its tokens
    peak = Peak("cpu")
    answers: dict[bool, Tensor] = {}
    forward = peak.of(plain)
    again = peak.of(lambda: answers.update({True: explained(True)}))
    usual = peak.of(lambda: answers.update({False: explained(False)}))
    return [size >> 20 for size in (forward, usual, again)], torch.equal(*answers.values())


def main() -> int:
    """Print a row of the documentation's table for each depth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("layers", nargs="*", type=int, default=LAYERS, metavar="LAYERS")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()
    ids = torch.randint(5, 30_000, (options.samples, options.tokens))
    same = True
    print(
        "| layers | the model's own forward | explained | with `recompute=True` |\n|---|---|---|---|"
    )
    for layers in options.layers:
        row, equal = measured(layers, ids)
        print(f"| {layers} | " + " | ".join(map(str, row)) + " |", flush=True)
        same &= equal
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
