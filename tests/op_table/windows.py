"""Samples of windows that slide along a grid: convolutions and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import ops

from tests.op_table.layouts import (
    channels_first,
    image,
    volume,
)
from tests.op_table.samples import LATER, Sample, thinned
from tests.op_table.setting import LENGTH, WIDTH

__all__ = ["WINDOWS"]

aten = ops.aten
F64 = torch.float64


def _windows() -> Iterator[Sample]:
    for count, layout in ((1, channels_first), (2, image), (3, volume)):
        one = [1] * count
        k = {1: [2], 2: [2, 2], 3: [1, 2, 2]}[count]
        p = {1: [1], 2: [0, 1], 3: [0, 0, 1]}[count]
        odd = {1: [3], 2: [1, 3], 3: [1, 1, 3]}[count]
        conv = getattr(aten, f"conv{count}d")
        for what, size, stride, pad in (
            ("", k, one, [0] * count),
            ("strided ", k, k, [0] * count),
            ("padded ", odd, one, p),
            ("padded strided ", odd, k, p),
        ):
            how: dict[str, Any] = {"stages": LATER} if what == "padded " else {}
            yield Sample(
                f"{what}conv{count}d",
                lambda s, o=conv, f=layout, k=size, n=stride, p=pad: o(
                    f(s), s.parameter(5, WIDTH, *k), None, n, p
                ),
                **how,
            )
            yield Sample(
                f"{what}depthwise conv{count}d",
                lambda s, o=conv, f=layout, k=size, n=stride, p=pad: o(
                    f(s), s.parameter(WIDTH, 1, *k), None, n, p, [1] * len(k), WIDTH
                ),
                **how,
            )
            yield Sample(
                f"{what}convolution in {count}d",
                lambda s, f=layout, k=size, n=stride, p=pad: aten.convolution(
                    f(s),
                    s.parameter(5, WIDTH, *k),
                    None,
                    n,
                    p,
                    [1] * len(k),
                    False,
                    [0] * len(k),
                    1,
                ),
                **how,
            )
            for kind in ("max", "avg"):
                pool = getattr(aten, f"{kind}_pool{count}d")
                yield Sample(
                    f"{what}{kind}_pool{count}d",
                    lambda s, o=pool, f=layout, k=size, n=stride, p=pad: o(f(s), k, n, p),
                    **how,
                )
            pool = getattr(aten, f"max_pool{count}d_with_indices")
            yield Sample(
                f"{what}max_pool{count}d_with_indices",
                lambda s, o=pool, f=layout, k=size, n=stride, p=pad: o(f(s), k, n, p),
                **how,
            )
        yield Sample(
            f"pointwise conv{count}d",
            lambda s, o=conv, f=layout, c=count: o(f(s), s.parameter(5, WIDTH, *[1] * c)),
        )
        yield Sample(
            f"dilated conv{count}d",
            lambda s, o=conv, f=layout, c=count: o(
                f(s),
                s.parameter(5, WIDTH, *[1] * (c - 1), 2),
                None,
                [1] * c,
                [0] * c,
                [*[1] * (c - 1), 2],
            ),
        )
        yield Sample(
            f"conv{count}d of the same size",
            lambda s, o=conv, f=layout, c=count: o(
                f(s), s.parameter(5, WIDTH, *[1] * (c - 1), 3), None, [1] * c, "same"
            ),
            stages=LATER,
        )
        yield Sample(
            f"conv{count}d of the same size, even",
            lambda s, o=conv, f=layout, c=count: o(
                f(s), s.parameter(5, WIDTH, *[1] * (c - 1), 2), None, [1] * c, "same"
            ),
            stages=LATER,
        )
        turned = getattr(aten, f"conv_transpose{count}d")
        yield Sample(
            f"conv_transpose{count}d",
            lambda s, o=turned, f=layout, c=count: o(
                f(s), s.parameter(WIDTH, 5, *[1] * (c - 1), 2), None, [*[1] * (c - 1), 2]
            ),
        )
        yield Sample(
            f"conv_transpose{count}d that overlaps",
            lambda s, o=turned, f=layout, c=count: o(
                f(s),
                s.parameter(WIDTH, 5, *[1] * (c - 1), 3),
                None,
                [*[1] * (c - 1), 2],
                [*[0] * (c - 1), 1],
            ),
        )
        yield Sample(
            f"conv_transpose{count}d, stride 1",
            lambda s, o=turned, f=layout, c=count: o(
                f(s), s.parameter(WIDTH, 5, *[1] * (c - 1), 2)
            ),
        )
        for kind in ("max", "avg"):
            pool = getattr(aten, f"adaptive_{kind}_pool{count}d")
            for out in {(1,) * count: 0, (*(1,) * (count - 1), 2): 0, (2,) * count: 0}:
                yield Sample(
                    f"adaptive_{kind}_pool{count}d to {out}",
                    lambda s, o=pool, f=layout, n=out: o(f(s), list(n)),
                )
        if count > 1:
            pool = getattr(aten, f"_adaptive_avg_pool{count}d")
            yield Sample(
                f"_adaptive_avg_pool{count}d",
                lambda s, o=pool, f=layout, c=count: o(f(s), [1] * (c - 1) + [2]),
            )
    yield Sample(
        "conv1d along features", lambda s: aten.conv1d(s.tokens(), s.parameter(LENGTH, LENGTH, 1))
    )
    yield Sample(
        "conv1d of tokens as channels",
        lambda s: aten.conv1d(s.tokens(), s.parameter(4, LENGTH, 3), None, [1], [1]),
    )
    yield Sample(
        "_convolution_mode",
        lambda s: aten._convolution_mode(
            channels_first(s), s.parameter(5, WIDTH, 3), None, [1], "same", [1], 1
        ),
        stages=LATER,
    )
    yield Sample(
        "_convolution",
        lambda s: aten._convolution(
            channels_first(s),
            s.parameter(5, WIDTH, 2),
            None,
            [1],
            [0],
            [1],
            False,
            [0],
            1,
            False,
            False,
            False,
            False,
        ),
    )
    yield Sample(
        "convolution, transposed",
        lambda s: aten.convolution(
            image(s), s.parameter(WIDTH, 5, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1
        ),
    )
    yield Sample(
        "avg_pool2d with ceil", lambda s: aten.avg_pool2d(image(s), [2, 2], [2, 2], [0, 0], True)
    )
    yield Sample("max_pool1d of rows", lambda s: aten.max_pool1d(s.tokens(), [2], [2]))
    yield Sample(
        "max_pool2d of a bare image", lambda s: aten.max_pool2d(aten.select(image(s), 0, 0), [1, 2])
    )
    yield Sample(
        "max_pool2d, dilated", lambda s: aten.max_pool2d(image(s), [1, 2], [1, 1], [0, 0], [1, 2])
    )


WINDOWS = [*thinned(_windows(), 3)]
