"""The small models that ship: what each detects, how well it does, and how large it is."""

import random
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("sklearn")
pytest.importorskip("transformers")

import fxplain
from examples.tasks import clutter, detection, lookup, questions
from examples.tasks.digit_images import split_digits
from examples.training import visualbert_digits

HELD_OUT = split_digits()[1]
NUMBER = 100
FOLDERS = [
    questions.LXMERT_FOLDER,
    questions.VISUALBERT_FOLDER,
    clutter.MODEL_FOLDER,
    detection.MODEL_FOLDER,
    lookup.MODEL_FOLDER,
]

Node = tuple[str, tuple[str, ...], tuple[str, ...], int]


def nodes(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Node]:
    """Kind, queries, keys and number of keys of every attention; nothing is left unsure."""
    graph = fxplain.inspect(model, inputs)
    assert not graph.warnings
    return [(node.kind, node.query, node.key, node.k_len) for node in graph.nodes]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_small(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1.5e6


@torch.no_grad()
def test_visualbert_answers_questions() -> None:
    model, tokenizer = questions.load_visualbert()
    samples = questions.draw_samples(HELD_OUT, NUMBER, random.Random(2))
    scores = visualbert_digits.scores_of(model, tokenizer)(samples)
    right = scores.argmax(dim=-1) == questions.encode_targets(samples)
    assert right.float().mean() > 0.9


def test_visualbert_is_one_sequence() -> None:
    model, tokenizer = questions.load_visualbert()
    samples = questions.draw_samples(HELD_OUT, 2, random.Random(2), kinds=("digit",))
    inputs = questions.encode_visualbert(tokenizer, samples)
    both = ("input_ids", "visual_embeds")
    assert set(nodes(model, inputs)) == {("self", both, both, 8 + 16)}


@torch.no_grad()
def test_vit_recognises_digits() -> None:
    scenes = clutter.draw_scenes(HELD_OUT, NUMBER, random.Random(2))
    digits = clutter.load_model()(**clutter.encode(scenes)).logits.argmax(dim=-1)
    assert (digits == clutter.encode_targets(scenes)).float().mean() > 0.85


def test_vit_attends_to_itself() -> None:
    inputs = clutter.encode(clutter.draw_scenes(HELD_OUT, 2, random.Random(2)))
    image = ("pixel_values",)
    assert nodes(clutter.load_model(), inputs) == [("self", image, image, 50)] * 4


@torch.no_grad()
def test_detr_finds_digits() -> None:
    scenes = detection.draw_scenes(HELD_OUT, NUMBER, random.Random(2))
    output = detection.load_model()(**detection.encode(scenes))
    ranked = detection.detections(output, threshold=0)
    assert detection.average_precision(ranked, scenes) > 0.9
    matches = map(detection.match, detection.detections(output), scenes)
    found = sum(digit is not None for of_scene in matches for digit in of_scene)
    assert found > 0.9 * sum(len(scene.digits) for scene in scenes)


@pytest.mark.slow
def test_detr_is_an_encoder_and_a_decoder() -> None:
    inputs = detection.encode(detection.draw_scenes(HELD_OUT, 2, random.Random(2)))
    image, queries = ("pixel_values",), ("model.query_position_embeddings",)
    of_decoder = [("self", queries, queries, 10), ("encoder-decoder", queries, image, 100)]
    want = [("self", image, image, 100)] * 2 + of_decoder * 3
    assert nodes(detection.load_model(), inputs) == want


@torch.no_grad()
def test_t5_looks_keys_up() -> None:
    """Generated word by word, with the cache that `generate` keeps."""
    model, tokenizer = lookup.load_model()
    samples = lookup.draw_lookups(NUMBER, random.Random(2))
    inputs = lookup.encode(tokenizer, samples)
    del inputs["decoder_input_ids"]
    said = model.generate(**inputs, max_new_tokens=7)[:, 1:]
    right = (said == lookup.encode_targets(tokenizer, samples)).all(dim=1)
    assert right.float().mean() > 0.95


@pytest.mark.slow
def test_t5_is_an_encoder_and_a_decoder() -> None:
    model, tokenizer = lookup.load_model()
    samples = lookup.draw_lookups(1, random.Random(2))
    source, answer = ("input_ids",), ("decoder_input_ids",)
    length = len(samples[0].words) + 1
    of_decoder = [("self", answer, answer, 7), ("encoder-decoder", answer, source, length)]
    want = [("self", source, source, length)] * 3 + of_decoder * 3
    assert nodes(model, lookup.encode(tokenizer, samples)) == want
