"""Methods: a weighing of each node's map and an accumulation over the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fxplain.errors import MethodError
from fxplain.methods import maps
from fxplain.methods.accumulation import Accumulation
from fxplain.methods.baselines import LastMaps, Rollout, SelfAttentionSum, SummedMaps
from fxplain.methods.evidence import Evidence, Needs
from fxplain.methods.relevancy import Relevancies
from fxplain.methods.tokens import TokenScores, relevance_of_births, value_times_gradient
from fxplain.rewriting import RULE_SETS

__all__ = ["PRESETS", "Method", "Option", "methods", "register_method", "resolve_method"]

Options = Mapping[str, Any]
Scores = Accumulation | TokenScores


@dataclass(frozen=True)
class Option:
    """An option of a method: its default, what it may be, and what it does."""

    default: Any
    about: str
    choices: tuple[Any, ...] | None = None

    def checked(self, name: str, value: Any) -> Any:
        """The value, if the option may have it."""
        if self.choices is not None and value not in self.choices:
            known = ", ".join(map(repr, self.choices))
            raise MethodError(f"option {name}={value!r} is none of {known}.")
        if self.choices is None and type(value) is not type(self.default):
            kind = type(self.default).__name__
            raise MethodError(f"option {name}={value!r} must be of type {kind}.")
        return value


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
    needs
        From options to the passes that it asks for.
    score
        From what the passes left behind, and options, to relevancy matrices or scores of tokens.
    options
        Its options by name.
    about
        One sentence.
    """

    name: str
    source: str
    cost: str
    needs: Callable[[Options], Needs]
    score: Callable[[Evidence, Options], Scores]
    options: Mapping[str, Option] = field(default_factory=dict)
    about: str = ""

    def with_options(self, given: Options) -> dict[str, Any]:
        """All options, with those that were given checked.

        Raises
        ------
        MethodError
            When one is unknown or out of range.
        """
        for name in given:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise MethodError(
                    f"method {self.name!r} has no option {name!r}; its options: {known}."
                )
        return {
            name: option.checked(name, given[name]) if name in given else option.default
            for name, option in self.options.items()
        }


# -- options --------------------------------------------------------------------------------------

_YES_NO = (True, False)
_START = Option(0, "leave out each modality's first attention nodes; negative counts from the last")
_SIGNED = Option(False, "keep the negative part", _YES_NO)
_GRADIENTS = {
    "gradients": Option(
        "plain",
        "corrected: statistics of norms and gates are constants (Ali et al. 2022, LibraGrad 2025)",
        ("plain", "corrected"),
    ),
    "attention": Option(
        "half",
        "of corrected gradients: weights and values share a gradient, or the weights are constant",
        ("half", "constant"),
    ),
}


def _rewriting(options: Options) -> str:
    if options["gradients"] == "plain":
        return "plain"
    return f"corrected:{options['attention']}"


def _gradient(options: Options) -> Needs:
    return Needs(gradient=True, rewriting=_rewriting(options))


def _gradient_and_perhaps_lrp(options: Options) -> Needs:
    of_lrp = options["attribution"] == "lrp"
    rules = options["rules"] if of_lrp else None
    return Needs(gradient=True, relevance=rules, rewriting=_rewriting(options))


def _gradient_and_lrp(options: Options) -> Needs:
    return Needs(gradient=True, relevance=options["rules"], rewriting=_rewriting(options))


def _nothing(_options: Options) -> Needs:
    return Needs()


# -- methods --------------------------------------------------------------------------------------


def _generic(evidence: Evidence, options: Options) -> Scores:
    of_lrp = options["attribution"] == "lrp"
    weigh = maps.gradient_times_relevance if of_lrp else maps.gradient_times_attention
    return Relevancies(
        evidence.program,
        evidence.maps(partial(weigh, signed=options["signed"])),
        normalize=options["normalize"],
        self_in_bimodal=options["self_in_bimodal"],
        aggregate=options["aggregate"],
        start_layer=options["start_layer"],
    )


def _weighted(evidence: Evidence, options: Options) -> Scores:
    weigh = partial(maps.weighted_by_values, signed=options["signed"])
    return Relevancies(
        evidence.program,
        evidence.maps(weigh),
        normalize=options["normalize"],
        start_layer=options["start_layer"],
    )


def _raw_attention(evidence: Evidence, options: Options) -> Scores:
    return LastMaps(evidence.program, evidence.maps(maps.attention), layer=options["layer"])


def _gradcam(evidence: Evidence, options: Options) -> Scores:
    finish = None if options["signed"] else _clamped
    made = evidence.maps(maps.head_weighted_attention, finish)
    return LastMaps(evidence.program, made, layer=options["layer"])


