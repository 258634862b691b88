"""What a random transformer is: a topology, and a choice of how each of its parts is written."""

import random
from dataclasses import dataclass, field, fields

CHOICES: dict[str, tuple[object, ...]] = {
    "attention": (
        "matmul",
        "einsum",
        "einsum_grouped",
        "sdpa",
        "multi_head",
        "baddbmm",
        "head_loop",
        "folded",
        "heads_last",
        "queries_last",
        "sequence_first_folded",
        "weighted_sum",
        "query_chunks",
        "in_place",
        "function",
        "functional",
        "outer",
    ),
    "softmax": (
        "softmax",
        "exp_sum",
        "logsumexp",
        "max_subtracted",
        "log_softmax",
        "online",
        "reciprocal",
        "exp2",
    ),
    "mask_form": ("additive", "where_inf", "fill_min", "fill_1e9", "renormalised"),
    "grouping": ("repeat", "expand"),
    "heads": (2, 1, 4),
    "groups": ("all", "one", "half"),
    "projection": ("separate", "fused_qkv", "fused_vkq", "viewed", "interleaved"),
    "linear": ("linear", "addmm", "matmul", "einsum"),
    "lookup": ("embedding", "one_hot", "indexed"),
    "residual": ("plain", "scaled", "tanh_gate"),
    "sequence_first": (False, True),
    "positions": ("none", "learned", "sinusoidal", "rotary", "alibi", "relative"),
    "norm": ("pre", "post"),
    "norm_kind": ("layer", "rms"),
    "mlp": ("plain", "glu", "conv", "parallel", "none"),
    "special": (0, 1),
    "padding": ("none", "right", "left"),
    "readout": (
        "first",
        "last",
        "mean",
        "masked_sum",
        "masked_fill",
        "masked_bmm",
        "strided",
        "einsum",
    ),
    "fusion": ("sum", "cat", "product"),
    "depth": (1, 2),
    "words": (4, 2, 3, 5),
    "regions": (3, 4, 5),
    "sounds": (3, 4, 2),
}
"""Every choice; the first of each is the plainest, to which shrinking goes back."""


@dataclass(frozen=True)
class Recipe:
    """One random transformer: its ``topology``, the ``seed`` of its numbers, and its choices."""

    topology: str
    seed: int = 0
    attention: str = "matmul"
    softmax: str = "softmax"
    mask_form: str = "additive"
    grouping: str = "repeat"
    heads: int = 2
    groups: str = "all"
    projection: str = "separate"
    linear: str = "linear"
    lookup: str = "embedding"
    residual: str = "plain"
    sequence_first: bool = False
    positions: str = "none"
    norm: str = "pre"
    norm_kind: str = "layer"
    mlp: str = "plain"
    special: int = 0
    padding: str = "none"
    readout: str = "first"
    fusion: str = "sum"
    depth: int = 1
    words: int = 4
    regions: int = 3
    sounds: int = 3
    batch: int = 2
    width: int = field(default=8)

    @property
    def key_heads(self) -> int:
        """The number of heads of keys and values."""
        return {"all": self.heads, "one": 1, "half": max(self.heads // 2, 1)}[self.groups]


def draw(seed: int, topology: str) -> Recipe:
    """The recipe of a seed, always the same."""
    chance = random.Random(seed)
    names = {entry.name for entry in fields(Recipe)}
    chosen = {name: chance.choice(options) for name, options in CHOICES.items() if name in names}
    return Recipe(topology, seed, **chosen)  # type: ignore[arg-type]
