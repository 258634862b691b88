"""What the training scripts have in common: the loop and the command line."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from examples.tasks.digit_images import DigitImages, split_digits

WARMUP_STEPS = 100


def learning_rate(step: int, steps: int, peak_rate: float) -> float:
    """A linear rise to the peak, then half a cosine down to zero."""
    if step < WARMUP_STEPS:
        return peak_rate * (step + 1) / WARMUP_STEPS
    return (
        peak_rate * 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))
    )


def fit(model: nn.Module, loss_at: Callable[[int], Tensor], steps: int, peak_rate: float) -> None:
    """Train a model in place, and leave it in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        What learns.
    loss_at : callable
        The loss of a step: draws a batch and runs the model on it.
    steps : int
        How many.
    peak_rate : float
        The learning rate after the first 100 steps; it ends at zero.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    start, losses = time.perf_counter(), []
    model.train()
    for step in range(steps):
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak_rate)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) == 100 or step + 1 == steps:
            seconds = time.perf_counter() - start
            mean = sum(losses) / len(losses)
            print(f"step {step + 1:5d}  loss {mean:.3f}  {seconds:4.0f} s", flush=True)
            losses.clear()
    model.eval()


def command_line(description: str | None, folder: Path) -> argparse.ArgumentParser:
    """The options of every training script; `folder` is where its model lies."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="only check the model that is already there"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the initial weights and of all that is drawn in training",
    )
    parser.add_argument("--folder", type=Path, default=folder, help="the model's folder")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options that were typed, with the threads and the seed set that they ask for."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    return arguments


def train_on_digits(
    description: str | None,
    folder: Path,
    train: Callable[[DigitImages, int], PreTrainedModel],
    check: Callable[[Path, DigitImages], None],
) -> None:
    """The script of a model of images alone: train, save and check it, or only check it.

    Parameters
    ----------
    description : str
        The script's docstring.
    folder : Path
        Where its model lies.
    train : callable
        From digit images and a seed to a trained model.
    check : callable
        Prints what the model in a folder makes of held-out digit images.
    """
    arguments = begin(command_line(description, folder))
    training, held_out = split_digits()
    if not arguments.check:
        train(training, arguments.seed).save_pretrained(arguments.folder)
    check(arguments.folder, held_out)


def print_size(folder: Path) -> None:
    """Print how large a saved model's weights are."""
    print(f"weights: {(folder / 'model.safetensors').stat().st_size / 1e6:.2f} MB")
