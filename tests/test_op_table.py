"""Every row of the operation table on real tokens: what it claims is what moves with a token."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import fx

from fxplain.tokens import Tag, operation, resampling, tokens_in, versions_in
from fxplain.tokens.op_table import TABLE
from fxplain.tokens.tag import pack
from tests.long_run import quickly
from tests.op_table.contractions import CONTRACTIONS
from tests.op_table.joins import JOINS
from tests.op_table.movement import MOVEMENT
from tests.op_table.picking import PICKING
from tests.op_table.pointwise import POINTWISE
from tests.op_table.resampling import RESAMPLING
from tests.op_table.samples import Sample
from tests.op_table.setting import Setting
from tests.op_table.sums import SUMS
from tests.op_table.values import VALUES
from tests.op_table.windows import WINDOWS

EVERY = [
    *MOVEMENT, *PICKING, *VALUES, *JOINS, *SUMS, *CONTRACTIONS, *WINDOWS, *RESAMPLING, *POINTWISE,
]  # fmt: skip
SAMPLES = {sample.name: sample for sample in EVERY}
STAGE = {name: s.stages[i % len(s.stages)] for i, (name, s) in enumerate(SAMPLES.items())}
"""The stage that a quick test tries: each sample in one of its own."""

ELSEWHERE = {
    "aten.cudnn_batch_norm": "runs on a GPU only",
    "aten.embedding_bag": "makes tokens of integers, in test_births.py",
    "aten._embedding_bag": "makes tokens of integers, in test_births.py",
}

BENEATH = ("aten.embedding", "aten.scaled_dot_product_attention")
"""What every setting is built with: broken, they break what is compared with, too."""

NEW_TOKENS = ("aten.stft", "aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d")
"""What they make are new tokens, of which nothing more is claimed than their samples."""


def by(thorough: bool) -> list[str]:
    return [name for name, sample in SAMPLES.items() if sample.thorough is thorough]


def test_names_are_unique() -> None:
    assert len(SAMPLES) == len(EVERY)


@pytest.mark.parametrize("name", by(thorough=False))
def test_what_is_claimed_is_what_moves(name: str) -> None:
    assert SAMPLES[name].tried(STAGE[name]).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["newborn", "attended", "uneven"])
@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_claimed_is_what_moves_whatever_was_absorbed(name: str, stage: str) -> None:
    if stage in SAMPLES[name].stages:
        assert SAMPLES[name].tried(stage).findings == ()


@cache
def calls() -> dict[str, list[Sample]]:
    """The samples of each operation, of the quick ones."""
    found: dict[str, list[Sample]] = {}
    for name in by(thorough=False):
        setting = Setting("attended")
        captured, *_ = setting.finish(SAMPLES[name].call(setting))
        for node in captured.graph.nodes:
            samples = found.setdefault(operation(node), []) if node.op == "call_function" else []
            if SAMPLES[name] not in samples:
                samples.append(SAMPLES[name])
    return found


def test_every_row_has_a_sample() -> None:
    missing = TABLE.keys() - calls().keys() - ELSEWHERE.keys()
    assert not missing, f"rows without a sample in tests/op_table: {sorted(missing)}"


# Rules that are broken on purpose

Change = Callable[[Tag], Tag | None]


def off_by_one(tag: Tag) -> Tag:
    """Every token's row is its neighbour's."""
    axis = max(range(tag.ids.dim()), key=lambda x: tag.ids.shape[x] if x else 0)
    return tag.with_ids(tag.ids.roll(1, axis))


def lost(_: Tag) -> None:
    return None


def newborn_again(tag: Tag) -> Tag:
    """All that the rows have absorbed is forgotten."""
    return tag.with_ids(pack(tokens_in(tag.ids), torch.zeros_like(versions_in(tag.ids))))


def broken(rule: Any, change: Change, changed: list[str]) -> Any:
    def apply(tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
        found = []
        for tag in tags:
            if tag.level <= 1 or tag.softmax is not None or tag.ids.numel() < 2:
                found.append(tag)
                continue
            made = change(tag)
            if made is None or not torch.equal(made.ids, tag.ids):
                changed.append("")
            found += [] if made is None else [made]
        return tuple(found)

    def rule_that_is_wrong(analysis: Any, node: fx.Node) -> Any:
        tags = rule(analysis, node)
        return apply(tags) if isinstance(tags, tuple) else [apply(part) for part in tags]

    return rule_that_is_wrong


def undetected(change: Change, rows: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rows whose samples do not tell that the rule is broken."""
    missed = []
    for name in rows:
        rule = TABLE[name]
        changed: list[str] = []
        with monkeypatch.context() as patch:
            patch.setitem(TABLE, name, broken(rule, change, changed))
            told = False
            for sample in calls().get(name, ())[:4]:
                trial = sample.tried(sample.stages[len(sample.stages) // 2])
                told = bool(trial.findings or trial.warnings)  # what is warned of is found already
                if told:
                    break
        if changed and not told:
            missed.append(name)
    return missed


def checked() -> list[str]:
    """The rows whose faults show in what moves: all that a Fourier transform makes is made of all."""
    skipped = (*BENEATH, *NEW_TOKENS)
    return [n for n in TABLE if n not in skipped and TABLE[n] is not resampling.fourier]


CHANGES = [off_by_one, lost, newborn_again]


@pytest.mark.parametrize("i", quickly([0, 1, 2], [0]))
def test_rules_that_are_broken_are_found(i: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert undetected(CHANGES[i], checked()[i::3], monkeypatch) == []


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_rules_that_are_broken_in_any_way_are_found(
    change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert undetected(change, checked(), monkeypatch) == []
