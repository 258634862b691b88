"""Random small transformers in plain PyTorch, each with the numbers that explaining it should give.

A `Recipe` says everything about a model: which streams of tokens attend to which, how the blocks
are built and how attention is written. `recipes()` draws them, `build` makes a model of one and
`expected` runs the paper's equations on it. The attention weights that the equations need come from
a second, plain way of computing attention (`reference_attention`) in the same model, with the same
weights; nothing of the library under test is involved.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.oracle import Oracle, attention_map

VOCABULARY = 11
FEATURES = {"regions": 5, "sounds": 3}
BOX = 4
CLASSES = 4
MOST_TOKENS = 10
LOWEST = torch.finfo(torch.float64).min

Inputs = dict[str, Tensor]
Matrices = dict[tuple[str, str], np.ndarray]
Target = list[int] | list[tuple[int, int]]


# The wiring: which streams there are, and who attends to whom


@dataclass(frozen=True)
class Attend:
    """Queries of one stream attend to the tokens of ``keys``, side by side under one softmax."""

    query: str
    keys: tuple[str, ...]
    mlp: bool = True


Step = tuple[Attend, ...]
"""Attentions that all read the streams from before any of them; each has another query stream."""


@dataclass(frozen=True)
class Wiring:
    """The streams that are born, what happens to them, and the one that is read at the end.

    ``joined`` names streams that become the one stream "joint" after ``separate``'s steps.
    """

    streams: tuple[str, ...]
    reads: str
    steps: tuple[Step, ...]
    separate: tuple[Step, ...] = ()
    joined: tuple[str, ...] = ()

    @property
    def live(self) -> set[str]:
        """The streams that what is read depends on."""
        live = {self.reads}
        for step in reversed(self.separate + self.steps):
            live |= {name for attend in step if attend.query in live for name in attend.keys}
            if "joint" in live:
                live |= set(self.joined)
        return live


def attends_to_itself(*streams: str) -> Step:
    return tuple(Attend(stream, (stream,)) for stream in streams)


def single(depth: int, stream: str) -> Wiring:
    return Wiring((stream,), stream, (attends_to_itself(stream),) * depth)


def joint(depth: int, first: str, second: str, separate: int) -> Wiring:
    return Wiring(
        (first, second),
        "joint",
        (attends_to_itself("joint"),) * depth,
        (attends_to_itself(first, second),) * separate,
        (first, second),
    )


def co_attention(depth: int, separate: int) -> Wiring:
    """LXMERT: both directions read the values from before either, then self-attention."""
    both = (Attend("words", ("regions",), False), Attend("regions", ("words",), False))
    own = attends_to_itself("words", "regions")
    return Wiring(("words", "regions"), "words", (own,) * separate + (both, own) * depth)


def sequential_co_attention(depth: int, separate: int) -> Wiring:
    """The second direction reads the first stream as the first direction has left it."""
    first = (Attend("regions", ("words",), False),)
    second = (Attend("words", ("regions",)),)
    own = attends_to_itself("words", "regions")
    return Wiring(("words", "regions"), "words", (own,) * separate + (first, second, own) * depth)


def encoder_decoder(depth: int, source: str, decoder: str, separate: int) -> Wiring:
    encode = (attends_to_itself(source),) * separate
    decode = ((Attend(decoder, (decoder,), False),), (Attend(decoder, (source,)),))
    return Wiring((source, decoder), decoder, encode + decode * depth)


def joint_encoder_decoder(depth: int, separate: int) -> Wiring:
    """Words and regions encoded as one stream, which the replies attend to."""
    decode = ((Attend("replies", ("replies",), False),), (Attend("replies", ("joint",)),))
    return Wiring(
        ("words", "regions", "replies"),
        "replies",
        (attends_to_itself("joint"),) * separate + decode * depth,
        joined=("words", "regions"),
    )


def latents(depth: int, source: str, separate: int, own: bool) -> Wiring:
    """Latents attend to [source, latents] under one softmax; ``own``: then to themselves."""
    encode = (attends_to_itself(source),) * separate
    mixed = (Attend("queries", (source, "queries")),)
    after = (attends_to_itself("queries"),) if own else ()
    return Wiring((source, "queries"), "queries", encode + (mixed, *after) * depth)


def three(depth: int, separate: int) -> Wiring:
    """Words hear of the sounds through the regions only, until the last layer."""
    own = attends_to_itself("words", "regions", "sounds")
    layer = ((Attend("regions", ("sounds",)),), (Attend("words", ("regions",)),))
    last = ((Attend("words", ("sounds",)),), (Attend("words", ("words",)),))
    steps = (own,) * separate + layer * depth + last * (depth - 1)
    return Wiring(("words", "regions", "sounds"), "words", steps)


def wild(steps: tuple[Step, ...]) -> Wiring:
    streams = ("words", "regions", "sounds")
    used = {name for step in steps for attend in step for name in (attend.query, *attend.keys)}
    return Wiring(tuple(name for name in streams if name in used), steps[-1][0].query, steps)


# The recipe


@dataclass(frozen=True)
class Recipe:
    """Everything about one model and its inputs; the defaults are the plainest choices."""

    wiring: Wiring
    seed: int = 0
    batch: int = 2
    words: int = 3
    regions: int = 3
    sounds: int = 3
    replies: int = 3
    queries: int = 2
    width: int = 8
    heads: int = 2
    groups: int = 2
    head_dim: int = 4
    mlp_width: int = 6
    gated_mlp: bool = False
    norm: str = "pre"
    norm_kind: str = "layer"
    parallel: bool = False
    biases: bool = True
    attention: str = "sdpa"
    packed: bool = False
    shared_cross: bool = False
    scale_first: bool = False
    grouping: str = "repeat_interleave"
    padding: bool = False
    causal: bool = False
    mask_form: str = "bool"
    positions: str = "none"
    types: bool = False
    boxes: bool = False
    tied_embedding: bool = False
    query_form: str = "parameter"
    special: int = 0
    special_last: bool = False
    readout: str = "first"
    pooler: bool = False

    def length(self, stream: str) -> int:
        """The number of tokens of a stream, its special tokens included."""
        if stream == "joint":
            return sum(self.length(part) for part in self.wiring.joined)
        return getattr(self, stream) + (self.special if stream == self.with_special else 0)

    @property
    def with_special(self) -> str:
        """The stream that has the special tokens (the first of a joint one)."""
        return self.wiring.streams[0]

    @property
    def causal_streams(self) -> set[str]:
        if not self.causal:
            return set()
        decoders = {"replies", "joint"} if "replies" not in self.wiring.streams else {"replies"}
        only = set(self.wiring.streams) if len(self.wiring.streams) == 1 else set()
        return decoders | only

    def positions_anew(self, stream: str) -> bool:
        """Whether every layer adds positions to the stream's queries and keys (not values)."""
        return self.positions == "each_layer" if stream != "queries" else self.query_form == "zeros"


