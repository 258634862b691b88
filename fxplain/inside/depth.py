"""Depth: how many attention nodes stand one above the other."""

from __future__ import annotations

from torch import Tensor

from fxplain.program import Program

__all__ = ["depths"]


def depths(program: Program) -> dict[int, int]:
    """For each attention node the most nodes on a way up to it, itself counted; by its index.

    A way leads over what a node's queries and keys have absorbed.
    """
    found: dict[int, int] = {}
    for index in sorted([*program.nodes, *program.routes]):
        node = program.nodes.get(index)
        if node is None:
            read: list[int | Tensor] = [entry.version for entry in program.routes[index].entries]
        else:
            read = [node.row_versions, *(block.versions for block in node.blocks)]
        below = (update for version in read for update in _absorbed(program, version))
        found[index] = max((found.get(update, 0) for update in below), default=0)
        found[index] += node is not None
    return {index: found[index] for index in program.nodes}


def _absorbed(program: Program, version: int | Tensor) -> set[int]:
    versions = [version] if isinstance(version, int) else version.unique().tolist()
    return set().union(*(program.versions.of(int(v)) for v in versions))
