"""The scripts for real checkpoints: all but the downloads runs, and says what is missing."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("transformers")

from examples.paper import vqa
from examples.paper.detr_coco import polygon_mask
from examples.paper.running import stream
from fxplain.evaluation import RANDOM
from tests.long_run import quickly

MODALITIES = {
    "lxmert_vqa": {"input_ids", "visual_feats"},
    "visualbert_vqa": {"input_ids", "visual_embeds"},
    "vit_imagenet": {"pixel_values"},
    "clip_imagenet": {"input_ids", "pixel_values"},
    "detr_coco": {"pixel_values"},
}


@pytest.mark.parametrize("script", quickly(MODALITIES, ["vit_imagenet"]))
def test_a_dry_run_evaluates(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module(f"examples.paper.{script}").main
    saved = tmp_path / "found.json"
    arguments = ["--dry-run", "--samples", "2", "--methods", "generic", "--json", str(saved)]
    found = main(arguments)
    assert found.settings["samples"] == 2
    assert found.methods == ("generic", RANDOM)
    assert set(found.modalities) == MODALITIES[script]
    assert json.loads(saved.read_text())["rows"]
    assert "2 of 2 samples" in capsys.readouterr().out


@pytest.mark.parametrize("script", ["lxmert_vqa", "visualbert_vqa", "detr_coco"])
def test_missing_files_are_said_before_anything_is_loaded(script: str) -> None:
    main = importlib.import_module(f"examples.paper.{script}").main
    with pytest.raises(SystemExit, match=r"must name .*\n?.*--dry-run makes its own"):
        main([])


def test_missing_datasets_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SystemExit, match=r"pip install 'fxplain\[paper\]'"):
        stream("ILSVRC/imagenet-1k", "validation", ["image"])


def test_the_true_answer_is_what_most_say(tmp_path: Path) -> None:
    path = tmp_path / "answers.txt"
    path.write_text("yes\nno\n")
    classes = vqa.answer_classes(path)
    asked = {"answers": [{"answer": answer} for answer in ("no", "yes", "no")]}
    assert vqa.true_class(asked, classes) == 1
    assert vqa.true_class({"answers": [{"answer": "maybe"}]}, classes) is None


def test_polygons_are_filled() -> None:
    mask = polygon_mask([[0, 0, 2, 0, 2, 1, 0, 1], [4, 3, 4, 3, 4, 3]], (5, 4))
    want = torch.zeros(4, 5, dtype=torch.bool)
    want[:2, :3] = True
    want[3, 4] = True
    assert torch.equal(mask, want)
