"""Time a warm explanation against one forward and backward: ``python -m benchmarks``.

The floor of any gradient method is the gradient of the target with respect to the input embeddings,
with all parameters frozen. Runs are interleaved, and medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import fxplain


def bert(tokens: int, *, quick: bool) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    config = BertConfig(num_hidden_layers=4 if quick else 12)
    model = BertForSequenceClassification(config).eval().requires_grad_(False)
    return model, {"input_ids": torch.randint(5, 30_000, (1, tokens))}


def floor(model: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    """One forward, and one backward to the input embeddings."""
    embeddings = model.get_input_embeddings()(inputs["input_ids"]).requires_grad_()
    logits = model(inputs_embeds=embeddings).logits
    torch.autograd.grad(logits[:, 0].sum(), embeddings)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four layers instead of twelve")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    table = Table("model", "cold s", "floor s", "warm s", "warm / floor", "lowest to highest")
    for tokens in (128, 512):
        model, inputs = bert(tokens, quick=arguments.quick)
        cold = seconds(lambda: fxplain.explain(model, inputs, target=0))  # noqa: B023
        pairs = [
            (
                seconds(lambda: floor(model, inputs)),  # noqa: B023
                seconds(lambda: fxplain.explain(model, inputs, target=0)),  # noqa: B023
            )
            for _ in range(arguments.runs)
        ]
        ratios = sorted(warm / base for base, warm in pairs)
        table.add_row(
            f"BERT, {tokens} tokens",
            f"{cold:.1f}",
            f"{statistics.median(base for base, _ in pairs):.2f}",
            f"{statistics.median(warm for _, warm in pairs):.2f}",
            f"{statistics.median(ratios):.2f}",
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
