"""The catalogue: every method of the library, as a weighing and an accumulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import whole
from fxplain.errors import MethodError
from fxplain.methods import maps
from fxplain.methods.baselines import LastMaps, LastSums, Rollout, SelfAttentionSum, SummedMaps
from fxplain.methods.evidence import Evidence, Needs
from fxplain.methods.method import Method, Option, Options, Scores
from fxplain.methods.node_evidence import NodeEvidence
from fxplain.methods.relevancy import Relevancies
from fxplain.methods.tokens import (
    TokenScores,
    full_gradient,
    relevance_of_births,
    value_times_gradient,
)
from fxplain.program import Program
from fxplain.rewriting import RULE_SETS

__all__ = ["AUTOMATIC", "METHODS", "PRESETS"]

MOST_STEPS = 10_000
"""Of integrated gradients: some hundreds are many."""

NO_WORD = -1
"""Where a word is compared with none."""

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
        "of corrected gradients: weights and values share a gradient, or the weights are constant; "
        "gim: they share it, and weights hand it to scores as if they were softer: s_T (g - <g, s_T>) "
        "with s_T = softmax(x / 2) (Edin et al. 2025, arXiv 2505.17630)",
        ("half", "constant", "gim"),
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
    rewriting = _rewriting(options)
    return Needs(gradient=True, relevance=rules, rewriting=rewriting, ahead=rules is None)


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
        evidence.maps(partial(weigh, signed=options["signed"]), by_query=True, of_attended=True),
        normalize=options["normalize"],
        self_in_bimodal=options["self_in_bimodal"],
        aggregate=options["aggregate"],
        start_layer=options["start_layer"],
    )


def _weighted(evidence: Evidence, options: Options) -> Scores:
    weigh = partial(maps.weighted_by_values, signed=options["signed"])
    return Relevancies(
        evidence.program,
        evidence.maps(weigh, by_query=True),
        normalize=options["normalize"],
        start_layer=options["start_layer"],
    )


def _raw_attention(evidence: Evidence, options: Options) -> Scores:
    made = evidence.maps(maps.attention, by_query=True)
    return LastMaps(evidence.program, made, layer=options["layer"])


def _gradcam(evidence: Evidence, options: Options) -> Scores:
    finish = None if options["signed"] else _clamped
    made = evidence.maps(maps.head_weighted_attention, finish)
    return LastMaps(evidence.program, made, layer=options["layer"])


def _clamped(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def _partial_lrp(evidence: Evidence, options: Options) -> Scores:
    weigh = maps.gradient_times_relevance if options["times_gradient"] else maps.relevance
    made = evidence.maps(partial(weigh, signed=options["signed"]), by_query=True)
    return LastMaps(evidence.program, made, layer=options["layer"])


def _rollout(evidence: Evidence, options: Options) -> Scores:
    of_lrp = options["attribution"] == "lrp"
    weigh = partial(maps.relevance, signed=False) if of_lrp else maps.attention
    made = evidence.maps(weigh, by_query=True)
    return Rollout(
        evidence.program,
        made,
        normalize=options["normalize"],
        start_layer=options["start_layer"],
    )


def _value_weighted(evidence: Evidence, options: Options) -> Scores:
    made = evidence.maps(maps.value_weighted_attention, _of_each_row, by_query=True)
    return Rollout(evidence.program, made, start_layer=options["start_layer"])


def _of_each_row(x: Tensor) -> Tensor:
    """Shares of each row, so that residual and attention weigh the same in a rollout."""
    return x / x.sum(-1, keepdim=True).clamp(min=1e-30)


def _transformer_attribution(evidence: Evidence, options: Options) -> Scores:
    weigh = partial(maps.gradient_times_relevance, signed=options["signed"])
    made = evidence.maps(weigh, by_query=True)
    return SelfAttentionSum(evidence.program, made, start_layer=options["start_layer"])


def _legrad(evidence: Evidence, options: Options) -> Scores:
    weigh = partial(maps.attention_gradient, signed=options["signed"])
    made = evidence.maps(weigh, by_query=True)
    return SummedMaps(evidence.program, made, start_layer=options["start_layer"])


def _grad_eclip(evidence: Evidence, options: Options) -> Scores:
    program = evidence.program
    given = _given_tokens(program)

    def weigh(node: NodeEvidence) -> Tensor | None:
        samples, counts = node.node.samples[:, None], []
        for block in node.node.blocks:
            own = given[block.stream][samples, block.columns.clamp(min=0)]
            counts.append(own & (block.columns >= 0))
        return maps.similarity_times_gradient(node, keys=torch.stack(counts).any(0))

    made = evidence.maps(weigh, by_query=True)
    return LastSums(program, made, layers=options["layers"], signed=options["signed"])


def _given_tokens(program: Program) -> list[Tensor]:
    """Of each stream, (batch, n), which tokens are of an input, and not the model's own."""
    book = program.flow.book
    return [
        (stream.tokens >= 0) & ~book.learned(stream.tokens.clamp(min=0))
        for stream in program.streams
    ]


