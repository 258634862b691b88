"""The published code's numbers for every method: ablations, baselines and LRP, in float64.

Post-processing of the published code (CLS entries set to 0, min-max) is done here. Keys that cannot
be matched without copying what contradicts the papers are in `DIFFERENT`, with the reason.
"""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

import fxplain
from tests.test_golden import Golden, golden

TEXT, IMAGE, PIXELS = "input_ids", "visual_feats", "pixel_values"

# Relative to the largest number. LRP divides by small numbers: the reference's own float32 differs by
# up to 8e-3 there.
GRADIENT, LRP = 1e-5, 1e-5
EAGER_VIT = 5e-6  # its softmax is taken in float32, in a float64 model too


@dataclass(frozen=True)
class Tag:
    """One tag of the published numbers and the call that gives them."""

    name: str
    method: str
    options: dict = field(default_factory=dict)
    min_max: bool = False
    skip: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def no_sums(**options: object) -> dict:
    return {"normalize": False, **options}


BI_MODAL = [
    Tag("ours", "generic"),
    Tag("ours_no_norm", "generic", no_sums()),
    Tag("ours_no_self_in_10", "generic", {"self_in_bimodal": False}),
    Tag("ours_lrp", "generic", {"attribution": "lrp"}),
    Tag("ours_no_agg", "generic", no_sums(aggregate=False)),
    Tag("partial_lrp", "partial_lrp", min_max=True),
    Tag("raw_attn", "raw_attention"),
    Tag("gradcam", "gradcam"),
]
LXMERT = [
    *BI_MODAL,
    Tag("ours_second", "generic"),
    Tag("transformer_attr", "transformer_attribution"),
    Tag("rollout", "rollout", skip=("R_i_i",)),
]
DETR = [
    *BI_MODAL,
    Tag("ours_second", "generic"),
    Tag("transformer_attr", "transformer_attribution", skip=("R_i_i", "R_q_q")),
    Tag("rollout", "rollout"),
]

ALPHA_BETA = {"rules": "alpha-beta"}
NOT_NORMALISED = {"normalize": False, "attribution": "lrp"}
POSITIVE = {"signed": False}
VIT = {
    "generate_relevance": ("generic", {}),
    "lrp.transformer_attribution": ("transformer_attribution", {}),
    "lrp.transformer_attribution.second": ("transformer_attribution", {}),
    "lrp.transformer_attribution.start1": ("transformer_attribution", {"start_layer": 1}),
    "lrp.rollout": ("rollout", NOT_NORMALISED),
    "lrp.last_layer": ("partial_lrp", POSITIVE),
    "lrp.last_layer_attn": ("raw_attention", {}),
    "lrp.second_layer": ("partial_lrp", {"layer": 1, **POSITIVE}),
    "lrp.last_layer.ablation": ("partial_lrp", {"times_gradient": True, **POSITIVE}),
    "lrp.second_layer.ablation": ("partial_lrp", {"layer": 1, "times_gradient": True, **POSITIVE}),
    "orig_lrp.grad": ("transformer_attribution", ALPHA_BETA),
    "orig_lrp.grad.second": ("transformer_attribution", ALPHA_BETA),
    "orig_lrp.grad.start1": ("transformer_attribution", {"start_layer": 1, **ALPHA_BETA}),
    "orig_lrp.rollout": ("rollout", {**NOT_NORMALISED, **ALPHA_BETA}),
    "orig_lrp.last_layer": ("partial_lrp", {**POSITIVE, **ALPHA_BETA}),
    "orig_lrp.last_layer_attn": ("raw_attention", {}),
    "orig_lrp.second_layer": ("partial_lrp", {"layer": 1, **POSITIVE, **ALPHA_BETA}),
    "orig_lrp.last_layer.ablation": (
        "partial_lrp",
        {"times_gradient": True, **POSITIVE, **ALPHA_BETA},
    ),
    "orig_lrp.second_layer.ablation": (
        "partial_lrp",
        {"layer": 1, "times_gradient": True, **POSITIVE, **ALPHA_BETA},
    ),
    "baseline.rollout": ("rollout", {}),
    "baseline.rollout_start1": ("rollout", {"start_layer": 1}),
}

