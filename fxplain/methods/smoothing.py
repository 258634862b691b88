"""Smoothing: methods that ask another method many times, each time with noise in the tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from fxplain.arguments import TEXT, Form, number, whole
from fxplain.methods.method import HasOptions, Method, Option

__all__ = ["SMOOTHING_METHODS", "Smoothing"]


@dataclass(frozen=True)
class Smoothing(HasOptions):
    """What is made of the relevance that another method finds with noise in the tokens.

    Attributes
    ----------
    name, source, cost, about
        As of a `fxplain.methods.Method`.
    combine
        From relevance by draw, (draws, ...), to relevance.
    spread
        From the same to its standard error; None where none is told.
    equation
        What is made of M(x), what the other method says of tokens x.
    """

    name: str
    source: str
    cost: str
    combine: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor], Tensor] | None
    about: str
    equation: str = ""

    @property
    def options(self) -> Mapping[str, Option]:
        """Its own; those of the method that it asks come with `around`."""
        return _OWN

    def around(self, method: Method) -> Method:
        """The method that asks `method`, whose options are its own, too."""
        return replace(
            method,
            name=self.name,
            source=self.source,
            cost=self.cost,
            options={**_OWN, **method.options},
            about=self.about,
            smoothing=self,
            equation=self.equation,
        )


_OWN: Mapping[str, Option] = {
    "of": Option(
        "input_x_gradient",
        "the method that is asked, whose options are taken, too",
        form=Form("the name of a method that scores by attention or gradients", TEXT.fits),
    ),
    "draws": Option(16, "how many times it is asked", form=whole(2, 10_000)),
    "noise": Option(
        0.1,
        "deviation of the noise in each token's embedding, relative to the size of its numbers",
        form=number(0, 100, inside=True),
    ),
    "seed": Option(0, "of the noise", form=whole(0, (1 << 63) - 1)),
}


def _mean(drawn: Tensor) -> Tensor:
    return drawn.mean(0)


def _error_of_mean(drawn: Tensor) -> Tensor:
    error: Tensor = drawn.std(0) / len(drawn) ** 0.5
    return error


def _variance(drawn: Tensor) -> Tensor:
    return drawn.var(0)


SMOOTHING_METHODS = {
    method.name: method
    for method in (
        Smoothing(
            "smoothgrad",
            "Smilkov et al., 2017, arXiv 1706.03825",
            "`draws` + 1 times that of the method asked",
            _mean,
            _error_of_mean,
            "the mean relevance with noise in the embeddings, by any other method (of=)",
            "1/n sum over n draws of M(x + e), e ~ N(0, noise^2 mean(x^2))",
        ),
        Smoothing(
            "vargrad",
            "Adebayo et al., 2018, arXiv 1810.03307",
            "`draws` + 1 times that of the method asked",
            _variance,
            None,
            "the variance of relevance with noise in the embeddings, by any other method (of=)",
            "1/(n - 1) sum over n draws of (M(x + e) - their mean)^2, e ~ N(0, noise^2 mean(x^2))",
        ),
    )
}
"""Every smoothing method by its name."""
