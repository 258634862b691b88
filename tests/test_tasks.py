"""The examples' tasks: drawn alike from a seed, and their ground truth is true."""

import random
from collections.abc import Callable, Sequence

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("transformers")

from examples.tasks import clutter, detection, lookup, questions
from examples.tasks.canvas import INK, Square
from examples.tasks.detection import Detection
from examples.tasks.digit_images import split_digits
from fxplain.demo import digits

HELD_OUT = split_digits()[1]


def fields(sample: object) -> list[object]:
    """A sample's fields, its tensors as lists."""
    values = vars(sample).values()
    return [v.tolist() if isinstance(v, torch.Tensor) else v for v in values]


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: questions.draw_samples(HELD_OUT, 8, generator),
        lambda generator: clutter.draw_scenes(HELD_OUT, 8, generator),
        lambda generator: detection.draw_scenes(HELD_OUT, 8, generator),
        lambda generator: lookup.draw_lookups(8, generator),
    ],
    ids=["questions", "clutter", "detection", "lookup"],
)
def test_a_seed_decides_what_is_drawn(draw: Callable[[random.Random], list[object]]) -> None:
    first, again, other = ([fields(s) for s in draw(random.Random(seed))] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_no_image_is_both_trained_on_and_held_out() -> None:
    training, held_out = split_digits()
    assert len(training.labels) + len(held_out.labels) == 1797
    seen = {tuple(image.flatten().tolist()) for image in training.images}
    assert not any(tuple(image.flatten().tolist()) in seen for image in held_out.images)


def test_squares_overlap_where_they_share_a_pixel() -> None:
    square = Square(top=4, left=4, side=3)
    assert square.overlaps(Square(6, 6, 2))
    assert not square.overlaps(Square(7, 4, 3))
    assert not square.overlaps(Square(4, 1, 3))


# ---- questions ----------------------------------------------------------------------------------


def test_asked_patches_decide_the_answer() -> None:
    """Asked the same about a mosaic that agrees in the asked corners only, the answer is the same."""
    for sample in questions.draw_samples(HELD_OUT, 40, random.Random(0)):
        (asked,) = questions.asked_patches([sample])
        places = [digits.CORNERS.index(corner) for corner in sample.question.corners]
        assert asked.sum() == 4 * len(places)
        for place, corner in enumerate(digits.CORNERS):
            covered = asked[digits.corner_patches(corner)]
            assert covered.all() if place in places else not covered.any()
        if sample.question.kind == "digit":
            assert sample.question.answer == str(sample.digits[places[0]])


def test_visualbert_reads_what_the_lxmert_reads() -> None:
    _, tokenizer = questions.load_visualbert()
    samples = questions.draw_samples(HELD_OUT, 3, random.Random(0))
    one, other = (
        encode(tokenizer, samples)
        for encode in (questions.encode_lxmert, questions.encode_visualbert)
    )
    torch.testing.assert_close(other["visual_embeds"][..., :16], one["visual_feats"])
    torch.testing.assert_close(other["visual_embeds"][..., 16:], one["visual_pos"])
    assert other["input_ids"].equal(one["input_ids"])
    assert other["visual_attention_mask"].all()


# ---- clutter ------------------------------------------------------------------------------------


def test_a_scene_shows_its_digit_within_its_mask() -> None:
    """Within the mask's box the ink is the digit's: more than the threshold there, and only there."""
    for scene in clutter.draw_scenes(HELD_OUT, 30, random.Random(0)):
        x1, y1, x2, y2 = (detection.mask_boxes(scene.mask[None])[0] * 28).round().int().tolist()
        box = (slice(y1, y2), slice(x1, x2))
        assert (scene.image[box] > INK).equal(scene.mask[box])
        assert scene.mask.sum() == scene.mask[box].sum() > 20
    pixels = clutter.encode([scene])["pixel_values"]
    assert pixels.shape == (1, 1, 28, 28)
    assert abs(pixels.mean()) < 0.5


def test_fragments_are_ink_outside_the_mask() -> None:
    scenes = clutter.draw_scenes(HELD_OUT, 30, random.Random(0))
    assert all(((scene.image > INK) & ~scene.mask).any() for scene in scenes)


# ---- detection ----------------------------------------------------------------------------------


def test_masks_are_disjoint_and_hold_all_ink() -> None:
    for scene in detection.draw_scenes(HELD_OUT, 30, random.Random(0)):
        assert 1 <= len(scene.digits) == len(scene.masks) <= 3
        assert scene.masks.sum(dim=0).max() == 1
        assert scene.masks.any(dim=0).equal(scene.image > INK)


def test_boxes_lie_around_masks() -> None:
    masks = torch.zeros(2, 10, 20, dtype=torch.bool)
    masks[0, 2:5, 4:10] = True
    masks[1, 9, 19] = True
    boxes = detection.mask_boxes(masks)
    torch.testing.assert_close(boxes, torch.tensor([[0.2, 0.2, 0.5, 0.5], [0.95, 0.9, 1.0, 1.0]]))


def test_targets_are_centres_and_sizes() -> None:
    (scene,) = detection.draw_scenes(HELD_OUT, 1, random.Random(0))
    (target,) = detection.encode_targets([scene])
    centre, size = target["boxes"].split(2, dim=1)
    torch.testing.assert_close(torch.cat([centre - size / 2, centre + size / 2], 1), scene.boxes)
    assert target["class_labels"].tolist() == list(scene.digits)


def found(digit: int, confidence: float, *box: float) -> Detection:
    return Detection(0, digit, confidence, torch.tensor(box))


def two_digits() -> detection.Scene:
    boxes = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 1.0, 1.0]])
    return detection.Scene(torch.zeros(40, 40), (3, 7), torch.zeros(2, 40, 40).bool(), boxes)