def _clamped(x: Any) -> Any:
    return x.clamp(min=0)


def _partial_lrp(evidence: Evidence, options: Options) -> Scores:
    weigh = maps.gradient_times_relevance if options["times_gradient"] else maps.relevance
    made = evidence.maps(partial(weigh, signed=options["signed"]))
    return LastMaps(evidence.program, made, layer=options["layer"])


def _rollout(evidence: Evidence, options: Options) -> Scores:
    of_lrp = options["attribution"] == "lrp"
    weigh = partial(maps.relevance, signed=False) if of_lrp else maps.attention
    made = evidence.maps(weigh)
    return Rollout(
        evidence.program,
        made,
        normalize=options["normalize"],
        start_layer=options["start_layer"],
    )


def _value_weighted(evidence: Evidence, options: Options) -> Scores:
    made = evidence.maps(maps.value_weighted_attention, _of_each_row)
    return Rollout(evidence.program, made, start_layer=options["start_layer"])


def _of_each_row(x: Any) -> Any:
    """Shares of each row, so that residual and attention weigh the same in a rollout."""
    return x / x.sum(-1, keepdim=True).clamp(min=1e-30)


def _transformer_attribution(evidence: Evidence, options: Options) -> Scores:
    weigh = partial(maps.gradient_times_relevance, signed=options["signed"])
    return SelfAttentionSum(
        evidence.program, evidence.maps(weigh), start_layer=options["start_layer"]
    )


def _legrad(evidence: Evidence, options: Options) -> Scores:
    weigh = partial(maps.attention_gradient, signed=options["signed"])
    return SummedMaps(evidence.program, evidence.maps(weigh), start_layer=options["start_layer"])


def _at_tokens(score: Callable[[Evidence], Any]) -> Callable[[Evidence, Options], Scores]:
    def scored(evidence: Evidence, options: Options) -> Scores:
        made: TokenScores = score(evidence)
        return made if options["signed"] else made.clamped()

    return scored


def _input_x_gradient_needs(options: Options) -> Needs:
    return Needs(gradient=True, births=True, rewriting=_rewriting(options))


def _integrated_needs(options: Options) -> Needs:
    if options["steps"] < 1:
        raise MethodError(f"option steps={options['steps']} must be at least 1.")
    return Needs(gradient=True, births=True, rewriting=_rewriting(options), steps=options["steps"])


_SIGNED_TOKENS = Option(True, "keep the negative part", _YES_NO)
_LAYER = Option(-1, "which node of each pair of modalities, in program order")
_NORMALIZE = Option(True, "normalise self-relevancies in bi-modal updates (eq. 8, 9)", _YES_NO)
_ATTRIBUTION = Option("attention", "what stands for A: its value, or its LRP", ("attention", "lrp"))
_RULES = Option("cvpr2021", "which rules of LRP", tuple(RULE_SETS))

CHEFER_2021 = "Chefer, Gur & Wolf, ICCV 2021, arXiv 2103.15679"
CVPR_2021 = "Chefer, Gur & Wolf, CVPR 2021, arXiv 2012.09838"