# Attention in many ways: queries (batch, s, heads, d), keys and values (batch, q, heads, d)

Mask = Tensor | None
"""(batch or 1, 1, s or 1, q): True where attended, or a float that is added; None: no mask."""


def heads_first(*tensors: Tensor) -> list[Tensor]:
    return [tensor.transpose(1, 2) for tensor in tensors]


def masked(scores: Tensor, mask: Mask) -> Tensor:
    if mask is None:
        return scores
    return scores.masked_fill(~mask, LOWEST) if mask.dtype == torch.bool else scores + mask


def scaled(recipe: Recipe, query: Tensor) -> tuple[Tensor, float]:
    """The queries, and what the scores have yet to be multiplied by."""
    scale = recipe.head_dim**-0.5
    return (query * scale, 1.0) if recipe.scale_first else (query, scale)


def sdpa(recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    query, key, value = heads_first(query, key, value)
    enable_gqa = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=enable_gqa
    ).transpose(1, 2)


def matmul(recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    query, key, value = heads_first(query, key, value)
    query, scale = scaled(recipe, query)
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale
    weights = F.softmax(masked(scores, mask), dim=-1)
    return torch.matmul(weights, value).transpose(1, 2)


def keys_transposed_early(
    recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask
) -> Tensor:
    """GPT-1 and its kin: the keys are split into heads as (batch, heads, d, q) at once."""
    query, scale = scaled(recipe, query.permute(0, 2, 1, 3))
    scores = query @ key.permute(0, 2, 3, 1) / (1 / scale)
    weights = masked(scores, mask).softmax(-1)
    return (weights @ value.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)


def folded(tensor: Tensor) -> Tensor:
    """(batch, tokens, heads, d) to (batch * heads, tokens, d)."""
    batch, tokens, heads, size = tensor.shape
    return tensor.transpose(1, 2).reshape(batch * heads, tokens, size)


def unfolded(tensor: Tensor, heads: int) -> Tensor:
    """(batch * heads, tokens, d) to (batch, tokens, heads, d)."""
    _, tokens, size = tensor.shape
    return tensor.reshape(-1, heads, tokens, size).transpose(1, 2)


def bmm(recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """BART as it was: heads folded into the batch, unfolded for the mask."""
    batch, tokens, heads, _ = query.shape
    query, scale = scaled(recipe, query)
    scores = torch.bmm(folded(query), folded(key).transpose(1, 2)) * scale
    if mask is not None:
        scores = masked(scores.view(batch, heads, tokens, -1), mask).flatten(0, 1)
    return unfolded(torch.bmm(F.softmax(scores, dim=-1), folded(value)), heads)


def baddbmm(recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """Bloom: the additive mask is the first operand."""
    batch, tokens, heads, _ = query.shape
    query, scale = scaled(recipe, query)
    added = torch.zeros(batch, heads, tokens, key.shape[1], dtype=query.dtype)
    if mask is not None:
        added = masked(added, mask)
    scores = torch.baddbmm(
        added.flatten(0, 1), folded(query), folded(key).transpose(1, 2), beta=1.0, alpha=scale
    )
    return unfolded(torch.bmm(F.softmax(scores, dim=-1), folded(value)), heads)


def einsum(recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    query, scale = scaled(recipe, query)
    scores = torch.einsum("bshd,bqhd->bhsq", query, key) * scale
    weights = F.softmax(masked(scores, mask), dim=-1)
    return torch.einsum("bhsq,bqhd->bshd", weights, value)


def queries_last(recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """Scores (batch, heads, q, s), softmax along dim -2, weights as the right operand."""
    query, key, value = heads_first(query, key, value)
    query, scale = scaled(recipe, query)
    scores = key @ query.transpose(-1, -2) * scale
    mask = None if mask is None else mask.transpose(-1, -2)
    weights = F.softmax(masked(scores, mask), dim=-2)
    return (value.transpose(-1, -2) @ weights).permute(0, 3, 1, 2)


def weighted_sum(recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """Products of elements, then a sum over the keys."""
    query, key, value = heads_first(query, key, value)
    query, scale = scaled(recipe, query)
    scores = (query.unsqueeze(3) * key.unsqueeze(2)).sum(-1) * scale
    weights = F.softmax(masked(scores, mask), dim=-1)
    return (weights.unsqueeze(-1) * value.unsqueeze(2)).sum(3).transpose(1, 2)


def reference_attention(
    recipe: Recipe, query: Tensor, key: Tensor, value: Tensor, keep: Mask
) -> tuple[Tensor, Tensor]:
    """Outputs and weights, head by head; ``keep`` is a bool mask."""
    outputs, weights = [], []
    for head in range(query.shape[2]):
        scores = query[:, :, head] @ key[:, :, head].mT / recipe.head_dim**0.5
        if keep is not None:
            scores = torch.where(keep[:, 0], scores, -torch.inf)
        weights.append(scores.softmax(-1))
    attention = torch.stack(weights, 1)
    attention.retain_grad()
    outputs = [attention[:, head] @ value[:, :, head] for head in range(query.shape[2])]
    return torch.stack(outputs, 2), attention


ATTENTIONS: dict[str, Callable[[Recipe, Tensor, Tensor, Tensor, Mask], Tensor]] = {
    "sdpa": sdpa,
    "matmul": matmul,
    "keys_transposed_early": keys_transposed_early,
    "bmm": bmm,
    "baddbmm": baddbmm,
    "einsum": einsum,
    "queries_last": queries_last,
    "weighted_sum": weighted_sum,
}


@dataclass(frozen=True)
class Recorded:
    """The weights (batch, heads, s, q) of one attention of a reference run."""

    step: int
    attend: Attend
    attention: Tensor

    def a_bar(self, sample: int) -> np.ndarray | None:
        """Eq. 5, after the backward; None where nothing that is read depends on it."""
        if self.attention.grad is None:
            return None
        return attention_map(
            self.attention[sample].detach().numpy(), self.attention.grad[sample].numpy()
        )


_records: list[Recorded] | None = None


@contextmanager
def recording() -> Iterator[list[Recorded]]:
    """Within, models compute attention by `reference_attention` and list its weights."""
    global _records
    _records = []
    try:
        yield _records
    finally:
        _records = None


class Attention(nn.Module):
    """One multi-head attention, in the recipe's way of writing it."""

    def __init__(self, recipe: Recipe, attend: Attend) -> None:
        super().__init__()
        self.recipe = recipe
        own, kept = recipe.heads * recipe.head_dim, recipe.groups * recipe.head_dim
        self.sizes = [own, kept, kept]
        alone = attend.keys == (attend.query,)
        self.packed = recipe.packed and alone and not recipe.positions_anew(attend.query)
        if self.packed:
            self.qkv = nn.Linear(recipe.width, sum(self.sizes), recipe.biases)
        else:
            self.query = nn.Linear(recipe.width, own, recipe.biases)
            self.key = nn.Linear(recipe.width, kept, recipe.biases)
            self.value = nn.Linear(recipe.width, kept, recipe.biases)
        self.output = nn.Linear(own, recipe.width, recipe.biases)

    def forward(
        self, asking: Tensor, keyed: Tensor, valued: Tensor, keep: Mask
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights in a reference run.

        ``keyed`` and ``valued`` are the same tokens, with and without positions.
        """
        if self.packed:
            query, key, value = self.qkv(asking).split(self.sizes, dim=-1)
        else:
            query, key, value = self.query(asking), self.key(keyed), self.value(valued)
        size = self.recipe.head_dim
        query, key, value = (t.unflatten(-1, (-1, size)) for t in (query, key, value))
        if _records is None:
            key, value = self._grouped(key), self._grouped(value)
            write = ATTENTIONS[self.recipe.attention]
            out, weights = write(self.recipe, query, key, value, self._mask(keep)), None
        else:
            group = self.recipe.heads // self.recipe.groups
            key, value = (t.repeat_interleave(group, dim=2) for t in (key, value))
            out, weights = reference_attention(self.recipe, query, key, value, keep)
        return self.output(out.flatten(2)), weights

    def _grouped(self, tensor: Tensor) -> Tensor:
        """Keys or values copied for each query head of their group."""
        recipe = self.recipe
        group = recipe.heads // recipe.groups
        if group == 1 or (recipe.attention == "sdpa" and recipe.grouping == "enable_gqa"):
            return tensor
        if recipe.grouping == "expand":
            batch, tokens, groups, size = tensor.shape
            copies = tensor[:, :, :, None].expand(batch, tokens, groups, group, size)
            return copies.reshape(batch, tokens, groups * group, size)
        return tensor.repeat_interleave(group, dim=2)

    def _mask(self, keep: Mask) -> Mask:
        if keep is None or self.recipe.mask_form == "bool":
            return keep
        if self.recipe.mask_form == "product":
            return (1.0 - keep.double()) * LOWEST
        return torch.zeros(keep.shape, dtype=torch.float64).masked_fill(~keep, LOWEST)


# Blocks and models


class GatedMLP(nn.Module):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.gate = nn.Linear(recipe.width, recipe.mlp_width, recipe.biases)
        self.up = nn.Linear(recipe.width, recipe.mlp_width, recipe.biases)
        self.down = nn.Linear(recipe.mlp_width, recipe.width, recipe.biases)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def make_mlp(recipe: Recipe) -> nn.Module:
    if recipe.gated_mlp:
        return GatedMLP(recipe)
    into = nn.Linear(recipe.width, recipe.mlp_width, recipe.biases)
    return nn.Sequential(into, nn.GELU(), nn.Linear(recipe.mlp_width, recipe.width, recipe.biases))


def make_norm(recipe: Recipe) -> nn.Module:
    if recipe.norm_kind == "rms":
        return nn.RMSNorm(recipe.width, eps=1e-6)
    return nn.LayerNorm(recipe.width, bias=recipe.biases)


class Block(nn.Module):
    """One attention of a stream, with its residual, norms and, if any, MLP."""

    def __init__(self, recipe: Recipe, attend: Attend, attention: Attention, step: int) -> None:
        super().__init__()
        self.recipe, self.attend, self.step = recipe, attend, step
        self.attention = attention
        self.norm, self.key_norm, self.mlp_norm = (make_norm(recipe) for _ in range(3))
        self.mlp = make_mlp(recipe) if attend.mlp else None

    def forward(self, streams: dict[str, Tensor], added: dict[str, Tensor], keep: Mask) -> Tensor:
        """The query stream's new values; ``added`` are positions given to queries and keys anew."""
        x = streams[self.attend.query]
        pre = self.recipe.norm == "pre"
        normed = self.norm(x) if pre else x
        read, keyed = [], []
        for name in self.attend.keys:
            own = name == self.attend.query
            y = normed if own else self.key_norm(streams[name]) if pre else streams[name]
            read.append(y)
            keyed.append(y + added[name] if name in added else y)
        valued = read[0] if len(read) == 1 else torch.cat(read, 1)
        keys = keyed[0] if len(keyed) == 1 else torch.cat(keyed, 1)
        asking = normed + added[self.attend.query] if self.attend.query in added else normed
        change, weights = self.attention(asking, keys, valued, keep)
        if weights is not None:
            _records.append(Recorded(self.step, self.attend, weights))
        if self.mlp is not None and self.recipe.parallel:
            change = change + self.mlp(normed)
        x = x + change if pre else self.norm(x + change)
        if self.mlp is None or self.recipe.parallel:
            return x
        return x + self.mlp(self.mlp_norm(x)) if pre else self.mlp_norm(x + self.mlp(x))


class Birth(nn.Module):
    """The tokens of one stream: an embedding or linear map of inputs, special tokens, positions."""

    def __init__(self, recipe: Recipe, stream: str) -> None:
        super().__init__()
        self.recipe, self.stream = recipe, stream
        width = recipe.width
        self.special = recipe.special if stream == recipe.with_special else 0
        if stream in FEATURES:
            self.embed = nn.Linear(FEATURES[stream], width, recipe.biases)
            boxes = recipe.boxes and stream == "regions"
            self.box = nn.Linear(BOX, width, recipe.biases) if boxes else None
        else:
            self.embed = nn.Embedding(VOCABULARY, width)
            types = recipe.types and stream == "words"
            self.token_type = nn.Embedding(2, width) if types else None
        if self.special:
            self.special_token = nn.Parameter(torch.empty(1, self.special, width))
        if recipe.positions == "embedding":
            self.position = nn.Embedding(MOST_TOKENS, width)
        elif recipe.positions != "none":
            self.position = nn.Parameter(torch.empty(1, MOST_TOKENS, width))

    def forward(self, values: Tensor, more: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The tokens, and positions that every layer adds anew, if this recipe is such a one."""
        x = self.embed(values)
        if more is not None:
            x = x + (self.box(more) if self.stream in FEATURES else self.token_type(more))
        if self.special:
            token = self.special_token.expand(x.shape[0], -1, -1)
            x = torch.cat([x, token] if self.recipe.special_last else [token, x], 1)
        positions = self.recipe.positions
        if positions == "embedding":
            return x + self.position(torch.arange(x.shape[1])), None
        if positions == "parameter":
            return x + self.position[:, : x.shape[1]], None
        return x, self.position[:, : x.shape[1]] if positions == "each_layer" else None


class RandomModel(nn.Module):
    """The model of a recipe; its forward arguments are what modalities are called."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        wiring = recipe.wiring
        self.births = nn.ModuleDict(
            {name: Birth(recipe, name) for name in wiring.streams if name != "queries"}
        )
        if recipe.tied_embedding and {"words", "replies"} <= set(wiring.streams):
            self.births["replies"].embed = self.births["words"].embed
        if "queries" in wiring.streams:
            shape = (recipe.queries, recipe.width)
            if recipe.query_form == "embedding":
                self.queries = nn.Embedding(*shape)
            else:
                self.queries = nn.Parameter(torch.empty(shape))
        numbers = count()
        self.separate, self.steps = (
            nn.ModuleList(self._blocks(step, next(numbers)) for step in steps)
            for steps in (wiring.separate, wiring.steps)
        )
        self.norm = make_norm(recipe)
        self.pooler = nn.Linear(recipe.width, recipe.width) if recipe.pooler else None
        self.head = nn.Linear(recipe.width, CLASSES, recipe.biases)

    def _blocks(self, step: Step, number: int) -> nn.ModuleList:
        attentions = [Attention(self.recipe, attend) for attend in step]
        if self.recipe.shared_cross and all(attend.keys != (attend.query,) for attend in step):
            attentions = attentions[:1] * len(step)  # LXMERT: one module for both directions
        pairs = zip(step, attentions, strict=True)
        return nn.ModuleList(Block(self.recipe, *pair, number) for pair in pairs)

    def forward(
        self,
        words: Tensor | None = None,
        mask: Tensor | None = None,
        types: Tensor | None = None,
        regions: Tensor | None = None,
        boxes: Tensor | None = None,
        sounds: Tensor | None = None,
        replies: Tensor | None = None,
    ) -> Tensor:
        wiring = self.recipe.wiring
        given = {"words": words, "regions": regions, "sounds": sounds, "replies": replies}
        more = {"words": types, "regions": boxes}
        streams, added = {}, {}
        for name in wiring.streams:
            if name != "queries":
                streams[name], position = self.births[name](given[name], more.get(name))
                if position is not None:
                    added[name] = position
        if "queries" in wiring.streams:
            self._add_queries(streams, added)
        keep = {} if mask is None else {"words": self._with_special(mask)}
        for step in self.separate:
            self._run(step, streams, added, keep)
        if wiring.joined:
            streams["joint"] = torch.cat([streams[name] for name in wiring.joined], 1)
            if added:
                added["joint"] = torch.cat([added[name] for name in wiring.joined], 1)
            if keep:
                keep["joint"] = joined_mask(wiring.joined, streams, keep)
        for step in self.steps:
            self._run(step, streams, added, keep)
        return self._read(streams[wiring.reads])

    def _add_queries(self, streams: dict[str, Tensor], added: dict[str, Tensor]) -> None:
        form = self.recipe.query_form
        table = self.queries.weight if form == "embedding" else self.queries
        batch = next(iter(streams.values())).shape[0]
        if form == "zeros":  # DETR: what enters is zero, the queries are positions
            added["queries"] = table.unsqueeze(0).repeat(batch, 1, 1)
            streams["queries"] = torch.zeros_like(added["queries"])
        else:
            streams["queries"] = table.unsqueeze(0).expand(batch, -1, -1)

    def _with_special(self, mask: Tensor) -> Tensor:
        """The words' mask as bool, True for the special tokens too."""
        if self.births["words"].special:
            ones = mask.new_ones(mask.shape[0], self.recipe.special)
            mask = torch.cat([mask, ones] if self.recipe.special_last else [ones, mask], 1)
        return mask.bool()

    def _run(
        self,
        step: nn.ModuleList,
        streams: dict[str, Tensor],
        added: dict[str, Tensor],
        keep: dict[str, Tensor],
    ) -> None:
        before = dict(streams)
        for block in step:
            mask = self._keep(block.attend, before, keep)
            streams[block.attend.query] = block(before, added, mask)

    def _keep(self, attend: Attend, streams: dict[str, Tensor], keep: dict[str, Tensor]) -> Mask:
        """(batch or 1, 1, s or 1, q): which keys each query may attend to; None: all."""
        mask = None
        if any(name in keep for name in attend.keys):
            mask = joined_mask(attend.keys, streams, keep)[:, None, None]
        if attend.keys == (attend.query,) and attend.query in self.recipe.causal_streams:
            size = streams[attend.query].shape[1]
            causal = torch.ones(size, size, dtype=torch.bool).tril()[None, None]
            mask = causal if mask is None else mask & causal
        return mask

    def _read(self, x: Tensor) -> Tensor:
        if self.recipe.norm == "pre":
            x = self.norm(x)
        readout = self.recipe.readout
        if readout == "mean":
            x = x.mean(1)
        elif readout != "each":
            x = x[:, 0] if readout == "first" else x[:, -1]
        if self.pooler is not None:
            x = torch.tanh(self.pooler(x))
        return self.head(x)


def joined_mask(
    names: tuple[str, ...], streams: dict[str, Tensor], keep: dict[str, Tensor]
) -> Tensor:
    parts = []
    for name in names:
        everything = torch.ones(streams[name].shape[:2], dtype=torch.bool)
        parts.append(keep.get(name, everything))
    return torch.cat(parts, 1)


def build(recipe: Recipe) -> RandomModel:
    """The recipe's model in float64, with weights for which attention is far from uniform."""
    model = RandomModel(recipe).double().eval()
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if "norm" in name:
                parameter.copy_((0.0 if name.endswith("bias") else 1.0) + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.2 * noise)
            elif any(word in name for word in ("births", "queries")):
                parameter.copy_(noise)
            else:
                parameter.copy_(1.7 * noise / parameter.shape[1] ** 0.5)
    return model


def make_inputs(recipe: Recipe) -> Inputs:
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    batch, streams = recipe.batch, recipe.wiring.streams

    def ids(high: int, tokens: int) -> Tensor:
        return torch.randint(high, (batch, tokens), generator=generator)

    inputs = {}
    for name in streams:
        tokens = getattr(recipe, name)
        if name in FEATURES:
            shape = (batch, tokens, FEATURES[name])
            inputs[name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        elif name != "queries":
            inputs[name] = ids(VOCABULARY, tokens)
    if "words" in streams and recipe.types:
        inputs["types"] = ids(2, recipe.words)
    if "regions" in streams and recipe.boxes:
        shape = (batch, recipe.regions, BOX)
        inputs["boxes"] = torch.rand(shape, generator=generator, dtype=torch.float64)
    if "words" in streams and recipe.padding:
        real = torch.randint(1, recipe.words + 1, (batch, 1), generator=generator)
        inputs["mask"] = (torch.arange(recipe.words) < real).long()
    return inputs


def make_target(recipe: Recipe) -> Target:
    """Another class for every sample and, where every token has an output, another token."""
    classes = [(recipe.seed + b) % CLASSES for b in range(recipe.batch)]
    if recipe.readout != "each":
        return classes
    tokens = recipe.length(recipe.wiring.reads)
    return [((recipe.seed + 3 * b) % tokens, c) for b, c in enumerate(classes)]


# What explaining it should give


@dataclass(frozen=True)
class Expected:
    """``relevance[modality]`` (batch, tokens); ``matrices[s, q]`` (batch, s tokens, q tokens).

    ``start`` is the relevance before any attention: the readout's weights, and zero elsewhere.
    """

    relevance: dict[str, np.ndarray]
    matrices: Matrices
    start: dict[str, np.ndarray]


def scores(output: Tensor, target: Target) -> Tensor:
    """The explained number of every sample."""
    return torch.stack([output[b][entry] for b, entry in enumerate(target)])


def expected(model: RandomModel, inputs: Inputs, target: Target, *, least: float = 0.0) -> Expected:
    """The paper's equations on the model's attentions, step by step, sample by sample.

    Of each A-bar, what is less than ``least`` of the largest number in all of them is left out.
    """
    recipe = model.recipe
    with recording() as records:
        scores(model(**inputs), target).sum().backward()
    model.zero_grad()
    places = oracle_places(recipe)
    least *= max(
        (
            a_bar.max()
            for record in records
            for a_bar in map(record.a_bar, range(recipe.batch))
            if a_bar is not None
        ),
        default=0.0,
    )
    samples = []
    for b in range(recipe.batch):
        oracle = Oracle(oracle_tokens(recipe))
        for step in sorted({record.step for record in records}):
            updates = []
            for record in records:
                if record.step == step:
                    updates += blocks_of(record, b, oracle, places, least)
            update_together(oracle, updates)
        samples.append(oracle.R)
    rows = [readout_row(recipe, target[b]) for b in range(recipe.batch)]
    return collect(recipe, samples, rows)


Place = tuple[str, slice]
"""Where a stream's tokens are: a modality of the oracle, and the positions there."""


def oracle_tokens(recipe: Recipe) -> dict[str, int]:
    """A joint stream is one modality to the oracle: its parts' tokens share one softmax."""
    wiring = recipe.wiring
    names = [name for name in wiring.streams if name not in wiring.joined]
    return {name: recipe.length(name) for name in [*names, *(["joint"] if wiring.joined else [])]}


def oracle_places(recipe: Recipe) -> dict[str, Place]:
    places = {name: (name, slice(0, tokens)) for name, tokens in oracle_tokens(recipe).items()}
    start = 0
    for name in recipe.wiring.joined:
        places[name] = ("joint", slice(start, start + recipe.length(name)))
        start += recipe.length(name)
    return places


Update = tuple[str, str, np.ndarray]
"""Queries' modality, keys' modality, A-bar."""


def blocks_of(
    record: Recorded, sample: int, oracle: Oracle, places: dict[str, Place], least: float
) -> list[Update]:
    """A-bar of one attention (eq. 5), cut into a block for each stream of keys."""
    a_bar = record.a_bar(sample)
    if a_bar is None:
        return []
    a_bar = np.where(a_bar < least, 0.0, a_bar)
    s, rows = places[record.attend.query]
    updates, start = [], 0
    for name in record.attend.keys:
        q, columns = places[name]
        width = columns.stop - columns.start
        block = np.zeros((oracle.tokens[s], oracle.tokens[q]))
        block[rows, columns] = a_bar[:, start : start + width]
        updates.append((s, q, block))
        start += width
    assert start == a_bar.shape[1]
    return updates


def update_together(oracle: Oracle, updates: list[Update]) -> None:
    """Every update computed from the state before all of them."""
    before = dict(oracle.R)
    after = dict(oracle.R)
    for s, q, a_bar in updates:
        oracle.R = dict(before)
        if s == q:
            oracle.self_attention(s, a_bar)
        else:
            oracle.bi_modal((s, q, a_bar))
        for pair in after:
            after[pair] = after[pair] + (oracle.R[pair] - before[pair])
    oracle.R = after


def readout_row(recipe: Recipe, target: int | tuple[int, int]) -> np.ndarray:
    """The weights with which the read stream's tokens enter the explained number."""
    tokens = recipe.length(recipe.wiring.reads)
    if recipe.readout == "mean":
        return np.full(tokens, 1 / tokens)
    place = {"first": 0, "last": -1}.get(recipe.readout)
    row = np.zeros(tokens)
    row[target[0] if place is None else place] = 1.0
    return row


def collect(recipe: Recipe, samples: list[Matrices], rows: list[np.ndarray]) -> Expected:
    """The samples stacked, cut into modalities and read by ``rows``."""
    places = oracle_places(recipe)
    born = {name: places[name] for name in recipe.wiring.streams}
    read, _ = places[recipe.wiring.reads]

    def relevance(samples: list[Matrices]) -> dict[str, np.ndarray]:
        return {
            name: np.stack([row @ R[read, q][:, at] for R, row in zip(samples, rows, strict=True)])
            for name, (q, at) in born.items()
        }

    matrices = {
        (a, b): np.stack([R[s, q][at_s, at_q] for R in samples])
        for a, (s, at_s) in born.items()
        for b, (q, at_q) in born.items()
    }
    untouched = [Oracle(oracle_tokens(recipe)).R] * recipe.batch
    return Expected(relevance(samples), matrices, relevance(untouched))


# Strategies


def some(*choices: object) -> st.SearchStrategy:
    return st.sampled_from(choices)


@st.composite
def wirings(draw: st.DrawFn, kind: str) -> Wiring:
    depth, separate = draw(st.integers(1, 2)), draw(st.integers(0, 1))
    source = draw(some("words", "regions"))
    if kind == "single":
        return single(depth, source)
    if kind == "joint":
        pair = draw(some(("words", "regions"), ("regions", "words"), ("regions", "sounds")))
        return joint(depth, *pair, separate)
    if kind == "encoder_decoder":
        return encoder_decoder(depth, source, draw(some("replies", "queries")), separate)
    if kind == "latents":
        return latents(depth, source, separate, draw(st.booleans()))
    if kind == "wild":
        return wild(tuple(draw(st.lists(wild_steps(), min_size=1, max_size=4))))
    return KINDS[kind](depth, separate)


KINDS: dict[str, Callable[..., Wiring]] = {
    "single": single,
    "joint": joint,
    "co_attention": co_attention,
    "sequential_co_attention": sequential_co_attention,
    "encoder_decoder": encoder_decoder,
    "joint_encoder_decoder": joint_encoder_decoder,
    "latents": latents,
    "three": three,
    "wild": wild,
}


@st.composite
def wild_steps(draw: st.DrawFn) -> Step:
    """One to three attentions among three streams, at the same time."""
    names = ("words", "regions", "sounds")
    queries = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    return tuple(Attend(query, (draw(some(*names)),), draw(st.booleans())) for query in queries)


@st.composite
def token_counts(draw: st.DrawFn) -> dict[str, int]:
    """Tokens of each modality; in most draws some modalities have the same number."""
    size = draw(st.integers(2, 5))
    around = some(size, size, size + 1, draw(st.integers(1, 5)))
    return {name: draw(around) for name in ("words", "regions", "sounds", "replies", "queries")}


@st.composite
def recipes(draw: st.DrawFn, *kinds: str) -> Recipe:
    """Recipes whose wiring is of one of the `KINDS` (any, if none is named)."""
    wiring = draw(wirings(draw(some(*(kinds or KINDS)))))
    heads = draw(some(1, 2, 2, 4))
    attention = draw(some(*ATTENTIONS))
    counts = draw(token_counts())
    if attention == "weighted_sum":  # element by element, one token leaves no trace of its axis
        counts = {name: max(count, 2) for name, count in counts.items()}
    attends = (attend for step in wiring.steps for attend in step)
    if any("queries" in attend.keys and len(attend.keys) > 1 for attend in attends):
        counts["queries"] = max(counts["queries"], 2)  # one among others is their class token
    return Recipe(
        wiring,
        seed=draw(st.integers(0, 10_000)),
        batch=draw(some(2, 3)),
        **counts,
        width=draw(some(4, 6, 8)),
        heads=heads,
        groups=draw(some(heads, heads, 1, max(heads // 2, 1))),
        head_dim=draw(some(2, 3, 4)),
        mlp_width=draw(some(3, 6, 8)),
        gated_mlp=draw(st.booleans()),
        norm=draw(some("pre", "post")),
        norm_kind=draw(some("layer", "rms")),
        parallel=draw(st.booleans()),
        biases=draw(st.booleans()),
        attention=attention,
        packed=draw(st.booleans()),
        shared_cross=draw(st.booleans()),
        scale_first=draw(st.booleans()),
        grouping=draw(some("repeat_interleave", "expand", "enable_gqa")),
        padding=draw(st.booleans()),
        causal=draw(st.booleans()),
        mask_form=draw(some("bool", "additive", "product")),
        positions=draw(some("none", "parameter", "embedding", "each_layer")),
        types=draw(st.booleans()),
        boxes=draw(st.booleans()),
        tied_embedding=draw(st.booleans()),
        query_form=draw(some("parameter", "embedding", "zeros")),
        special=draw(some(0, 0, 1, 1, 2)),
        # a last special token belongs to its own sequence only if that once attended alone
        special_last=draw(st.booleans()) and not (wiring.joined and not wiring.separate),
        readout=draw(some("first", "last", "mean", "each")),
        pooler=draw(st.booleans()),
    )
