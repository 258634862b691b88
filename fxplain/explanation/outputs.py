"""The explained output: which tensor of the model's output it is, and which tokens it is read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxplain.arguments import NAME
from fxplain.capture import Capture, ModelInputs
from fxplain.errors import NoGradientError, TargetError
from fxplain.program import Program
from fxplain.tokens import Tags, tokens_in, versions_in

__all__ = ["Position", "TokenRef", "batch_axis_of", "choose_output", "describe", "positions_at"]


@dataclass(frozen=True)
class TokenRef:
    """One token that a number is computed from: its id and what it has absorbed by then."""

    token: int
    version: int


@dataclass(frozen=True)
class Position:
    """A token as users see it: modality, sample and place in the modality."""

    modality: str
    sample: int
    place: int


def choose_output(capture: Capture, program: Program, name: str | None) -> int:
    """The index of the explained tensor among the model's outputs.

    Without a name: the one called "logits", else the first that depends on attention, else the first
    of floating type that belongs to tokens. A single number for the whole batch (a loss) comes last:
    it is no sample's.

    Raises
    ------
    TargetError
        When the name is not among the outputs, or no output belongs to tokens.
    """
    names = capture.output.names
    if name is not None:
        NAME.raising(TargetError).check("output", name)
        matches = [i for i, n in enumerate(names) if n == name]
        if not matches:
            raise TargetError(
                f"the model has no output {name!r}; its outputs: {_listed(names)}. Say with output= "
                f"which of them is meant."
            )
        return matches[0]
    usual: int = program.memo.made("usual output", lambda: _usual(names, program))
    return usual


def _usual(names: Sequence[str], program: Program) -> int:
    """The output that is explained where none is named."""
    tagged = [i for i, tags in enumerate(program.flow.outputs) if tags]
    attended = [i for i in tagged if _absorbed(program, program.flow.outputs[i])]
    for candidates in (attended, tagged):
        for i in candidates:
            if names[i] == "logits":
                return i
        if candidates:
            return next((i for i in candidates if program.flow.shapes[i]), candidates[0])
    raise NoGradientError(
        f"none of the model's outputs ({_listed(names)}) carries tokens to explain: each is an index "
        f"(argmax), a mask or a constant, or does not depend on attention through differentiable "
        f"operations. Explain what it is computed from, such as the logits before an argmax."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(n) if n else "a single tensor" for n in names)


def _absorbed(program: Program, tags: Tags) -> bool:
    versions = program.versions
    return any(
        any(update in program.nodes or update in program.routes for update in versions.of(int(v)))
        for tag in tags
        for v in versions_in(tag.ids).unique().tolist()
        if v >= 0
    )


def positions_at(
    program: Program, output: int, index: tuple[int, ...] | Tensor
) -> list[list[TokenRef]]:
    """The tokens that elements of an output are computed from, one list per tag.

    A value has several tags where it is the product of several readouts (CLIP's similarity).

    Parameters
    ----------
    output
        Index of the output tensor.
    index
        A full index of one element, or a boolean mask of the output's shape.
    """
    groups = []
    for tag in program.flow.outputs[output]:
        if isinstance(index, Tensor):
            same = [axis for axis, size in enumerate(tag.ids.shape) if size == 1]
            entries = tag.ids[index.any(same, keepdim=True) if same else index].unique()
        else:
            compact = tuple(
                i if size > 1 else 0 for i, size in zip(index, tag.ids.shape, strict=True)
            )
            entries = tag.ids[compact].reshape(1)
        entries = entries[entries >= 0]
        tokens = program.flow.book.find(tokens_in(entries)).tolist()
        versions = versions_in(entries).tolist()
        groups.append([TokenRef(t, v) for t, v in zip(tokens, versions, strict=True)])
    return [group for group in groups if group]


def describe(program: Program, groups: Sequence[Sequence[TokenRef]]) -> str:
    """Such as ``input_ids[0]``, ``mean of pixel_values[0..48]``, ``nodes[2] with mean of nodes[0..5]``.

    What tokens are read "with" was added to them, or multiplied, after their last attention.
    """
    parts = dict.fromkeys(_read(program, group) for group in groups)
    return " and ".join(parts) or "no token"


def _read(program: Program, group: Sequence[TokenRef]) -> str:
    text = _described(program, [ref.token for ref in group])
    heard = _heard(program, group)
    return f"{text} with {_described(program, heard)}" if heard else text


def _heard(program: Program, group: Sequence[TokenRef]) -> list[int]:
    """Tokens that were put into those of a readout after their last attention, but for these."""
    own = {ref.token for ref in group}
    found: dict[int, None] = {}
    for ref in group:
        updates = program.versions.of(ref.version)
        last = max((index for index in updates if index in program.nodes), default=-1)
        for index in sorted(updates & program.routes.keys()):
            if index > last:
                found.update(dict.fromkeys(_carried(program, index).get(ref.token, ())))
    return [token for token in found if token not in own]


def _carried(program: Program, route: int) -> dict[int, list[int]]:
    """By token that was there before a route, the tokens that the route puts into it."""

    def carried() -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        routed = program.routes[route]
        made = program.streams[routed.stream].tokens
        for entry in routed.entries:
            new = made[entry.samples, entry.new]
            births = [
                program.flow.book.births[i] for i in program.flow.book.births_of(new).tolist()
            ]
            old = program.streams[entry.stream].tokens[entry.samples, entry.old]
            for token, birth, source in zip(new.tolist(), births, old.tolist(), strict=True):
                if (birth.kind, birth.root) != ("route", routed.info.name):
                    found.setdefault(token, []).append(source)
        return found

    known: dict[int, list[int]] = program.memo.made(("carried", route), carried)
    return known


def _described(program: Program, tokens: Sequence[int]) -> str:
    """The tokens of an input by place, and those that were made of others by what they are made of."""
    where = _positions(program)
    named = [token for token in tokens if token in where]
    made = [token for token in tokens if token not in where]
    parts = [_named(where, named)] if named else []
    return ", ".join([*parts, *_made(program, made)] if made else parts)


def _positions(program: Program) -> dict[int, Position]:
    """Where users see each token."""

    def made() -> dict[int, Position]:
        return {
            token: Position(modality.name, sample, place)
            for modality in program.modalities
            for table in (modality.tokens, *modality.more)
            for sample, row in enumerate(table.tolist())
            for place, token in enumerate(row)
            if token >= 0
        }

    found: dict[int, Position] = program.memo.made("positions", made)
    return found


def _named(where: dict[int, Position], tokens: Sequence[int]) -> str:
    """Such as ``input_ids[0]``; of several tokens their mean."""
    by_name: dict[str, set[int]] = {}
    for token in tokens:
        by_name.setdefault(where[token].modality, set()).add(where[token].place)
    text = ", ".join(f"{name}[{_ranges(places)}]" for name, places in by_name.items())
    return text if sum(map(len, by_name.values())) == 1 else f"mean of {text}"


def _made(program: Program, tokens: Sequence[int]) -> list[str]:
    """Tokens that routes made (a mean over all, merged patches), or that attention pooled."""
    where = _positions(program)
    operation, sources = _sources(program, tokens)
    if operation is None:
        return list(dict.fromkeys(_pooled(program, token) for token in tokens))
    name = "mean" if operation in _AVERAGES else operation
    known = [token for token in sources if token in where]
    others = [token for token in sources if token not in where]
    parts = [_named(where, known).removeprefix("mean of ")] if known else []
    if others:
        parts.append(f"{len(others)} tokens made of {_origin(program, others)}")
    return [f"{name} of {', '.join(parts)}"]


def _sources(
    program: Program, tokens: Sequence[int], *, through: bool = False
) -> tuple[str | None, list[int]]:
    """What routes made some tokens of, and the last such route's operation.

    What was made of others is taken for these, where it has not attended since: a mean of means.
    `through` takes it so in any case.
    """
    where = _positions(program)
    attending = {node.stream for node in program.nodes.values()}
    todo, found = set(tokens), dict.fromkeys(tokens)
    operation = None
    for route in reversed(program.routes.values()):
        made = program.streams[route.stream].tokens
        for entry in route.entries:
            new = made[entry.samples, entry.new]
            here = torch.isin(new, torch.tensor(sorted(todo), dtype=torch.int64))
            if not bool(here.any()):
                continue
            operation = operation or route.info.operation
            old = program.streams[entry.stream].tokens[entry.samples[here], entry.old[here]]
            for token in new[here].unique().tolist():
                found.pop(token, None)
            found |= dict.fromkeys(old.tolist())
            free = through or entry.stream not in attending
            todo |= {token for token in old.tolist() if free and token not in where}
    return operation, list(found)


def _pooled(program: Program, token: int) -> str:
    """A token that is none of an input's, and that no route made: what attention pooled."""
    own = int(program.token_stream[token])
    for node in program.nodes.values():
        if node.stream == own:
            return f"attention pooling of {', '.join(node.info.key or node.info.key_streams)}"
    return program.streams[own].name


def _origin(program: Program, tokens: Sequence[int]) -> str:
    """The modalities that some tokens were made of."""
    where = _positions(program)
    _, sources = _sources(program, tokens, through=True)
    names = {where[token].modality for token in sources if token in where}
    in_order = [m.name for m in program.modalities if m.name in names]
    streams = dict.fromkeys(program.streams[int(program.token_stream[t])].name for t in tokens)
    return ", ".join(in_order or streams)


_AVERAGES = {"mean", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"}


def _ranges(places: Iterable[int]) -> str:
    """0, 1, 2, 5 as "0..2, 5"."""
    runs: list[list[int]] = []
    for place in sorted(set(places)):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}..{r[-1]}" for r in runs)


def batch_axis_of(program: Program, inputs: ModelInputs, output: int) -> int | None:
    """The axis of an output that holds the samples, as its tokens have them; None without one.

    Raises
    ------
    TargetError
        When several samples share each index of every axis (a flattened batch), or one word each of
        several samples cannot be told from words of one.
    """
    key = ("batch axis", output)
    axis = program.memo.made(key, lambda: _batch_axis(program, inputs, output))
    if axis == _FOLDED:
        shape = program.flow.shapes[output]
        raise TargetError(
            f"the explained output has shape {tuple(shape)}, and no axis of it is that of the "
            f"{inputs.batch_size} samples: they lie folded in one, or each index holds several. "
            f"Explain one sample at a time, or give a function from the output to one number for each."
        )
    if axis == _UNTOLD:
        raise TargetError(
            "no token attends to another one, so that they may be samples of one token each: say which "
            "axis of the inputs holds the samples, batch_axis=1 where tokens come first, else 0."
        )
    return axis  # type: ignore[no-any-return]


_FOLDED, _UNTOLD = -1, -2


def _batch_axis(program: Program, inputs: ModelInputs, output: int) -> int | None:
    shape, batch = program.flow.shapes[output], inputs.batch_size
    if not shape:
        return None
    if batch == 1:
        sequence = shape[0] > 1 and _is_sequence(program, output)
        if sequence and not inputs.batch_axes and _each_by_itself(program):
            return _UNTOLD
        if shape[0] == 1:
            return 0
        if not (inputs.batch_axes or sequence):  # the classes of the one sample, squeezed, in a row
            return None if len(shape) == 1 and not _has_samples(program, output) else 0
        return next((axis for axis, size in enumerate(shape[:-1]) if size == 1), None)
    several = False
    aligned: list[set[int]] = []
    for tag in program.flow.outputs[output]:
        tokens = program.flow.book.find(tag.tokens)
        samples = torch.as_tensor(program.token_sample)[tokens.clamp(min=0)]
        samples = torch.where(tokens >= 0, samples, -1)
        several |= len(samples[samples >= 0].unique()) > 1
        aligned.append({axis for axis in range(len(shape)) if _along(samples, axis, batch)})
    found = set().union(*aligned)
    if found:
        axis = min(found)
        rows = [tag for tag in program.flow.outputs[output] if tag.varies(0)]
        # pictures by texts, of different numbers: one explanation for each picture
        return 0 if shape[0] == 1 or any(not tag.varies(axis) for tag in rows) else axis
    if several and _is_sequence(program, output):
        return _FOLDED
    if several:
        return 0 if _of_one_sample_each(program, output) else _FOLDED
    return _FOLDED if _is_of_the_batch(program, output) else 0


def _each_by_itself(program: Program) -> bool:
    """Whether each query has one key, in every attention."""
    return all(node.site.shape[-1] == 1 for node in program.nodes.values())


def _has_samples(program: Program, output: int) -> bool:
    """Whether the indices along an output's first axis are read from more than one sample."""
    for tag in program.flow.outputs[output]:
        tokens = program.flow.book.find(tag.tokens)
        if len({*program.token_sample[tokens[tokens >= 0].numpy()].tolist()}) > 1:
            return True
    return False


def _is_of_the_batch(program: Program, output: int) -> bool:
    """Whether an output is read from tokens that several samples together make, as a mean of them."""
    made = {route.stream for route in program.routes.values() if route.over_samples}
    for tag in program.flow.outputs[output]:
        tokens = program.flow.book.find(tag.tokens)
        streams = program.token_stream[tokens[tokens >= 0].numpy()]
        if made.intersection(streams.tolist()):
            return True
    return False


def _is_sequence(program: Program, output: int) -> bool:
    """Whether one sample's tokens of one sequence stand side by side along the first axis."""
    for tag in program.flow.outputs[output]:
        tokens = program.flow.book.find(tag.tokens)
        if not tag.varies(0) or tokens.numel() != len(tokens):
            continue
        real = tokens[tokens >= 0].numpy()
        samples, streams, places = (
            each[real] for each in (program.token_sample, program.token_stream, program.token_index)
        )
        rows = {*zip(samples.tolist(), streams.tolist(), strict=True)}
        if len({*zip(samples.tolist(), streams.tolist(), places.tolist(), strict=True)}) > len(
            rows
        ):
            return True
    return False


def _along(samples: Tensor, axis: int, batch: int) -> bool:
    """Whether the i-th index along an axis holds sample i's numbers and no other's."""
    if samples.shape[axis] != batch:
        return False
    sizes = [1] * samples.dim()
    sizes[axis] = batch
    own = torch.arange(batch).reshape(sizes)
    return bool(((samples == own) | (samples < 0)).all()) and bool((samples >= 0).any())


def _of_one_sample_each(program: Program, output: int) -> bool:
    """Whether each index of the first axis holds one sample's numbers: pictures of a list.

    Of a picture that has several texts, one picture's.
    """
    whole = []
    for tag in program.flow.outputs[output]:
        tokens = program.flow.book.find(tag.tokens)
        samples = torch.as_tensor(program.token_sample)[tokens.clamp(min=0)]
        if len(samples) > 1 and _along(torch.where(tokens >= 0, samples, -1), 0, len(samples)):
            return True
        if samples.dim() == 1:  # numbers in a row, several of one sample
            return False
        flat = torch.where(tokens >= 0, samples, -1).flatten(1)
        low = torch.where(flat < 0, flat.amax(1, keepdim=True), flat)
        whole.append(bool((flat.amax(1) == low.amin(1)).all()))
    return all(whole)


def mask_of(gradient: Tensor, sample: int, batch: int) -> Tensor:
    """Where a target's gradient reaches, restricted to one sample's part of the output."""
    mask = gradient != 0
    if batch > 1 and gradient.shape[:1] == (batch,):
        only = torch.zeros(batch, dtype=torch.bool, device=mask.device)
        only[sample] = True
        mask = mask & only.reshape(-1, *[1] * (mask.dim() - 1))
    return mask.cpu()
