"""Resampling: grids of tokens pooled, interpolated or sampled, and mixing along a whole axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mixing import mix, mix_along, newer, slide
from fxplain.tokens.rules import unknown
from fxplain.tokens.scaling import is_factor
from fxplain.tokens.tag import NO_TOKEN, Tag, Tags

__all__ = [
    "accumulate", "adaptive_pool", "cell", "difference", "fold", "fourier", "grid_sample",
    "interpolate", "pool", "recurrent", "spectrogram", "transposed_convolution",
]  # fmt: skip


# -- pooling over a grid --------------------------------------------------------------------------


def pool(a: Analysis, node: fx.Node) -> Tagged:
    """Max and average pooling with a sliding window."""
    named = arguments(node)
    source = named["input"]
    count = int(str(node.target).split("pool")[1][0])
    kernel = _per_axis(named["kernel_size"], count)
    stride = _per_axis(named.get("stride") or kernel, count)
    padding = [(n, n) for n in _per_axis(named.get("padding", 0), count)]
    dilation = _per_axis(named.get("dilation", 1), count)
    shape = a.shape(source)
    axes = list(range(len(shape) - count, len(shape)))
    result = tuple(
        slide(a, node, tag, shape, axes, kernel, stride, padding, dilation)
        for tag in a.tags(source)
    )
    return [result, ()] if _has_indices(node) else result


def fold(a: Analysis, node: fx.Node) -> Tagged:
    """``fold``: columns laid out as windows of a grid; where windows overlap, they are summed.

    Of each place in the window at most one column reaches a position, so what is summed there is
    found by laying out one place at a time.
    """
    source = node.args[0]
    assert isinstance(source, fx.Node)
    named, shape = arguments(node), a.shape(source)
    height, width = (int(n) for n in named["kernel_size"])
    count = height * width
    rest = a.value(node.args[1:])
    target: Any = node.target
    result = []
    for tag in a.tags(source):
        by_place = tag.full(shape, (tag.ids.dim() - 2, tag.ids.dim() - 1))
        by_place = by_place.unflatten(-2, (-1, count))
        if not tag.varies(tag.ids.dim() - 2):
            by_place = by_place[..., :1, :, :]
        laid_out = []
        for place in range(count):
            alone = torch.full_like(by_place, NO_TOKEN)
            alone[..., place, :] = by_place[..., place, :]
            columns = (alone + 1).double().flatten(-3, -2)
            laid_out.append(target(columns, *rest).long() - 1)
        groups = torch.stack(laid_out, -1)
        centre = groups[..., count // 2]
        same = count % 2 and shape[-1] == groups.shape[-2] * groups.shape[-3]
        keep = centre if same and bool((centre >= 0).all()) else None
        result.append(mix(a, node, tag, groups, keep=keep, grid=True))
    return tuple(result)


def _has_indices(node: fx.Node) -> bool:
    """Whether an operation returns the positions of its maxima beside the values."""
    return isinstance(node.meta.get("val"), (tuple, list))


def _per_axis(value: Any, count: int) -> list[int]:
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes * count if len(sizes) == 1 else sizes


def adaptive_pool(a: Analysis, node: fx.Node) -> Tagged:
    """Adaptive pooling: window i covers floor(i n/m) to ceil((i+1) n/m)."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    shape, out = a.shape(source), a.shape(node)
    count = int(str(node.target).split("pool")[1][0])
    axes = range(len(shape) - count, len(shape))
    results = []
    for tag in a.tags(source):
        varied = [axis for axis in axes if tag.varies(axis)]
        if varied:
            ids = tag.ids
            for axis in varied:
                ids = _adaptive_windows(ids, axis, shape[axis], out[axis])
            groups = ids.flatten(len(shape))
            tag = mix(a, node, tag, groups)
        results.append(tag)
    result = tuple(results)
    return [result, ()] if _has_indices(node) else result


