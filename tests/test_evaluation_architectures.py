"""Evaluations of models of every kind: what is removed, and that all rows are finite."""

import math
from pathlib import Path

import pytest

import fxplain
from tests.small_models import architecture
from tests.small_pretrained import picture, save

METRICS = ("positive", "negative", "insertion")
# VisualBERT reads its answer at the last but one token that the mask shows: masking would move it.
REMOVED = {
    "bert": {"input_ids": "attention_mask"},
    "vit": {"pixel_values": "mean"},
    "lxmert": {"input_ids": "attention_mask", "visual_feats": "attention_mask"},
    "gpt2": {"input_ids": "attention_mask"},
    "visual_bert": {"input_ids": "mask_token", "visual_embeds": "attention_mask"},
    "t5": {"input_ids": "attention_mask", "decoder_input_ids": "attention_mask"},
    "bart": {"input_ids": "attention_mask", "decoder_input_ids": "attention_mask"},
    "llama": {"input_ids": "attention_mask"},
    "whisper": {"input_features": "mean", "decoder_input_ids": "attention_mask"},
    "detr": {"pixel_values": "mean"},
    "swin": {"pixel_values": "mean"},
    "clip": {"input_ids": "attention_mask", "pixel_values": "mean"},
}
QUICK = ("vit", "gpt2")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in REMOVED]
)
def test_every_kind(name: str) -> None:
    model, inputs = architecture(name)
    found = fxplain.evaluate(model, [inputs], ["raw_attention"], METRICS)
    removal = {k: v.partition(":")[0] for k, v in found.settings["removal"].items()}
    assert removal == REMOVED[name]
    assert len(found.rows) == len(METRICS) * len(removal) * 2
    assert all(math.isfinite(row.value) and 0 <= row.value <= 1 for row in found.rows)
    for curve in found.curves.values():
        assert len(set(curve.mean)) > 1  # something was removed


def test_a_position_does_not_move() -> None:
    model, inputs = architecture("gpt2")
    with pytest.raises(
        fxplain.EvaluationError, match=r"'input_ids' cannot be dropped.* position 6"
    ):
        fxplain.evaluate(model, [inputs], ["raw_attention"], removal="drop")


def test_regions_that_each_sample_orders_in_its_own_way(tmp_path: Path) -> None:
    """ViLT shuffles patches: one sample at a time they can be removed, and several at once not."""
    explainer = fxplain.from_pretrained(save("vilt", tmp_path))
    images = [picture(seed=i) for i in range(2)]
    inputs = explainer.inputs(text=["a cat"] * 2, image=images)
    call = (explainer.model, [inputs], "raw_attention", "sparseness")
    with pytest.raises(fxplain.EvaluationError, match=r"one sample at a time \(batch_size=1\)"):
        fxplain.evaluate(*call)
    assert fxplain.evaluate(*call, batch_size=1).settings["samples"] == 2
