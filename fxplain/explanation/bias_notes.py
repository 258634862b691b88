"""Bias notes: what biases get in a backward pass, by the token at which each acts, and by its name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import Capture, module_path
from fxplain.methods import Biases, BornTokens
from fxplain.program import Program, sample_axes
from fxplain.rewriting.biases import LAYOUTS
from fxplain.tokens import Level, TokenFlow, operation

__all__ = ["BiasNotes", "Rows", "rows_of"]

Rows = dict[fx.Node, Tensor]
"""By node, the token of each element in as many axes, of size 1 where it does not vary; -1 of none."""


def rows_of(program: Program, flow: TokenFlow) -> tuple[Rows, Rows]:
    """Of every value, its tokens, those of inputs alone, and its samples. Needs a `flow` with tags."""
    known = torch.zeros(len(flow.book), dtype=torch.bool)
    for modality in program.modalities:
        known[modality.every[modality.every >= 0]] = True
    rows: Rows = {}
    for node, tags in flow.tags.items():
        for tag in tags:
            if tag.level >= Level.PARAMETER_TOKEN and tag.softmax is None:
                tokens = flow.book.find(tag.tokens)
                rows[node] = torch.where(known[tokens.clamp(min=0)] & (tokens >= 0), tokens, -1)
                break
    return rows, sample_axes(flow)


class BiasNotes:
    """Takes down what each addition gets, while gradients come.

    Parameters
    ----------
    captured, program
        What runs.
    rows
        As `rows_of` gives them.
    batch
        How many samples there are.
    """

    def __init__(
        self, captured: Capture, program: Program, rows: tuple[Rows, Rows], batch: int
    ) -> None:
        self.rows, self.samples = rows
        self.count, self.batch = len(program.flow.book), batch
        self.paths = {
            node: captured.state[node.name].path
            for node in captured.placeholders
            if node.name in captured.state
        }
        self.found = self._nothing()

    def _nothing(self) -> Biases:
        return Biases(torch.zeros(self.count), torch.zeros(self.batch))

    def __call__(self, node: fx.Node, source: Any, product: Tensor) -> None:
        """Take down what was added at a node, times its gradient."""
        samples = self._samples(node, product).to(product.device)
        tokens = self.rows.get(node)
        if tokens is None or tokens.dim() != product.dim():
            tokens = torch.full([1] * product.dim(), -1)
        nowhere = (tokens < 0).to(product.device)
        found, name = self.found, self._name(node, source)
        found.at = found.at + BornTokens(tokens, product, None).summed(product, self.count).cpu()
        found.beside = found.beside + self._by_sample(torch.where(nowhere, product, 0), samples)
        total = self._by_sample(product, samples)
        found.named[name] = found.named[name] + total if name in found.named else total

    def read(self) -> Biases:
        """What was taken down since it was last read."""
        found, self.found = self.found, self._nothing()
        return found

    def _samples(self, node: fx.Node, product: Tensor) -> Tensor:
        """The sample of each element; of a value that no token tells of, along its first axis."""
        known = self.samples.get(node)
        if known is not None and known.dim() == product.dim():
            return known
        if self.batch > 1 and product.shape[0] == self.batch:
            return torch.arange(self.batch).reshape(-1, *[1] * (product.dim() - 1))
        return torch.zeros([1] * product.dim(), dtype=torch.int64)

    def _by_sample(self, x: Tensor, samples: Tensor) -> Tensor:
        wide = x.float() if x.dtype is not torch.float64 else x
        found = wide.new_zeros(self.batch)
        found.index_add_(0, samples.expand(x.shape).flatten(), wide.flatten())
        return found.cpu()

    def _name(self, node: fx.Node, source: Any) -> str:
        """The path of the parameter, else of the module that adds."""
        while isinstance(source, fx.Node) and operation(source) in LAYOUTS:
            source = source.args[0]
        return self.paths.get(source) or module_path(node) or node.name
