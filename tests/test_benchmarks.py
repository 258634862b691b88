"""Every column of the benchmark runs on a tiny model, and measures what it says."""

import json
import math
import subprocess
import time

import pytest
import torch

import fxplain
from benchmarks import evaluation, warm
from benchmarks.__main__ import main
from benchmarks.bars import bars
from benchmarks.child import Task, memory, times
from benchmarks.columns import ALL, INTEGRATED, has_captum
from benchmarks.endurance import right_in_threads
from benchmarks.measure import OutOfMemoryError, Peak, interleaved, ratio, within_memory
from benchmarks.models import BY_NAME, CASES, QUICK
from benchmarks.tables import notes, tables

FAMILIES = {case.name.split(",")[0]: case for case in CASES}
STACK = "attention stack, 1024"


@pytest.mark.parametrize("family", FAMILIES)
def test_classic_recipe_and_fxplain_agree(family: str) -> None:
    """The columns compare two ways to the same numbers."""
    workload = FAMILIES[family].make(True)
    classic, ours = ALL["classic"](workload)(), ALL["warm"](workload)()
    assert classic.keys() == ours.keys()
    for modality, relevance in classic.items():
        assert relevance.abs().sum() > 0
        torch.testing.assert_close(ours[modality][0], relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_floor_reaches_every_source(family: str) -> None:
    workload = FAMILIES[family].make(True)
    gradients = ALL["floor"](workload)()
    assert len(gradients) == len(workload.sources)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert not any(parameter.requires_grad for parameter in workload.model.parameters())


def test_integrated_gradients_sum_to_the_difference() -> None:
    pytest.importorskip("captum")
    workload = BY_NAME[STACK].make(True)
    (attribution,) = ALL[INTEGRATED](workload)()
    with torch.no_grad():
        rise = workload.run(workload.model, lambda _, x: x)
        rise -= workload.run(workload.model, lambda _, x: torch.zeros_like(x))
    assert attribution.sum().item() == pytest.approx(rise.item(), rel=0.05)


@pytest.mark.slow
def test_times_of_a_tiny_case() -> None:
    found = times(Task("times", STACK, runs=2, tiny=True), BY_NAME[STACK])
    columns = set(ALL) if has_captum() else set(ALL) - {INTEGRATED}
    assert found["seconds"].keys() == columns
    assert all(0 < column["median"] < math.inf for column in found["seconds"].values())
    assert found["ratios"].keys() == {"warm/floor", "classic/warm", "classic, frozen/warm"}
    assert found["cold"].keys() == {"capture and analysis", "first explanation", "further length"}


@pytest.mark.slow
@pytest.mark.parametrize("column", [name for name in ALL if name != INTEGRATED])
def test_memory_of_a_tiny_case(column: str) -> None:
    found = memory(Task("memory", STACK, column=column, tiny=True), BY_NAME[STACK])
    assert found.keys() == {"first", "again"}


@pytest.mark.slow
def test_evaluation_is_measured(tmp_path, capsys) -> None:
    pytest.importorskip("sklearn")
    evaluation.main(["--questions", "4", "--threads", "1", "--json", str(tmp_path / "found.json")])
    assert "4 questions, 8 methods, 1 threads" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["minutes"] > 0
    assert len(found["rows"]) == 2 * 2 * (len(evaluation.METHODS) + 1)


@pytest.mark.slow
def test_peak_is_that_of_the_call() -> None:
    """Also after a call with a higher peak, where the system can forget that."""
    peak = Peak("cpu")
    mebibytes = [peak.of(lambda size=size: torch.ones(size, 2**18)) / 2**20 for size in (200, 60)]
    assert mebibytes == pytest.approx([200, 60], abs=10)


@pytest.mark.slow
def test_rounds_start_with_another_column_each_time() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    found = interleaved(calls, runs=3, budget=100)
    assert "".join(order) == "abcbcacab"
    assert [len(values) for values in found.values()] == [3, 3, 3]


@pytest.mark.slow
def test_rounds_end_with_the_budget() -> None:
    found = interleaved({"a": lambda: time.sleep(0.001)}, runs=9, budget=0)
    assert len(found["a"]) == 3


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([2, 9, 4], [1, 3, 4])["median"] == 2  # of 2, 3 and 1; of the medians: 4 / 3


def test_too_large_a_call_is_named() -> None:
    with pytest.raises(OutOfMemoryError):
        within_memory(lambda: torch.empty(2**60))
    large = max(CASES, key=lambda case: case.weights)
    found = memory(Task("memory", large.name, column="classic"), _of_petabytes(large))
    assert found["note"].startswith("not run: A and dA are")


def _of_petabytes(case):
    return type(case)(case.name, case.tokens, 2**50, case.make)


def test_bars_without_measurements_are_open() -> None:
    results = {"cases": {}, "import seconds": 0.2, "machine": {}}
    found = list(bars(results))
    assert [bar.reached for bar in found if bar.measured is not None] == [True]
    assert list(notes(results)) == []


def test_bars_of_a_case() -> None:
    case = {
        "tokens": 4_096,
        "seconds": {},
        "ratios": {"warm/floor": {"median": 1.7, "lowest": 1.6, "highest": 1.8}},
        "cold": {},
        "memory": {"warm": {"first": 9, "again": 6}, "floor": {"first": 8, "again": 6}},
        "notes": {"classic": "out of memory"},
    }
    results = {"cases": {"attention stack, 4096": case}, "import seconds": 0.5}
    reached = {bar.text: bar.reached for bar in bars(results) if bar.measured is not None}
    assert reached == {
        "time, warm / floor: attention stack, 4096": False,
        "memory, warm / floor: attention stack, 4096": True,
        "import fxplain, beyond torch": False,
    }
    assert list(notes(results)) == ["attention stack, 4096: classic: out of memory"]
    assert all(table.row_count for table in tables(results))


def test_quick_names_are_cases() -> None:
    assert set(QUICK) <= set(BY_NAME)


def test_broken_child_is_a_note(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr("benchmarks.__main__.import_seconds", lambda: 0.1)
    monkeypatch.setattr("benchmarks.__main__._python", _broken)
    with pytest.raises(SystemExit) as stop:
        main(["--only", "ViT", "--json", str(tmp_path / "bench.json")])
    assert stop.value.code == 1
    assert "ViT-B/16: failed: the last words" in capsys.readouterr().out


def _broken(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(arguments, 1, "", "Traceback\nthe last words\n")


@pytest.mark.slow
def test_command(tmp_path, capsys) -> None:
    saved, picture = tmp_path / "results" / "bench.json", tmp_path / "bench.png"
    arguments = ["--tiny", "--only", STACK, "--runs", "3"]
    main([*arguments, "--json", str(saved), "--plot", str(picture)])
    assert "warm / floor" in capsys.readouterr().out
    results = json.loads(saved.read_text())
    assert results["cases"][STACK]["ratios"]["warm/floor"]["median"] > 0
    assert picture.stat().st_size > 0


def test_a_warm_call_asks_next_to_nothing_of_tensors() -> None:
    """Each question is one that a device is waited for, and their number grows with no layer."""
    model, inputs, _ = warm.encoder(2, 2)
    for _ in range(2):
        fxplain.explain(model, inputs, target=1)
    with warm.Waits() as seen:
        fxplain.explain(model, inputs, target=1)
    assert 0 < seen.count <= 4


@pytest.mark.slow
def test_threads_on_cold_models_are_counted(capsys):
    assert right_in_threads(1) == (32, 32)
    assert "32 of 32" in capsys.readouterr().out
