"""Would compiling a tile help? ``python -m benchmarks.compiled`` prints what it costs either way.

A tile is what `fxplain.methods.node_maps` makes of a fused attention node at a time: the weights of
some queries, their gradients, the map, and its product with the rows that are read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.measure import interleaved, ratio, seconds, spread
from fxplain.methods.node_maps import LARGE_TILE, TILE
from fxplain.methods.rules import attention_map
from fxplain.rewriting.fused import scaled_scores
from fxplain.run import Scratch

Tile = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

SIZES = ((12, 512), (8, 2_048), (8, 4_096))
"""Heads and tokens."""


def plain(query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, rows: Tensor) -> Tensor:
    """Sum over heads and queries of rows x max(0, A x dy/dA)."""
    weights = torch.softmax(query @ key.transpose(-1, -2), -1)
    weighed = (weights * (gradient @ value.transpose(-1, -2))).clamp(min=0)
    return (weighed * rows).sum((0, 1))


def in_scratch(scratch: Scratch) -> Tile:
    """The same in memory that is used again, as fxplain makes it on a processor."""

    def made(query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, rows: Tensor) -> Tensor:
        shape = (*query.shape[:-1], key.shape[-2])
        first, second = (scratch.take(name, shape, query) for name in ("weights", "gradient"))
        weights = torch.softmax(scaled_scores(query, key, 1.0, out=first), -1, out=first)
        made = torch.matmul(gradient, value.transpose(-1, -2), out=second)
        weighed = attention_map(weights, made, out=made).flatten(0, 1)
        return rows.expand(len(query), -1, -1).reshape(1, -1) @ weighed

    return made


def whole(tile: Tile, operands: tuple[Tensor, ...], rows: Tensor, size: int) -> Tensor:
    """One node, a tile at a time."""
    query, key, value, gradient = operands
    total = torch.zeros(key.shape[-2], device=key.device)
    with torch.no_grad():
        for start in range(0, query.shape[1], size):
            part = slice(start, start + size)
            made = tile(query[:, part], key, value, gradient[:, part], rows[part])
            total += made.flatten()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    device = parser.parse_args().device
    compiled = torch.compile(plain, dynamic=True)
    tiles: dict[str, Tile] = {
        "plain": plain,
        "as fxplain makes it": in_scratch(Scratch()),
        "compiled": compiled,
    }
    table = Table("heads, tokens", *tiles, "compiled / as fxplain makes it", "compiling")
    table.title = f"Milliseconds for one node, {device}"
    for heads, tokens in SIZES:
        operands = tuple(torch.randn(4, heads, tokens, 64, device=device).unbind(0))
        rows = torch.rand(tokens, 1, device=device)
        size = max(1, TILE.get(device, LARGE_TILE) // (heads * tokens))
        calls = {name: partial(whole, tile, operands, rows, size) for name, tile in tiles.items()}
        first = {name: seconds(call) for name, call in calls.items()}
        times = interleaved(calls, runs=9, budget=30)
        found = ratio(times["compiled"], times["as fxplain makes it"])
        table.add_row(
            f"{heads}, {tokens:,}",
            *(f"{1e3 * float(spread(values)['median']):.1f}" for values in times.values()),
            f"{found['median']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f})",
            f"{first['compiled']:.1f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
