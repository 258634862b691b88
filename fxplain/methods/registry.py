"""Methods: a weighing of each node's map and an accumulation over the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.methods.relevancy import Relevancies
from fxplain.methods.rules import attention_map
from fxplain.program import Program
from fxplain.run import NodeRun

__all__ = ["Method", "methods", "resolve_method"]

Weighing = Callable[[NodeRun], Tensor]
Accumulation = Callable[[Program, Mapping[int, Tensor | None]], Relevancies]


@dataclass(frozen=True)
class Method:
    """An explanation method.

    Attributes
    ----------
    name
        What `explain(..., method=...)` calls it.
    source
        The paper.
    cost
        What it costs beside the model's own forward.
    weigh
        From what a node saw to its map, (..., queries, keys), before the mean over heads.
    accumulate
        From the maps of all nodes to relevancy matrices; takes the method's options.
    options
        Names of the options that `accumulate` takes.
    """

    name: str
    source: str
    cost: str
    weigh: Weighing
    accumulate: Callable[..., Relevancies]
    options: tuple[str, ...] = ()

    def relevancies(
        self, program: Program, runs: list[NodeRun], options: Mapping[str, Any]
    ) -> Relevancies:
        """The relevancy matrices for one run."""
        maps = {run.node.index: self._map(run) for run in runs}
        return self.accumulate(program, maps, **options)

    def _map(self, run: NodeRun) -> Tensor | None:
        """The head-averaged map of a node by token group, in float32 at least."""
        if run.gradient is None:
            return None
        weighed = self.weigh(run)
        wide = weighed if weighed.dtype is torch.float64 else weighed.float()
        return run.node.layout.mean_over_heads(wide)


def _gradient_times_attention(run: NodeRun) -> Tensor:
    """Equation 5 for one node."""
    attention, gradient = run.weights(), run.weights_gradient()
    wide = torch.promote_types(attention.dtype, gradient.dtype)
    return attention_map(attention.to(wide), gradient.to(wide))


_METHODS = {
    "generic": Method(
        name="generic",
        source="Chefer, Gur & Wolf, ICCV 2021, arXiv 2103.15679",
        cost="one forward, one backward",
        weigh=_gradient_times_attention,
        accumulate=Relevancies,
        options=("normalize", "self_in_bimodal"),
    ),
}


def methods() -> dict[str, Method]:
    """All explanation methods by name.

    Examples
    --------
    >>> import fxplain
    >>> fxplain.methods()["generic"].cost
    'one forward, one backward'
    """
    return dict(_METHODS)


def resolve_method(name: str, options: Mapping[str, Any]) -> Method:
    """The method of that name, its options checked.

    Raises
    ------
    MethodError
        When the method or one of the options is unknown.
    """
    method = _METHODS.get(name)
    if method is None:
        raise MethodError(f"unknown method {name!r}; there are: {', '.join(_METHODS)}.")
    unknown = [option for option in options if option not in method.options]
    if unknown:
        known = ", ".join(method.options) or "none"
        raise MethodError(f"method {name!r} has no option {unknown[0]!r}; its options: {known}.")
    return method
