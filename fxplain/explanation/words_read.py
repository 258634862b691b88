"""Words that a model reads: in which arguments, and what another word in their place is born as."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs, operation_name
from fxplain.errors import MethodError
from fxplain.program import BirthSite, Program
from fxplain.run import forward

__all__ = ["born_of_word", "vocabulary_sizes", "words_read"]


def words_read(inputs: ModelInputs, program: Program) -> dict[str, int]:
    """The arguments whose tokens are whole numbers, each with its place among the leaves."""
    read = {m.name.split("@")[0] for m in program.modalities}
    return {
        name: place
        for place, (name, leaf) in enumerate(zip(inputs.names, inputs.leaves, strict=True))
        if name in read and not (leaf.is_floating_point() or leaf.is_complex())
    }


def vocabulary_sizes(captured: Capture, names: Collection[str]) -> Iterator[int]:
    """How many entries the tables have that these arguments are looked up in.

    Tables of positions and of kinds of words, often as long as there are classes, are none.
    """
    for node in captured.graph_module.graph.nodes:
        if node.op != "call_function" or operation_name(node) != "embedding":
            continue
        table, root = node.args[:2]
        while root.op == "call_function" and root.args and isinstance(root.args[0], fx.Node):
            root = root.args[0]
        slot = captured.inputs.get(root.name)
        known = table.meta.get("val", table.meta.get("tensor_meta"))
        if slot is not None and slot.name in names and known is not None:
            yield int(known.shape[0])


def born_of_word(
    word: int,
    captured: Capture,
    model: nn.Module,
    inputs: ModelInputs,
    program: Program,
    births: Sequence[BirthSite],
) -> list[Tensor]:
    """What would be born at each site with one word in the place of each; 0 where no word is.

    Parameters
    ----------
    word
        Its number in the vocabulary.
    captured, model, inputs, program
        What is explained.
    births
        Where its tokens are born.

    Raises
    ------
    MethodError
        When the model reads no words, or has no such one.
    """
    places = words_read(inputs, program)
    if not places:
        raise MethodError(
            f"baseline={word} is the number of a word, and this model reads no words."
        )
    size = min(vocabulary_sizes(captured, places), default=None)
    if size is not None and word >= size:
        raise MethodError(f"baseline={word} is no word of this model, which knows 0 to {size - 1}.")
    known = torch.zeros(len(program.flow.book), dtype=torch.bool)
    for modality in program.modalities:
        if modality.name.split("@")[0] in places:
            known[modality.every[modality.every >= 0]] = True
    leaves = tuple(
        torch.full_like(leaf, word) if place in places.values() else leaf
        for place, leaf in enumerate(inputs.leaves)
    )
    args, kwargs = inputs.rebuild(leaves)
    written = replace(inputs, args=args, kwargs=kwargs, leaves=leaves)
    run = forward(captured, model, written, program, births=births)
    return [
        torch.where(_of(known, site).to(value.device), value.detach(), 0)
        for site, value in zip(births, run.births, strict=True)
    ]


def _of(known: Tensor, site: BirthSite) -> Tensor:
    """Which elements of a value are of known tokens."""
    return (site.tokens >= 0) & known[site.tokens.clamp(min=0)]
