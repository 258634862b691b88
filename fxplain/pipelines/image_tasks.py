"""The tasks that look at images and answer about them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fxplain.errors import InputError, TargetError
from fxplain.explanation import Contrast
from fxplain.pipelines.encoding import Encoded, encode
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.task import Classification, Goal, Run, Task, per_sample

__all__ = [
    "ImageClassification",
    "ObjectDetection",
    "VideoClassification",
    "ZeroShotImageClassification",
    "padding_of_training",
]


class ImageClassification(Classification):
    """A class for an image."""

    name = "image-classification"
    about = "the predicted class"
    auto = ("AutoModelForImageClassification",)
    needs = ("image",)


class VideoClassification(Classification):
    """A class for a video."""

    name = "video-classification"
    about = "the predicted class"
    auto = ("AutoModelForVideoClassification",)
    needs = ("video",)


class ZeroShotImageClassification(Task):
    """Which of several texts describes an image best: the texts are text=."""

    name = "zero-shot-image-classification"
    about = "the text that fits the image best"
    auto = ("AutoModelForZeroShotImageClassification",)
    needs = ("image", "text")
    returns = ("logits_per_image",)

    def _check_counts(self, counts: dict[str, int]) -> None:
        if counts["image"] > 1:
            raise InputError(
                f"{self.name} compares one image with all texts: give one image at a time."
            )

    def is_one_sample(self, given: Given) -> bool:
        """All texts are of the one image."""
        return len(given.image) <= 1

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """Texts padded as in training."""
        return encode(loaded, given, padding=padding_of_training(loaded.tokenizer))

    def goal(self, run: Run, target: Any, **_: Any) -> Goal:
        """The text asked for, or the one that fits best."""
        texts = run.given.text
        (wanted,) = per_sample(target, 1)
        if wanted is None:
            wanted = int(run.output.logits_per_image[0].argmax())
        if isinstance(wanted, str):
            if wanted not in texts:
                raise TargetError(
                    f"{wanted!r} is none of the texts: {', '.join(map(repr, texts))}."
                )
            wanted = texts.index(wanted)
        known = isinstance(wanted, int) and -len(texts) <= wanted < len(texts)
        return Goal(
            [wanted],
            "logits_per_image",
            (texts[wanted],) if known else (),
            (wanted % len(texts),) if known else (),
            tuple(texts),
        )

    def goals(self, run: Run, target: Any, **_: Any) -> list[Goal]:
        """Each text, or the one asked for."""
        wanted = range(len(run.given.text)) if target is None else [target]
        return [self.goal(run, text) for text in wanted]


def padding_of_training(tokenizer: Any) -> str | bool:
    """To the full length where the model is given no mask and so reads the padding (SigLIP)."""
    return "attention_mask" in tokenizer.model_input_names or "max_length"


class ObjectDetection(Task):
    """Boxes with classes: each is the answer of one object query."""

    name = "object-detection"
    about = "each detection above threshold=: its object query and class"
    auto = ("AutoModelForObjectDetection",)
    needs = ("image",)
    returns = ("logits", "pred_boxes")
    options = frozenset({"threshold"})

    def goal(self, run: Run, target: Any, **_: Any) -> Goal:
        """The surest detection, or the surest one of the class asked for."""
        wanted = per_sample(target, run.encoded.batch_size)
        found = [
            entry if isinstance(entry, (tuple, Contrast)) else self._surest(run, sample, entry)
            for sample, entry in enumerate(wanted)
        ]
        return Goal(found, "logits", self._names(run, found))

    def goals(self, run: Run, target: Any, threshold: float = 0.5, **_: Any) -> list[Goal]:
        """Each detection above the threshold, the surest first."""
        if isinstance(target, tuple):
            return [self.goal(run, target)]
        scores = self._scores(run)[0]
        best, classes = scores.max(-1)
        if target is not None:
            classes = classes.new_full(classes.shape, self._class(run, target))
            best = scores.gather(-1, classes[:, None])[:, 0]
        found = [
            (query, int(classes[query]))
            for query in best.argsort(descending=True).tolist()
            if float(best[query]) > threshold
        ]
        return [Goal([index], "logits", self._names(run, [index])) for index in found]

    def _scores(self, run: Run) -> Tensor:
        """(batch, queries, classes) probabilities.

        A head with one class more than there are labels ("no object") chooses among them; one
        without says of each class whether it is there.
        """
        logits: Tensor = run.output.logits
        labels = getattr(run.loaded.model.config, "num_labels", logits.shape[-1])
        if logits.shape[-1] == labels + 1:
            return logits.softmax(-1)[..., :-1]
        return logits.sigmoid()

    def _surest(self, run: Run, sample: int, target: Any) -> tuple[int, int]:
        scores = self._scores(run)[sample]
        if target is None:
            best = int(scores.argmax())
            return best // scores.shape[-1], best % scores.shape[-1]
        number = self._class(run, target)
        return int(scores[:, number].argmax()), number

    def _class(self, run: Run, target: Any) -> int:
        labels = getattr(run.loaded.model.config, "label2id", None) or {}
        if isinstance(target, int) and 0 <= target < self._scores(run).shape[-1]:
            return target
        if target not in labels:
            known = ", ".join(map(repr, list(labels)[:10]))
            raise TargetError(f"the model has no label {target!r}; its labels: {known}.")
        return int(labels[target])

    def _names(self, run: Run, found: list[Any]) -> tuple[str, ...]:
        if not all(isinstance(index, tuple) and len(index) == 2 for index in found):
            return ()
        scores = self._scores(run)
        return tuple(
            f"{run.label(number)} {float(scores[sample, query, number]):.0%}"
            for sample, (query, number) in enumerate(found)
        )
