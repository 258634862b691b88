"""Which methods an experiment compares: all of the library's, and the default's options."""

from __future__ import annotations

from typing import Any

import fxplain

GENERIC = "generic"
"""The default method, which the paper proposes."""
CORRECTED = "generic, corrected gradients"

BASELINES = ("rollout", "raw_attention", "gradcam", "partial_lrp")
"""What the paper compares `generic` with, beside the authors' earlier `transformer_attribution`."""

IDEAL = "ideal relevance"
"""The row, where there is one, of relevance made of the truth: what a method could reach at most."""

OPTIONS: dict[str, dict[str, Any]] = {
    CORRECTED: {"gradients": "corrected"},
    "generic, LRP of attention": {"attribution": "lrp"},
    "generic, not normalised": {"normalize": False},
    "generic, no self-relevancies": {"self_in_bimodal": False},
    "generic, layers replace": {"aggregate": False},
    "generic, signed": {"signed": True},
}
"""Variants of `generic` by the label of their rows."""

INTEGRATED = "integrated_gradients"
INTEGRATION_STEPS = 20
"""Of integrated gradients; it takes about as long as all other methods together."""


def compared_methods() -> dict[str, Any]:
    """By label a method's name and options, as `fxplain.evaluate` takes them; the default first."""
    names = dict.fromkeys((GENERIC, *fxplain.methods()))
    return {
        **{name: name for name in names},
        INTEGRATED: (INTEGRATED, {"steps": INTEGRATION_STEPS}),
        **{label: (GENERIC, options) for label, options in OPTIONS.items()},
        "input_x_gradient, corrected gradients": ("input_x_gradient", OPTIONS[CORRECTED]),
    }
