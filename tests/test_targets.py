"""Several targets of one forward: the same numbers as single calls, and nothing kept."""

import gc
import weakref

import pytest
import torch

import fxplain
from fxplain.explanation.passes import Passes
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


def test_what_a_backward_leaves_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref] = []
    evidence = Passes.evidence

    def noted(*args: object) -> object:
        made = evidence(*args)
        seen.extend(weakref.ref(node) for node in made.nodes.values())
        return made

    monkeypatch.setattr(Passes, "evidence", noted)
    model = small_models.seeded(small_models.TextClassifier)
    found = fxplain.explain(model, {"input_ids": small_models.words(2, 6)}, targets=[0, 1])
    gc.collect()
    assert len(found) == 2
    assert seen
    assert all(reference() is None for reference in seen)


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
