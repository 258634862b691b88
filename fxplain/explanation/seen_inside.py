"""Seen inside: an explanation by what goes on between tokens and target."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fxplain.arguments import checked, number, whole
from fxplain.capture import NO_AUTOCAST

if TYPE_CHECKING:
    from fxplain.inside import (
        Contributions,
        Flow,
        HeadRelevance,
        LayerRelevance,
        Lens,
        Pairs,
        Paths,
    )

__all__ = ["SeenInside"]

_INSIDE = "fxplain.inside"  # imported when it is asked for: it stands above


class SeenInside:
    """The part of an `Explanation` that takes it apart."""

    def heads(self) -> HeadRelevance:
        """Relevance by attention node and head: who brings what the target draws on.

        Heads add up to their node, and nodes, with what the readout is of itself, to the whole.
        Where ``method="auto"`` chose a method that only scores tokens, they are told of the generic
        rules with corrected gradients in its place, and say so.

        Returns
        -------
        HeadRelevance
            Print it, or use ``.top(k)``, ``.by_node``, ``.table()``, ``.to_frame()``.

        Raises
        ------
        MethodError
            When a method was asked for that does not sum over chains of attention ("generic" and
            "weighted_accumulation" do), or the explanation was loaded from a file.
        """
        made: HeadRelevance = _made("heads", self)
        return made

    def layers(self) -> LayerRelevance:
        """Relevance by attention node in the order of depth: `heads`, summed over each node's.

        Raises
        ------
        MethodError
            As `heads` does.
        """
        made: LayerRelevance = _made("layers", self)
        return made

    @checked(k=whole(1, 10_000))
    def paths(self, k: int = 10, *, sample: int = 0) -> Paths:
        """The k strongest chains of attention: token -> (node, head) -> token -> ... -> readout.

        The explanation is the sum over all chains, each the product of its heads' maps over the number
        of heads; these bring it most.

        Parameters
        ----------
        k
            How many.
        sample
            Which of the batch.

        Returns
        -------
        Paths
            The strongest first, each with ``.hops``, ``.token``, ``.relevance`` and its ``.share`` of
            all that attention gives; print it.

        Raises
        ------
        MethodError
            As `heads` does.
        """
        made: Paths = _made("paths", self, k, sample)
        return made

    @checked(share=number(0, 1))
    def flow(self, share: float = 0.9, *, sample: int = 0) -> Flow:
        """The graph of tokens at attention nodes along which most of the relevance flows.

        Edges are the steps of all chains; the fewest strongest are kept whose chains bring `share`.

        Parameters
        ----------
        share
            The part of what attention gives that the graph is to bring.
        sample
            Which of the batch.

        Returns
        -------
        Flow
            ``.to_networkx()``, ``.to_html(path)``, ``.plot()``; ``.kept`` is what it brings.

        Raises
        ------
        MethodError
            As `heads` does.
        """
        made: Flow = _made("flow", self, share, sample)
        return made

    def contributions(self) -> Contributions:
        """What each head, layer and bias adds straight to the score: `fxplain.direct_contributions`.

        Raises
        ------
        MethodError
            When the explanation was loaded from a file.
        """
        made: Contributions = _made("contributions", self)
        return made

    @checked(steps=whole(1, 1000))
    def pairs(self, a: str | None = None, b: str | None = None, *, steps: int = 8) -> Pairs:
        """What pairs of tokens of two inputs add to the score together: for models with two towers.

        P_ij = the integral over both paths from no tokens, alpha and beta from 0 to 1, of
        a_i (d2 s / da_i db_j at alpha a, beta b) b_j; for s = f(a) . g(b) the product of both towers'
        integrated Jacobians. They add up to s(a, b) - s(0, b) - s(a, 0) + s(0, 0).

        Parameters
        ----------
        a, b
            Modality names; of an explanation with two they may be left out.
        steps
            How many points each of both paths has; the cost is `steps` squared forwards, and as many
            backwards as `a` has tokens in each.

        Returns
        -------
        fxplain.inside.Pairs
            ``.values`` (batch, tokens of a, tokens of b), which add up to ``.promised``; print it.

        Raises
        ------
        ModalityError
            When there is no such modality.
        MethodError
            When two are not told, or the explanation was loaded from a file.
        NoGradientError
            When the score lets no gradient reach one of them.

        References
        ----------
        Moeller, Nikolaev & Pado, "Approximate Attributions for Off-the-Shelf Siamese Transformers",
        EACL 2024, arXiv 2402.02883.
        """
        made: Pairs = _made("pairs", self, a, b, steps)
        return made

    def lens(self) -> Lens:
        """What the model's own head says after each layer: `fxplain.logit_lens`.

        Raises
        ------
        MethodError
            When there is no head behind one residual stream, or the explanation was loaded.
        """
        made: Lens = _made("lens", self)
        return made


def _made(what: str, *asked: Any) -> Any:
    with NO_AUTOCAST.again():
        return getattr(import_module(_INSIDE), what)(*asked)