DIFFERENT = {
    "lxmert_uneq": {
        "rollout.R_i_i": "the published rollout of the image stops before the last layer, which the "
        "text does not read; ours is of all layers",
    },
    "detr_uneq": {
        "transformer_attr.R_i_i": "stays the identity: the published method updates R_q_i alone",
        "transformer_attr.R_q_q": "stays the identity: the published method updates R_q_i alone",
    },
    "vit": {
        "lrp.full": "pixels, not tokens; the position embeddings take a share of the relevance, which "
        "is dropped (in the published DETR they take none, as here)",
        "orig_lrp.full": "as lrp.full",
        "baseline.gradcam": "heads are weighed by the gradient of the CLS's row without its first "
        "entry, not by the mean over rows and columns",
        "baseline.gradcam_second": "as baseline.gradcam",
    },
}


def min_max(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min())


def check(got: Tensor, data: Golden, key: str, tolerance: float) -> None:
    want = data.numbers[key].double()
    got = got.double().reshape(want.shape)
    largest = want.abs().max().item()
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance * largest)


def check_matrices(e: fxplain.Explanation, data: Golden, tag: Tag, pairs: dict) -> int:
    checked = 0
    for name, (a, b) in pairs.items():
        if f"{tag.name}.{name}" not in data.numbers or name in tag.skip:
            continue
        R = e.matrix(a, b)[0].clone()
        if tag.min_max:
            R = min_max(R)
        if name == "R_t_t":
            R[0, 0] = 0
        check(R, data, f"{tag.name}.{name}", GRADIENT)
        checked += 1
    return checked


def class_of(data: Golden, tag: str) -> int:
    return int(data.numbers["index_second" if "second" in tag.split("_") else "index_default"])


@pytest.mark.parametrize("tag", LXMERT, ids=str)
def test_lxmert(tag: Tag) -> None:
    data = golden("lxmert_uneq", torch.float64)
    e = fxplain.explain(
        data.model,
        data.inputs,
        target=class_of(data, tag.name),
        method=tag.method,
        **tag.options,
    )
    names = {"t": TEXT, "i": IMAGE}
    pairs = {f"R_{a}_{b}": (names[a], names[b]) for a in names for b in names}
    assert check_matrices(e, data, tag, pairs) >= 2


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("tag", DETR, ids=str)
def test_detr(tag: Tag, attn_implementation: str) -> None:
    data = golden("detr_uneq", torch.float64, attn_implementation)
    query = data.numbers["target_query"].item()
    e = fxplain.explain(
        data.model,
        data.inputs,
        target=(query, class_of(data, tag.name)),
        output="logits",
        method=tag.method,
        **tag.options,
    )
    (queries,) = set(e.modalities) - {PIXELS}
    names = {"q": queries, "i": PIXELS}
    pairs = {f"R_{a}_{b}": (names[a], names[b]) for a in names for b in names}
    assert check_matrices(e, data, tag, pairs) >= 1
    if not tag.min_max:
        check(e.relevance[PIXELS][0], data, f"{tag.name}.aggregated", GRADIENT)


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("key", VIT)
def test_vit(key: str, attn_implementation: str) -> None:
    data = golden("vit", torch.float64, attn_implementation)
    method, options = VIT[key]
    second = key.endswith("second")
    label = int(data.numbers["index_second" if second else "index_default"])
    e = fxplain.explain(data.model, data.inputs, target=label, method=method, **options)
    tolerance = EAGER_VIT if attn_implementation == "eager" else LRP
    check(e.relevance[PIXELS][0, 1:], data, key, tolerance)


@pytest.mark.parametrize("case", ["lxmert_uneq", "detr_uneq", "vit"])
def test_every_published_number_is_checked_or_explained(case: str) -> None:
    data = golden(case, torch.float64)
    if case == "vit":
        known = {*VIT, "generate_relevance.R", "generate_relevance_second"}
    else:
        tags = LXMERT if case == "lxmert_uneq" else DETR
        known = {
            key
            for key in data.numbers
            for tag in tags
            if key.startswith(f"{tag.name}.") and key.split(".")[-1] not in tag.skip
        }
        known |= {key for key in data.numbers if key.startswith("ours_two_queries.")}
    known |= {"logits", "index_default", "index_second", "target_query"}
    known |= {"partial_lrp.aggregated"} & set(data.numbers)
    assert set(data.numbers) - known == set(DIFFERENT[case])