def test_a_digit_is_found_once_by_the_most_confident() -> None:
    matches = detection.match(
        [
            found(3, 0.6, 0.0, 0.0, 0.4, 0.4),  # right, but another is surer
            found(3, 0.9, 0.0, 0.0, 0.4, 0.3),  # overlap 0.75
            found(8, 0.9, 0.5, 0.5, 1.0, 1.0),  # another class
            found(7, 0.9, 0.0, 0.0, 0.4, 0.4),  # another place
        ],
        two_digits(),
    )
    assert matches == [None, 0, None, None]


def test_average_precision_by_hand() -> None:
    """Of each digit twice present, one is found, behind one mistake: precision 1/2 at recall 1/2."""
    box = (0.0, 0.0, 0.4, 0.4)
    scenes = [
        detection.Scene(torch.zeros(40, 40), (digit,), torch.zeros(1, 40, 40).bool(),
                        torch.tensor([box]))
        for digit in range(10) for _ in range(2)
    ]  # fmt: skip
    results = [
        of_scene
        for digit in range(10)
        for of_scene in (
            [found(digit, 0.9, 0.6, 0.6, 1.0, 1.0), found(digit, 0.8, *box)],
            [],
        )
    ]
    assert detection.average_precision(results, scenes) == pytest.approx(0.25)
    perfect = [[found(scene.digits[0], 0.5, *box)] for scene in scenes]
    assert detection.average_precision(perfect, scenes, least_iou=0.95) == pytest.approx(1)


# ---- lookup -------------------------------------------------------------------------------------


def literally_answered(words: Sequence[str]) -> tuple[str, ...]:
    """The answer to a source, from its words alone."""
    text = " ".join(words)
    command, *asked = text.partition(" ? ")[0].split()
    digits = dict(pair.split() for pair in text.partition(" ? ")[2].split(" , "))
    if command == "reverse":
        asked = asked[::-1]
    if command == "sort":
        asked = sorted(asked)
    return tuple(word for key in asked for word in (key, digits[key]))


def test_evidence_is_the_answer_in_the_source() -> None:
    for sample in lookup.draw_lookups(60, random.Random(0)):
        words = sample.words
        assert sample.answer == literally_answered(words)
        assert tuple(words[place] for place in sample.evidence) == sample.answer
        for word, place, found_key in zip(
            sample.answer, sample.evidence, sample.found_keys, strict=True
        ):
            behind_question = words.index("?") < place
            assert behind_question == (word in lookup.DIGITS)
            assert place == found_key + 1 if behind_question else word == words[found_key]
            assert words.index("?") < found_key


def test_places_in_the_source_are_token_places() -> None:
    _, tokenizer = lookup.load_model()
    samples = lookup.draw_lookups(6, random.Random(0))
    inputs = lookup.encode(tokenizer, samples)
    targets = lookup.encode_targets(tokenizer, samples)
    for row, sample in enumerate(samples):
        ids = inputs["input_ids"][row]
        assert ids[list(sample.evidence)].equal(targets[row, :-1])
        assert inputs["attention_mask"][row].sum() == len(sample.words) + 1
    assert inputs["decoder_input_ids"][:, 1:].equal(targets[:, :-1])
    assert (inputs["decoder_input_ids"][:, 0] == tokenizer.pad_token_id).all()
    assert (targets[:, -1] == tokenizer.eos_token_id).all()