def _adaptive_windows(ids: Tensor, axis: int, size: int, out: int) -> Tensor:
    """Put the members of each window of `axis` on a new last axis (-1 fills the shorter ones)."""
    starts = [i * size // out for i in range(out)]
    ends = [-(-(i + 1) * size // out) for i in range(out)]
    widest = max(e - s for s, e in zip(starts, ends, strict=True))
    index = torch.tensor(
        [
            [s + k if s + k < e else -1 for k in range(widest)]
            for s, e in zip(starts, ends, strict=True)
        ]
    )
    picked = ids.movedim(axis, -1)[..., index.clamp(min=0)]
    picked = torch.where(index >= 0, picked, -1)
    return picked.movedim(-2, axis)


# -- interpolation --------------------------------------------------------------------------------


def interpolate(a: Analysis, node: fx.Node) -> Tagged:
    """Resizing a grid: each new position is made of the old ones around it, by the true weights."""
    source = _source(node)
    old = a.shape(source)
    axes = range(2, len(old))
    weights: list[Tensor] | None = None
    result = []
    for tag in a.tags(source):
        if any(tag.varies(axis) for axis in axes):
            weights = weights or [_interpolation(a, node, old, axis) for axis in axes]
            tag = _resampled(a, node, tag, weights)
        result.append(tag)
    return tuple(result)


def _interpolation(a: Analysis, node: fx.Node, old: Sequence[int], axis: int) -> Tensor:
    """The weights along one axis (new x old): the operation itself, run on every unit vector."""
    size, new = old[axis], a.shape(node)
    units = torch.eye(size).reshape(
        size, 1, *(size if i == axis else 1 for i in range(2, len(old)))
    )
    units = units.expand(
        -1, -1, *(n if i != axis and new[i] < n else -1 for i, n in enumerate(old) if i > 1)
    )
    target: Any = node.target
    made: Tensor = target(units, *a.value(node.args[1:]), **a.value(node.kwargs))
    for other in reversed(range(2, len(old))):
        made = made if other == axis else made.select(other, 0)
    return made.squeeze(1).t().abs()


def _resampled(a: Analysis, node: fx.Node, tag: Tag, weights: Sequence[Tensor]) -> Tag:
    """Tokens of a new grid, from each axis's weights (new x old)."""
    groups, shares = tag.ids, torch.ones((), dtype=torch.float64)
    rank, count = tag.ids.dim(), len(weights)
    for i, matrix in enumerate(weights):
        axis = rank - count + i
        if not tag.varies(axis):
            groups, shares = groups.unsqueeze(-1), shares.unsqueeze(-1)
            continue
        most = int((matrix > 0).sum(1).max())
        share, near = matrix.double().topk(most, 1)
        groups = groups.index_select(axis, near.flatten()).unflatten(axis, near.shape)
        groups = groups.movedim(axis + 1, -1)
        here = [1] * (rank + i + 1)
        here[axis], here[-1] = near.shape
        shares = shares.unsqueeze(-1) * share.reshape(here)
    groups = groups.flatten(rank)
    missing = rank + count - shares.dim()
    shares = shares.reshape(*[1] * missing, *shares.shape).flatten(-count)
    nearest = groups[..., 0]  # the largest share comes first
    groups = torch.where(shares > 0, groups, groups[..., :1])
    if a.joiner.newborn(tag):  # a backbone's features, resized position embeddings
        same = bool((groups == groups[..., :1]).all()) and nearest.numel() <= tag.ids.numel()
        return tag.with_ids(nearest) if same else newer(a, node, tag, nearest)
    return mix(a, node, tag, groups, weights=lambda: shares)


def transposed_convolution(a: Analysis, node: fx.Node) -> Tagged:
    """Upsampling: each new position is made of the old positions whose taps reach it."""
    source, named = _source(node), arguments(node)
    shape, out = a.shape(source), a.shape(node)
    sizes = a.shape(named["weight"])[2:]
    count = len(sizes)
    stride, padding, dilation = (
        _per_axis(named[name], count) for name in ("stride", "padding", "dilation")
    )
    result = []
    for tag in a.joiner.promoted(a.tags(source)):
        groups, over = tag.ids, []
        for i in range(count):
            axis = len(shape) - count + i
            if tag.varies(axis):
                over.append(i)
                reached = _reaching(
                    shape[axis], out[axis], sizes[i], stride[i], padding[i], dilation[i]
                )
                picked = groups.movedim(axis, -1)[..., reached.clamp(min=0)]
                picked = torch.where(reached >= 0, picked, NO_TOKEN)
                groups = picked.movedim(-2, axis)
        if not over:
            result.append(tag)
            continue

        def taps(over: list[int] = over) -> Tensor:
            kernel: Tensor = a.value(named["weight"]).detach().cpu().double().abs().sum((0, 1))
            summed = [i for i in range(count) if i not in over]
            return (kernel.sum(summed) if summed else kernel).flatten()

        result.append(mix(a, node, tag, groups.flatten(len(shape)), weights=taps))
    return tuple(result)


def _reaching(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> Tensor:
    """For each new position and each tap the old position that reaches it so, -1 where none does."""
    place = torch.arange(out)[:, None] + padding - torch.arange(taps) * dilation
    old = place.div(stride, rounding_mode="floor")
    there = (place % stride == 0) & (old >= 0) & (old < size)
    return torch.where(there, old, -1)


def _source(node: fx.Node) -> fx.Node:
    source = node.args[0] if node.args else node.kwargs["self"]
    assert isinstance(source, fx.Node)
    return source


def grid_sample(a: Analysis, node: fx.Node) -> Tagged:
    """Values sampled at points of a grid: tokens that are made of many, by weights that are not read.

    What says where to sample are the tokens that asked (deformable attention), if any did.
    """
    named = arguments(node)
    source, grid = named["input"], named["grid"]
    tags, shape, out = a.tags(source), a.shape(source), a.shape(node)
    points = tuple(tag.with_ids(tag.ids[..., 0].unsqueeze(1)) for tag in a.tags(grid))
    moved = any(tag.varies(axis) for tag in tags for axis in range(2, len(shape)))
    if not moved:
        return a.joiner.join([(tags, (*shape[:2], *[1] * (len(out) - 2))), (points, out)], out)
    a.warn(
        f"{node.target} in {module_path(node) or 'the model'} mixes tokens without attention, at "
        f"points that the model chooses: what it carries from token to token is not in the explanation"
    )
    if points:
        return points
    return tuple(newer(a, node, tag, _one_of_grid(tag, out)) for tag in tags)


def _one_of_grid(tag: Tag, out: Sequence[int]) -> Tensor:
    """Some token of each sample, over the axes of another grid."""
    lead = tag.ids.shape[:2]
    some = tag.ids.flatten(2).amax(-1)
    return some.reshape(*lead, *[1] * (len(out) - 2)).expand(*lead, *out[2:])


# -- along a whole axis ---------------------------------------------------------------------------


def accumulate(a: Analysis, node: fx.Node) -> Tagged:
    """Running sums and extremes: each token is made of itself and of those before it."""
    source = _source(node)
    shape = a.shape(source)
    axis = int(arguments(node)["dim"]) % max(len(shape), 1)
    size = shape[axis] if shape else 1
    weights = torch.ones(size, size).tril()
    result = _mixed_along(a, node, a.tags(source), axis, weights, neighbours=True)
    return [result, ()] if _has_indices(node) else result


def difference(a: Analysis, node: fx.Node) -> Tagged:
    """Differences of neighbours: each is made of as many tokens as were subtracted from one another."""
    source, named = _source(node), arguments(node)
    shape, out = a.shape(source), a.shape(node)
    axis = int(named["dim"]) % len(shape)
    if named.get("prepend") is not None or named.get("append") is not None:
        return unknown(a, node)
    near = torch.ones(out[axis], shape[axis]).triu().tril(int(named["n"]))
    return _mixed_along(a, node, a.tags(source), axis, near)


def fourier(a: Analysis, node: fx.Node) -> Tagged:
    """A Fourier transform along tokens: each frequency is made of all of them, equally."""
    source = _source(node)
    shape, out = a.shape(source), a.shape(node)
    named = arguments(node)
    dims = next((named[k] for k in ("dim", "dims") if named.get(k) is not None), None)
    if dims is None:
        name = str(node.target)
        dims = -1 if "fftn" not in name and "fft2" not in name else list(range(len(shape)))
    axes = [int(d) % len(shape) for d in ([dims] if isinstance(dims, int) else a.value(dims))]
    convolved = _convolved(a, node, axes[0]) if len(axes) == 1 else None
    if convolved is not None:
        return convolved
    tags = a.tags(source)
    for i, axis in enumerate(axes):
        used = _transformed(a, node, i, len(axes), out[axis])
        even = torch.ones(out[axis], shape[axis])
        even[:, shape[axis] if used is None else used :] = 0  # what is cut off before
        tags = _mixed_along(a, node, tags, axis, even)
    return tags


def _convolved(a: Analysis, node: fx.Node, axis: int) -> Tags | None:
    """The tags of a long convolution: what a filter leaves of a transform, transformed back.

    Each token is made of those that the filter's response reaches, by its mean size over features.
    """
    product = _source(node)
    if not any(back in operation_name(node) for back in ("irfft", "ifft")):
        return None
    if operation_name(product) not in ("mul", "multiply"):
        return None
    for spectrum, factor in (product.args[:2], product.args[1::-1]):
        if not isinstance(spectrum, fx.Node) or not isinstance(factor, fx.Node):
            continue
        if operation_name(spectrum) not in ("fft_rfft", "fft_fft") or not is_factor(a, factor):
            continue
        source, back = _source(spectrum), axis - len(a.shape(node))
        shape, size = a.shape(source), a.shape(node)[axis]
        if len(shape) != len(a.shape(node)) or len(a.shape(factor)) < -back:
            continue
        along = int(arguments(spectrum).get("dim") or -1) % len(shape)
        if along != axis or a.shape(factor)[back] != a.shape(spectrum)[axis]:
            continue
        inverse = torch.fft.irfft if "irfft" in operation_name(node) else torch.fft.ifft
        response = inverse(a.value(factor).detach().cpu(), size, dim=back).abs().double()
        reach = response.movedim(back, -1).flatten(0, -2).mean(0)
        used = min(shape[axis], arguments(spectrum).get("n") or shape[axis])
        place = (torch.arange(size)[:, None] - torch.arange(shape[axis])) % size
        matrix = torch.where(torch.arange(shape[axis]) < used, reach[place], 0)
        matrix = torch.where(matrix > 1e-6 * reach.max(), matrix, 0)
        return _mixed_along(a, node, a.tags(source), axis, matrix)
    return None


def _mixed_along(
    a: Analysis, node: fx.Node, tags: Tags, axis: int, weights: Tensor, *, neighbours: bool = False
) -> Tags:
    """Tags whose tokens are mixed along an axis by a matrix (new x old)."""
    return tuple(
        mix_along(a, node, tag, axis, len(weights), lambda: weights, neighbours=neighbours)
        if tag.varies(axis)
        else tag
        for tag in tags
    )


def _transformed(a: Analysis, node: fx.Node, i: int, count: int, out: int) -> int | None:
    """How many elements of an axis a Fourier transform reads; None for all of them."""
    named = arguments(node)
    if i == count - 1 and any(half in str(node.target) for half in ("irfft", "hfft", "c2r")):
        return out // 2 + 1 if "ihfft" not in str(node.target) else a.value(named.get("n"))
    sizes = a.value(named.get("s"))
    return a.value(named.get("n")) if sizes is None else int(sizes[i])


def spectrogram(a: Analysis, node: fx.Node) -> Tagged:
    """A short-time Fourier transform: the signal's frames are new tokens."""
    source = _source(node)
    out = a.shape(node)
    frames = len(out) - 1 - (not node.meta["val"].dtype.is_complex)
    result = []
    for tag in a.joiner.promoted(a.tags(source)):
        sample = tag.ids.amax(-1).reshape(
            *tag.ids.shape[:-1], *[1] * (len(out) - tag.ids.dim() + 1)
        )
        sizes = [-1] * len(out)
        sizes[frames] = out[frames]
        result.append(newer(a, node, tag, sample.expand(sizes)))
    return tuple(result)


def recurrent(a: Analysis, node: fx.Node) -> Tagged:
    """LSTM, GRU and plain recurrence: each step keeps its token, what it carries on is not followed."""
    source = _source(node)
    outputs = node.meta["val"]
    tags = tuple(a.joiner.promoted(a.tags(source)))
    time = int(bool(arguments(node).get("batch_first"))) if len(a.shape(source)) == 3 else 0
    if not tags:
        return ()
    if any(tag.varies(time) for tag in tags):
        a.warn_of_mixing(node)
    last = []
    for tag in tags:
        groups = tag.ids.select(-1, 0).movedim(time, -1)
        if "batch_sizes" in arguments(node):  # a packed batch: the rows of each sequence
            rows = _rows_of_packed(a.value(arguments(node)["batch_sizes"]).tolist())
            groups = torch.where(rows < 0, NO_TOKEN, groups[rows.clamp(min=0)])
        state = mix(a, node, tag, groups)
        shape = (1, *state.ids.shape, 1)
        last.append(Tag(state.ids.reshape(shape), state.level))
    return [tags] + [tuple(last) for _ in outputs[1:]]


def _rows_of_packed(sizes: Sequence[int]) -> Tensor:
    """The rows of each of several packed sequences, (sequences, steps); -1 behind the shorter ones."""
    rows, first = torch.full((sizes[0], len(sizes)), -1), 0
    for step, count in enumerate(sizes):
        rows[:count, step] = torch.arange(first, first + count)
        first += count
    return rows


def cell(a: Analysis, node: fx.Node) -> Tagged:
    """One step of a recurrence: it keeps its token, what it heard of others is not followed.

    Where the state is the same tokens' (a gated residual), it is a join like any other.
    """
    named = arguments(node)
    state = named["hx"] if isinstance(named["hx"], (list, tuple)) else [named["hx"]]
    tags = a.joiner.promoted(a.tags(named["input"]))
    held = [a.joiner.promoted(a.tags(part)) for part in state]
    if tags and any(held):
        own = a.book.find(tags[0].tokens)
        if all(len(of_part) == 1 and _names(a, of_part[0], own) for of_part in (tags, *held)):
            shape = tags[0].ids.shape
            tags = a.joiner.join([(of_part, shape) for of_part in (tags, *held)], shape)
        else:
            a.warn_of_mixing(node)
    return [tags] * len(state) if len(state) > 1 else tags


def _names(a: Analysis, tag: Tag, tokens: Tensor) -> bool:
    """Whether a tag names these tokens, place by place."""
    return tag.ids.shape == tokens.shape and torch.equal(a.book.find(tag.tokens), tokens)
