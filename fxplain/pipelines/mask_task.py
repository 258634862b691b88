"""Masks: what a model of the SAM kind cuts out of an image at the points that it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fxplain.errors import InputError, TargetError
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.task import Goal, Run, Task
from fxplain.written import rounded

__all__ = ["MaskGeneration"]


class MaskGeneration(Task):
    """A mask of what lies at points of an image: the mean of its numbers, over the mask itself."""

    name = "mask-generation"
    about = "the mask that the model rates best at points=, by the mean of its numbers within it"
    auto = ("AutoModelForMaskGeneration",)
    needs = ("image",)
    points = True
    returns = ("pred_masks", "iou_scores")

    def check(self, loaded: Loaded, given: Given) -> None:
        """Points are of one image."""
        super().check(loaded, given)
        if len(given.image) > 1:
            raise InputError(
                f"{self.name} takes one image at a time, for points= are places in it."
            )
        for image in given.image:
            width, height = image.size
            for x, y in given.points:
                if not (0 <= x < width and 0 <= y < height):
                    raise InputError(
                        f"the point ({x:g}, {y:g}) is not in the image, which is {width} pixels wide "
                        f"and {height} high."
                    )

    def goal(self, run: Run, target: Any, **_: Any) -> Goal:
        """The mask asked for, by its number, or the best."""
        scores: Tensor = run.output.iou_scores[0, 0]
        if target is not None and target not in range(len(scores)):
            raise TargetError(
                f"{target!r} is no target: give the number of a mask, 0 to {len(scores) - 1}."
            )
        return self._goal(run, int(scores.argmax()) if target is None else int(target))

    def goals(self, run: Run, target: Any, **_: Any) -> list[Goal]:
        """Each mask that is not empty, the best first."""
        if target is not None:
            return [self.goal(run, target)]
        order = run.output.iou_scores[0, 0].argsort(descending=True).tolist()
        return [self._goal(run, number) for number in order if _inside(run, number).any()]

    def _goal(self, run: Run, number: int) -> Goal:
        inside = _inside(run, number)
        if not run.given.points and not run.given.inputs:
            raise InputError(f"{self.name} needs points=, and none is given.")
        if not inside.any():
            raise TargetError(
                f"mask {number} is empty: the model finds nothing there. Name another with target=, "
                f"or give other points=."
            )
        rated = float(run.output.iou_scores[0, 0, number])
        return Goal(
            _mean_within(number, inside), names=(f"mask {number}, rated {rounded(rated, '.2f')}",)
        )


def _inside(run: Run, number: int) -> Tensor:
    """(rows, columns) where the mask is: where its numbers are positive."""
    mask: Tensor = run.output.pred_masks[0, 0, number]
    return mask > 0


def _mean_within(number: int, inside: Tensor) -> Callable[[Any], Tensor]:
    def mask_within(output: Any) -> Tensor:
        masks: Tensor = output.pred_masks[:, 0, number]
        return masks[:, inside].mean(1)  # by index: what is outside is not read

    return mask_within
