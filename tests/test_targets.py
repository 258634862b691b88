"""Several targets of one forward: the same numbers as single calls, and nothing kept."""

import gc
import weakref
from typing import Any

import pytest
import torch

import fxplain
from fxplain.explanation import passes, several
from fxplain.explanation.passes import Passes
from fxplain.methods import NodeEvidence
from tests import small_models
from tests.small_models import BY_NAME, architecture


@pytest.mark.parametrize("method", fxplain.methods())
@pytest.mark.parametrize("name", ["bert", "bart", "lxmert"])
def test_equal_to_single_calls(name: str, method: str) -> None:
    case = BY_NAME[name]
    model, inputs = architecture(name, case.implementations[0], torch.float64)
    together = fxplain.explain(
        model, inputs, targets=[0, 1, None], method=method, output=case.output
    )
    for e, target in zip(together, [0, 1, None], strict=True):
        alone = fxplain.explain(model, inputs, target, method, output=case.output)
        assert (e.target, e.readout, e.engine) == (alone.target, alone.readout, alone.engine)
        for modality, relevance in alone.relevance.items():
            torch.testing.assert_close(e.relevance[modality], relevance, rtol=0, atol=1e-12)


def test_one_forward_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    forward = Passes._forward
    monkeypatch.setattr(Passes, "_forward", lambda *a, **k: runs.append(a) or forward(*a, **k))
    model, inputs = architecture("bart")
    found = fxplain.explain(
        model, inputs, targets=[(position, 3) for position in range(4)], output="logits"
    )
    assert len(found) == 4
    assert len(runs) == 1


def test_matrices_are_made_by_another_run() -> None:
    model, inputs = architecture("lxmert")
    first, second = fxplain.explain(model, inputs, targets=[0, 1])
    alone = fxplain.explain(model, inputs, target=1)
    torch.testing.assert_close(
        second.matrix("input_ids", "visual_feats"), alone.matrix("input_ids", "visual_feats")
    )
    with torch.no_grad():
        next(iter(model.parameters())).mul_(1.5)
    with pytest.raises(fxplain.ChangedModelError, match="changed since"):
        first.matrix("input_ids", "visual_feats")


@pytest.mark.parametrize("outputs", [0, several.OUTPUTS])
def test_what_a_backward_leaves_is_dropped(monkeypatch: pytest.MonkeyPatch, outputs: int) -> None:
    seen: list[weakref.ref] = []

    def noted(*args: Any) -> NodeEvidence:
        made = NodeEvidence(*args)
        seen.append(weakref.ref(made))
        return made

    monkeypatch.setattr(passes, "NodeEvidence", noted)
    monkeypatch.setattr(several, "OUTPUTS", outputs)
    model = small_models.seeded(small_models.TextClassifier)
    found = fxplain.explain(model, {"input_ids": small_models.words(2, 6)}, targets=[0, 1])
    gc.collect()
    assert len(found) == 2
    assert seen
    assert all(reference() is None for reference in seen)


def test_small_models_share_a_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    backwards = []
    one = Passes.evidence
    monkeypatch.setattr(Passes, "evidence", lambda *a: backwards.append(a) or one(*a))
    model, inputs = architecture("bart")
    asked = [(position, 3) for position in range(4)]
    together = fxplain.explain(model, inputs, targets=asked, output="logits")
    assert not backwards

    def not_batched(*_: Any) -> None:
        raise RuntimeError("vmap: it looks like you are calling .item() on a Tensor")

    monkeypatch.setattr(Passes, "of_several", not_batched)
    apart = fxplain.explain(model, inputs, targets=asked, output="logits")
    assert len(backwards) == 4
    for a, b in zip(together, apart, strict=True):
        for modality, relevance in a.relevance.items():
            torch.testing.assert_close(relevance, b.relevance[modality])


@pytest.mark.parametrize("targets", ["3", 3])
def test_one_target_is_no_sequence(targets: object) -> None:
    model, inputs = architecture("bert")
    with pytest.raises(fxplain.TargetError, match="sequence of targets"):
        fxplain.explain(model, inputs, targets=targets)


def test_target_and_targets() -> None:
    model, inputs = architecture("bert")
    with pytest.raises(fxplain.TargetError, match="leave one of them out"):
        fxplain.explain(model, inputs, 1, targets=[1])


def test_no_targets() -> None:
    model, inputs = architecture("bert")
    assert fxplain.explain(model, inputs, targets=[]) == []


def test_indices_of_each_sample_can_be_asked_for_again() -> None:
    """Beside an index of all samples alike, where each sample's output has as many axes."""
    model, inputs = architecture("bart")
    e = fxplain.explain(model, inputs, [(0, 2), (1, 3)], output="logits")
    again = fxplain.explain(model, inputs, e.target, output="logits")
    assert again.target == e.target == ((0, 2), (1, 3))
    alike = fxplain.explain(model, inputs, (1, 3), output="logits")
    assert alike.target == ((1, 3), (1, 3))
    torch.testing.assert_close(again.relevance["input_ids"][1], alike.relevance["input_ids"][1])