def _at_tokens(score: Callable[[Evidence], Any]) -> Callable[[Evidence, Options], Scores]:
    def scored(evidence: Evidence, options: Options) -> Scores:
        made: TokenScores = score(evidence)
        return made if options["signed"] else made.clamped()

    return scored


def _input_x_gradient_needs(options: Options) -> Needs:
    baseline = int(options["baseline"])
    compared = None if baseline == NO_WORD else baseline
    return Needs(gradient=True, births=True, rewriting=_rewriting(options), compared=compared)


def _integrated_needs(options: Options) -> Needs:
    whole(1, MOST_STEPS).raising(MethodError).check("option steps", options["steps"])
    return Needs(gradient=True, births=True, rewriting=_rewriting(options), steps=options["steps"])


_SIGNED_TOKENS = Option(True, "keep the negative part", _YES_NO)
_LAYER = Option(-1, "which node of each pair of modalities, in program order")
_NORMALIZE = Option(True, "normalise self-relevancies in bi-modal updates (eq. 8, 9)", _YES_NO)
_ATTRIBUTION = Option("attention", "what stands for A: its value, or its LRP", ("attention", "lrp"))
_RULES = Option("cvpr2021", "which rules of LRP", tuple(RULE_SETS))

CHEFER_2021 = "Chefer, Gur & Wolf, ICCV 2021, arXiv 2103.15679"
CVPR_2021 = "Chefer, Gur & Wolf, CVPR 2021, arXiv 2012.09838"

