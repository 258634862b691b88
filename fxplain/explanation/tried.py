"""Tried: an explanation by what the model does when it is cut or disturbed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fxplain.arguments import only_known

if TYPE_CHECKING:
    from fxplain.evaluation.stability import Stability
    from fxplain.explanation.explanation import Explanation
    from fxplain.interventions import Check, Effects

__all__ = ["Tried"]

_INTERVENTIONS = "fxplain.interventions"  # imported when it is asked for: it stands above
_STABILITY = "fxplain.evaluation.stability"


class Tried:
    """The part of an `Explanation` that tries it on the model."""

    def intervene(self, cuts: Any, **options: Any) -> Effects:
        """Cut the model on the same inputs and target: `fxplain.intervene` without saying them again.

        Parameters
        ----------
        cuts
            As `fxplain.intervene` takes them. Of one sample, words are those that the explanation
            shows, all pieces of each.
        **options
            Of `fxplain.intervene`: ``reference=``, ``estimate=``, ``outputs=``, ``progress=``.

        Raises
        ------
        MethodError
            When the explanation was loaded, and has no model.
        ChangedModelError
            When the model says something else by now.
        """
        found: Effects = import_module(_INTERVENTIONS).intervene_on(self, cuts, **options)
        return found

    def check(self, k: int = 10, **options: Any) -> Check:
        """Cut what matters most, what matters least and what chance chooses, and look at the score.

        Parameters
        ----------
        k
            How many words, patches or other units at either end of the order (half of all at most).
        **options
            Of `fxplain.interventions.check`: ``sample=0``, ``units="word"`` (or "head", which cuts
            the heads by which relevance comes), ``draws=20`` of chance,
            ``to="mean"`` (what takes a token's place: "zero", or "reference" with ``reference=``),
            ``seed=0``, ``progress=``.

        Returns
        -------
        fxplain.interventions.Check
            The effects beside the claims; print it.

        Raises
        ------
        MethodError
            When the explanation was loaded, and has no model.
        ChangedModelError
            When the model says something else by now.
        """
        cut = import_module(_INTERVENTIONS).check
        only_known(cut, options, "Explanation.check", ("k",))
        found: Check = cut(self, k, **options)
        return found

    def stability(self, draws: int = 20, **options: Any) -> Stability:
        """How relevance and its order move with noise in the tokens and with silent heads.

        Parameters
        ----------
        draws
            How often the same target is explained.
        **options
            Of `fxplain.evaluation.stability.stability`: ``noise=0.05`` (relative to the size of each
            token's numbers), ``heads=0.1`` (how probably each is silent), ``units="word"``,
            ``level=0.9`` of the intervals, ``seed=0``.

        Returns
        -------
        fxplain.evaluation.Stability
            Intervals per unit, and rank correlations; print it. ``.marked()`` is the explanation
            whose reports show each number with its deviation.

        Raises
        ------
        MethodError
            When the explanation was loaded, and has no model, or was made by a unit method.
        ChangedModelError
            When the model says something else by now.
        """
        found: Stability = import_module(_STABILITY).stability(self, draws, **options)
        return found

    def signed(self) -> Explanation:
        """The same target by corrected input x gradient: what spoke for it and what against it.

        To be read beside a method that cannot tell; it costs one forward and one backward.

        Raises
        ------
        MethodError
            When the explanation was loaded, and has no model.
        NoGradientError
            When the model lets no gradient reach its tokens.
        ChangedModelError
            When the model says something else by now.
        """
        made: Explanation = import_module("fxplain.explanation.companion").signed_companion(self)
        return made