_METHODS = {
    method.name: method
    for method in (
        Method(
            "generic",
            CHEFER_2021,
            "one forward, one backward",
            _gradient_and_perhaps_lrp,
            _generic,
            {
                "normalize": _NORMALIZE,
                "self_in_bimodal": Option(True, "self-relevancies in eq. 10", _YES_NO),
                "aggregate": Option(True, "layers add; without, each replaces", _YES_NO),
                "attribution": _ATTRIBUTION,
                "rules": _RULES,
                "start_layer": _START,
                "signed": _SIGNED,
                **_GRADIENTS,
            },
            "gradient-weighted attention, accumulated by one rule per kind of attention",
        ),
        Method(
            "transformer_attribution",
            CVPR_2021,
            "two forwards, two backwards (one of relevance)",
            _gradient_and_lrp,
            _transformer_attribution,
            {"start_layer": _START, "signed": _SIGNED, "rules": _RULES, **_GRADIENTS},
            "gradient times LRP of attention, accumulated over self-attention",
        ),
        Method(
            "raw_attention",
            "the attention weights themselves",
            "one forward",
            _nothing,
            _raw_attention,
            {"layer": _LAYER},
            "attention of the last layer, averaged over heads",
        ),
        Method(
            "rollout",
            "Abnar & Zuidema, ACL 2020, arXiv 2005.00928; bi-modal as in " + CHEFER_2021,
            "one forward",
            lambda o: Needs(relevance=o["rules"] if o["attribution"] == "lrp" else None),
            _rollout,
            {
                "normalize": Option(True, "normalise the rows of A + I", _YES_NO),
                "attribution": _ATTRIBUTION,
                "rules": _RULES,
                "start_layer": _START,
            },
            "attention with residuals, multiplied over the layers",
        ),
        Method(
            "gradcam",
            "Selvaraju et al., ICCV 2017, arXiv 1610.02391; for attention as in " + CHEFER_2021,
            "one forward, one backward",
            _gradient,
            _gradcam,
            {"layer": _LAYER, "signed": _SIGNED, **_GRADIENTS},
            "attention of the last layer, heads weighed by their mean gradient",
        ),
        Method(
            "partial_lrp",
            "Voita et al., ACL 2019, arXiv 1905.09418",
            "one forward, one backward of relevance",
            lambda o: Needs(gradient=o["times_gradient"], relevance=o["rules"]),
            _partial_lrp,
            {
                "layer": _LAYER,
                "times_gradient": Option(False, "multiply it by the gradient", _YES_NO),
                "signed": Option(True, "keep the negative part of each head", _YES_NO),
                "rules": _RULES,
            },
            "LRP of the last layer's attention",
        ),
        Method(
            "lrp",
            CVPR_2021,
            "one forward, one backward of relevance",
            lambda o: Needs(relevance=o["rules"], births=True),
            _at_tokens(relevance_of_births),
            {"signed": _SIGNED_TOKENS, "rules": _RULES},
            "layer-wise relevance, propagated down to the tokens as they are born",
        ),
        Method(
            "input_x_gradient",
            "Shrikumar et al., 2016, arXiv 1605.01713",
            "one forward, one backward",
            _input_x_gradient_needs,
            _at_tokens(value_times_gradient),
            {"signed": _SIGNED_TOKENS, **_GRADIENTS},
            "a token's embedding times its gradient",
        ),
        Method(
            "integrated_gradients",
            "Sundararajan et al., ICML 2017, arXiv 1703.01365",
            "`steps` forwards and backwards",
            _integrated_needs,
            _at_tokens(value_times_gradient),
            {
                "steps": Option(20, "points between no tokens and all of them"),
                "signed": _SIGNED_TOKENS,
                **_GRADIENTS,
            },
            "a token's embedding times the gradient on the way from zero to it",
        ),
        Method(
            "legrad",
            "Bousselham et al., ICCV 2025, arXiv 2404.03214",
            "one forward, one backward",
            _gradient,
            _legrad,
            {"start_layer": _START, "signed": _SIGNED, **_GRADIENTS},
            "the gradients of all layers' attention, summed",
        ),
        Method(
            "value_weighted",
            "Kobayashi et al., EMNLP 2020, arXiv 2004.10102; rolled out as attention",
            "one forward",
            _nothing,
            _value_weighted,
            {"start_layer": _START},
            "attention weighed by the norms of the values that it brings",
        ),
        Method(
            "weighted_accumulation",
            "after Huang et al., 2023, arXiv 2308.10240",
            "one forward, one backward",
            _gradient,
            _weighted,
            {
                "normalize": _NORMALIZE,
                "start_layer": _START,
                "signed": _SIGNED,
                **_GRADIENTS,
            },
            "generic, each key weighed by the norm of its value",
        ),
    )
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip-notebook": ("generic", {"start_layer": -1}),
    "vit-baselines-rollout": ("rollout", {"normalize": True}),
    "transformer-attribution-rollout": ("rollout", {"normalize": False, "attribution": "lrp"}),
}
"""Published code that departs from its paper, as (method, options). See docs/methods.md."""


def methods() -> dict[str, Method]:
    """All explanation methods by name.

    Examples
    --------
    >>> import fxplain
    >>> fxplain.methods()["generic"].cost
    'one forward, one backward'
    """
    return dict(_METHODS)


def register_method(method: Method) -> None:
    """Make a method known by its name, to `explain` and to the command line of this process.

    Raises
    ------
    MethodError
        When there is a method of that name.
    """
    if method.name in _METHODS:
        raise MethodError(f"there is a method {method.name!r} already.")
    _METHODS[method.name] = method


def resolve_method(name: str, given: Options) -> tuple[Method, dict[str, Any]]:
    """The method of that name with all its options; `preset` names published code.

    Raises
    ------
    MethodError
        When the method, the preset or one of the options is unknown.
    """
    given = dict(given)
    preset = given.pop("preset", None)
    if preset is not None:
        if preset not in PRESETS:
            raise MethodError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}.")
        name, options = PRESETS[preset]
        given = {**options, **given}
    method = _METHODS.get(name)
    if method is None:
        raise MethodError(f"unknown method {name!r}; there are: {', '.join(_METHODS)}.")
    return method, method.with_options(given)