METHODS = {
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
            equation="R_ss += A' R_ss, R_sq += A' R_sq with A' = mean_h max(0, dy/dA A) (eq. 5 to 7); "
            "where s attends to q R_sq += norm(R_ss)^T A' norm(R_qq), R_ss += A' R_qs (eq. 8 to 11)",
        ),
        Method(
            "transformer_attribution",
            CVPR_2021,
            "two forwards, two backwards (one of relevance)",
            _gradient_and_lrp,
            _transformer_attribution,
            {"start_layer": _START, "signed": _SIGNED, "rules": _RULES, **_GRADIENTS},
            "gradient times LRP of attention, accumulated over self-attention",
            equation="R += A' R with A' = mean_h max(0, dy/dA LRP(A))",
        ),
        Method(
            "raw_attention",
            "the attention weights themselves",
            "one forward",
            _nothing,
            _raw_attention,
            {"layer": _LAYER},
            "attention of the last layer, averaged over heads",
            equation="mean_h A of the last layer",
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
            equation="the product over layers of mean_h A + I, rows normalised; where s attends to q "
            "R_s^T A R_q",
        ),
        Method(
            "gradcam",
            "Selvaraju et al., ICCV 2017, arXiv 1610.02391; for attention as in " + CHEFER_2021,
            "one forward, one backward",
            _gradient,
            _gradcam,
            {"layer": _LAYER, "signed": _SIGNED, **_GRADIENTS},
            "attention of the last layer, heads weighed by their mean gradient",
            equation="max(0, mean_h mean(dy/dA) A) of the last layer",
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
            equation="mean_h LRP(A) of the last layer",
        ),
        Method(
            "lrp",
            CVPR_2021,
            "one forward, one backward of relevance",
            lambda o: Needs(relevance=o["rules"], births=True),
            _at_tokens(relevance_of_births),
            {"signed": _SIGNED_TOKENS, "rules": _RULES},
            "layer-wise relevance, propagated down to the tokens as they are born",
            equation="sum over features of LRP(x), from y down; of a linear layer "
            "R_j = sum_k (x_j w_jk)+ / sum_j (x_j w_jk)+ R_k",
        ),
        Method(
            "input_x_gradient",
            "Shrikumar et al., 2016, arXiv 1605.01713",
            "one forward, one backward",
            _input_x_gradient_needs,
            _at_tokens(value_times_gradient),
            {
                "signed": _SIGNED_TOKENS,
                "baseline": Option(
                    NO_WORD,
                    "the number of a word (a space, padding) whose embedding is taken off each word's, "
                    "as GIM has it; -1 for none",
                    form=whole(NO_WORD, (1 << 63) - 1),
                ),
                **_GRADIENTS,
            },
            "a token's embedding times its gradient",
            equation="(x - b) . dy/dx, b the baseline's embedding or 0",
        ),
        Method(
            "fullgrad",
            "Srinivas & Fleuret, NeurIPS 2019, arXiv 1905.00780; corrected as in arXiv 2411.16760",
            "one forward, one backward",
            lambda _: Needs(
                gradient=True, births=True, rewriting="corrected:constant", biases=True
            ),
            _at_tokens(full_gradient),
            {"signed": _SIGNED_TOKENS},
            "corrected input x gradient, and each bias times its gradient at the token where it acts",
            equation="x . dy/dx + sum over biases b that act at the token of b . dy/db: y = the sum "
            "over tokens (eq. 3)",
        ),
        Method(
            "integrated_gradients",
            "Sundararajan et al., ICML 2017, arXiv 1703.01365",
            "`steps` forwards and backwards",
            _integrated_needs,
            _at_tokens(value_times_gradient),
            {
                "steps": Option(
                    20,
                    "points between no tokens and all of them; where it is not said, doubled until "
                    "relevance adds up, up to 320",
                ),
                "signed": _SIGNED_TOKENS,
                **_GRADIENTS,
            },
            "a token's embedding times the gradient on the way from zero to it",
            equation="x . integral over a from 0 to 1 of dy/dx at a x (Gauss-Legendre)",
        ),
        Method(
            "legrad",
            "Bousselham et al., ICCV 2025, arXiv 2404.03214",
            "one forward, one backward",
            _gradient,
            _legrad,
            {"start_layer": _START, "signed": _SIGNED, **_GRADIENTS},
            "the gradients of all layers' attention, summed",
            equation="sum over layers of mean_h max(0, dy/dA)",
        ),
        Method(
            "grad_eclip",
            "Zhao et al., ICML 2024; Zhao et al., 2025, arXiv 2502.18816",
            "one forward, one backward",
            lambda o: replace(_gradient(o), queries=True),
            _grad_eclip,
            {
                "layers": Option(1, "how many of the last nodes count", form=whole(1, 10_000)),
                "signed": _SIGNED,
                **_GRADIENTS,
            },
            "the last layer's values by the gradient of what they become, weighed by how alike query "
            "and key are",
            equation="max(0, sum_c dy/do_c cos(q, k) v_c), the cosine brought to 0 ... 1 over words "
            "or patches, o what attention gives the query",
        ),
        Method(
            "value_weighted",
            "Kobayashi et al., EMNLP 2020, arXiv 2004.10102; rolled out as attention",
            "one forward",
            _nothing,
            _value_weighted,
            {"start_layer": _START},
            "attention weighed by the norms of the values that it brings",
            equation="the product over layers of mean_h |A v| + I, rows normalised",
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
            equation="generic's, with A' = mean_h max(0, dy/dA A) |v| / mean over keys of |v|",
        ),
    )
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip-notebook": ("generic", {"start_layer": -1}),
    "vit-baselines-rollout": ("rollout", {"normalize": True}),
    "transformer-attribution-rollout": ("rollout", {"normalize": False, "attribution": "lrp"}),
}
"""Published code that departs from its paper, as (method, options). See docs/methods.md."""


def _not_chosen(*_: Any) -> Any:
    raise AssertionError("auto stands for a method that is chosen when the model is known")


_CHOSEN = {**METHODS["input_x_gradient"].options, **METHODS["generic"].options}
AUTOMATIC = Method(
    "auto",
    "what was measured on real models: docs/choose-a-method.md",
    "that of the method that it stands for",
    _not_chosen,
    _not_chosen,
    {**_CHOSEN, "gradients": replace(_CHOSEN["gradients"], default="corrected")},
    "the method that measured best on the kind of model at hand",
)
"""Stands for a method that is chosen by the kind of model, among those that have the given options."""
