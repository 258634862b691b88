"""The module of a recipe. With a ledger it computes attention plainly and tells what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Recipe
from tests.fuzz.styles import styled_attention
from tests.fuzz.truth import Ledger, Rows, united

VOCABULARY = 13
FEATURES = {"regions": 5, "sounds": 3}
CLASSES = 4
Inputs = dict[str, Tensor]

TOPOLOGIES: dict[str, Callable[[Net, Inputs], Tensor]] = {}
"""What each topology computes; `topologies` fills it."""

USES: dict[str, tuple[str, ...]] = {}
"""The inputs of each topology."""

CHUNKS: dict[str, int] = {}
"""Topologies that cut the words into chunks, and into how many."""


@dataclass
class Flow:
    """A sequence of tokens (batch, tokens, width), which keys are real, and (told) its rows."""

    x: Tensor
    keep: Tensor | None = None
    rows: list[Rows] | None = None

    def part(self, start: int, stop: int | None) -> Flow:
        keep = None if self.keep is None else self.keep[:, start:stop]
        rows = None if self.rows is None else [rows[start:stop] for rows in self.rows]
        return Flow(self.x[:, start:stop], keep, rows)

    def picked(self, index: Tensor) -> Flow:
        """Other tokens for every sample: ``index`` (batch, kept)."""
        x = self.x.gather(1, index[..., None].expand(-1, -1, self.x.shape[-1]))
        keep = None if self.keep is None else self.keep.gather(1, index)
        rows = None
        if self.rows is not None:
            rows = [
                [of[i] for i in chosen]
                for of, chosen in zip(self.rows, index.tolist(), strict=True)
            ]
        return Flow(x, keep, rows)


def beside(*flows: Flow) -> Flow:
    """The sequences one after the other."""
    keep = None
    if any(flow.keep is not None for flow in flows):
        parts = [
            flow.x.new_ones(flow.x.shape[:2], dtype=torch.bool) if flow.keep is None else flow.keep
            for flow in flows
        ]
        keep = torch.cat(parts, 1)
    rows = None
    if all(flow.rows is not None for flow in flows):
        together = zip(*(flow.rows for flow in flows), strict=True)
        rows = [[row for part in of for row in part] for of in together]
    return Flow(torch.cat([flow.x for flow in flows], 1), keep, rows)


def kept(query: Flow, key: Flow, causal: bool) -> Tensor | None:
    """(batch or 1, 1, s or 1, q): which keys are attended to; a causal query always sees itself."""
    keep = None if key.keep is None else key.keep[:, None, None]
    if not causal:
        return keep
    tokens = query.x.shape[1]
    seen = torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None]
    if keep is None:
        return seen
    return seen & (keep | torch.eye(tokens, dtype=torch.bool)[None, None])


class Rms(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Net(nn.Module):
    """Makes its parts when they are first used: a topology is written once, as what it computes."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.parts = nn.ModuleDict()
        self.numbers = nn.ParameterDict()
        self.ledger: Ledger | None = None

    def forward(
        self,
        words: Tensor | None = None,
        regions: Tensor | None = None,
        sounds: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        given = {"words": words, "regions": regions, "sounds": sounds, "mask": mask}
        return TOPOLOGIES[self.recipe.topology](
            self, {name: value for name, value in given.items() if value is not None}
        )

    def part(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        if name not in self.parts:
            self.parts[name] = make()
        return self.parts[name]

    def linear(self, name: str, x: Tensor, size: int) -> Tensor:
        module = self.part(name, lambda: nn.Linear(x.shape[-1], size))
        form = "linear" if self.ledger is not None else self.recipe.linear
        if form == "addmm":
            flat = torch.addmm(module.bias, x.reshape(-1, x.shape[-1]), module.weight.t())
            return flat.view(*x.shape[:-1], size)
        if form == "matmul":
            return x @ module.weight.t() + module.bias
        if form == "einsum":
            return torch.einsum("...i,oi->...o", x, module.weight) + module.bias
        return module(x)

    def number(self, name: str, *shape: int) -> Tensor:
        if name not in self.numbers:
            self.numbers[name] = nn.Parameter(torch.zeros(shape))
        return self.numbers[name]

    def norm(self, name: str, x: Tensor) -> Tensor:
        width = x.shape[-1]
        kind = nn.LayerNorm if self.recipe.norm_kind == "layer" else Rms
        return self.part(f"norm_{name}", lambda: kind(width))(x)

    # Births

    def born(self, inputs: Inputs, name: str, special: int = 0) -> Flow:
        """The tokens of one input, its special tokens before them."""
        recipe, given = self.recipe, inputs[name]
        if name == "words":
            table = self.part("embed_words", lambda: nn.Embedding(VOCABULARY, recipe.width))
            x = self.looked_up(table, given)
        else:
            x = self.linear(f"embed_{name}", given, recipe.width)
        x = self.placed(name, x)
        keep = inputs["mask"].bool() if name == "words" and "mask" in inputs else None
        if special:
            cls = self.number(f"cls_{name}", 1, special, recipe.width)
            x = torch.cat([cls.expand(x.shape[0], -1, -1), x], 1)
            keep = None if keep is None else F.pad(keep, (special, 0), value=True)
        return self.told(name, Flow(x, keep))

    def looked_up(self, table: nn.Module, words: Tensor) -> Tensor:
        form = "embedding" if self.ledger is not None else self.recipe.lookup
        if form == "one_hot":
            return F.one_hot(words, VOCABULARY).to(table.weight.dtype) @ table.weight
        return table.weight[words] if form == "indexed" else table(words)

    def placed(self, name: str, x: Tensor) -> Tensor:
        form, tokens, width = self.recipe.positions, x.shape[1], x.shape[2]
        if form == "learned":
            return x + self.number(f"places_{name}", 12, width)[:tokens]
        if form == "sinusoidal":
            angles = torch.arange(tokens)[:, None] / 10.0 ** torch.arange(width // 2)
            return x + torch.cat([angles.sin(), angles.cos()], -1).to(x.dtype)
        return x

    def told(self, name: str, flow: Flow) -> Flow:
        rows = None
        if self.ledger is not None:
            rows = self.ledger.born(name, flow.x.shape[1], flow.x.shape[0])
        return Flow(flow.x, flow.keep, rows)

    def learned(self, name: str, count: int, batch: int) -> Flow:
        """Learned queries: a modality named by the parameter."""
        x = self.number(name, count, self.recipe.width)[None].expand(batch, -1, -1)
        return self.told(f"numbers.{name}", Flow(x))

    def joint(self, *names: str) -> None:
        """Say that the modalities share one sequence."""
        if self.ledger is not None:
            for name in names:
                self.ledger.stream[name] = names[0]

    # Attention

    def attend(self, name: str, query: Flow, key: Flow, causal: bool = False) -> Flow:
        """Attention's output, which has no residual in it yet."""
        torchs_own = self.recipe.attention in ("multi_head", "functional")
        if torchs_own and self.recipe.key_heads == self.recipe.heads:
            return self.multi_head(name, query, key, causal)
        return self.attended(name, query, key, *self.projected(name, query, key), causal)

    def projected(self, name: str, query: Flow, key: Flow) -> list[Tensor]:
        """Queries (batch, s, heads, d), keys and values (batch, q, groups, d)."""
        recipe = self.recipe
        heads, groups, size = recipe.heads, recipe.key_heads, recipe.width // recipe.heads
        sizes = [heads * size, groups * size, groups * size]
        form = recipe.projection
        if query is not key or (form in ("viewed", "interleaved") and groups < heads):
            form = "separate"
        if form != "separate":
            packed = self.linear(f"{name}_qkv", query.x, sum(sizes))
            if form == "viewed":
                return list(packed.unflatten(-1, (3, heads, size)).unbind(2))
            if form == "interleaved":
                return list(packed.view(*packed.shape[:-1], heads, 3 * size).chunk(3, -1))
            if form == "fused_qkv":
                q, k, v = packed.split(sizes, -1)
            else:
                v, k, q = packed.split(sizes[::-1], -1)
        else:
            q = self.linear(f"{name}_q", query.x, sizes[0])
            k = self.linear(f"{name}_k", key.x, sizes[1])
            v = self.linear(f"{name}_v", key.x, sizes[2])
        return [x.unflatten(-1, (-1, size)) for x in (q, k, v)]

    def attended(
        self, name: str, query: Flow, key: Flow, q: Tensor, k: Tensor, v: Tensor, causal: bool
    ) -> Flow:
        recipe, heads, groups = self.recipe, self.recipe.heads, self.recipe.key_heads
        same = query is key
        if same and recipe.positions == "rotary":
            q, k = turned(q), turned(k)
        bias = self.bias(name, q.shape[1], k.shape[1]) if same else None
        keep = kept(query, key, causal)
        rows = None
        if self.ledger is None:
            out = self.styled(q, k, v, keep, bias)
        else:
            weights = self.plain_weights(q, k, keep, bias)
            weights.retain_grad()
            rows = self.ledger.attended(query.rows, key.rows, weights)
            out = torch.stack(
                [weights[:, h] @ v[:, :, h * groups // heads] for h in range(heads)], 2
            )
        return Flow(self.linear(f"{name}_out", out.flatten(2), recipe.width), query.keep, rows)

    def multi_head(self, name: str, query: Flow, key: Flow, causal: bool) -> Flow:
        """PyTorch's own module, batch first or sequence first, or the function that it calls."""
        heads, width = self.recipe.heads, self.recipe.width
        functional = self.recipe.attention == "functional"
        first = not self.recipe.sequence_first and not functional
        module = self.part(
            f"{name}_mha", lambda: nn.MultiheadAttention(width, heads, batch_first=first)
        )
        keep = kept(query, key, causal)
        if self.ledger is None:
            given = [x if first else x.transpose(0, 1) for x in (query.x, key.x, key.x)]
            hidden = None
            if keep is not None:
                hidden = ~keep.expand(query.x.shape[0], heads, query.x.shape[1], -1).flatten(0, 1)
            options = {"attn_mask": hidden, "need_weights": self.recipe.seed % 2 == 0}
            if functional:
                x = F.multi_head_attention_forward(
                    *given, width, heads, module.in_proj_weight, module.in_proj_bias, None, None,
                    False, 0.0, module.out_proj.weight, module.out_proj.bias, training=False,
                    **options,
                )[0]  # fmt: skip
            else:
                x = module(*given, **options)[0]
            return Flow(x if first else x.transpose(0, 1), query.keep)
        matrices, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, matrix, bias).unflatten(-1, (heads, -1))
            for x, matrix, bias in zip((query.x, key.x, key.x), matrices, biases, strict=True)
        )
        weights = self.plain_weights(q, k, keep, None)
        weights.retain_grad()
        rows = self.ledger.attended(query.rows, key.rows, weights)
        out = torch.stack([weights[:, h] @ v[:, :, h] for h in range(heads)], 2).flatten(2)
        return Flow(module.out_proj(out), query.keep, rows)

    def styled(
        self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        if not self.recipe.sequence_first:
            return styled_attention(self.recipe, q, k, v, keep, bias)
        turned_about = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v)]
        return styled_attention(self.recipe, *turned_about, keep, bias)

    def plain_weights(
        self, q: Tensor, k: Tensor, keep: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        heads, groups = q.shape[2], k.shape[2]
        found = []
        for h in range(heads):
            scores = q[:, :, h] @ k[:, :, h * groups // heads].mT / q.shape[-1] ** 0.5
            scores = scores if bias is None else scores + bias[:, h]
            found.append(scores if keep is None else scores.where(keep[:, 0], -torch.inf))
        return torch.stack(found, 1).softmax(-1)

    def bias(self, name: str, s: int, q: int) -> Tensor | None:
        """(1, heads, s, q): ALiBi or a learned relative bias."""
        heads = self.recipe.heads
        apart = torch.arange(q)[None] - torch.arange(s)[:, None]
        if self.recipe.positions == "alibi":
            slopes = 0.5 ** torch.arange(1, heads + 1, dtype=next(self.parameters()).dtype)
            return -(apart.abs() * slopes[:, None, None])[None]
        if self.recipe.positions == "relative":
            table = self.part(f"{name}_relative", lambda: nn.Embedding(7, heads))
            return table(apart.clamp(-3, 3) + 3).permute(2, 0, 1)[None]
        return None

    # Blocks

    def residual(self, name: str, query: Flow, key: Flow, causal: bool = False) -> Flow:
        pre = self.recipe.norm == "pre"
        asking = Flow(self.norm(f"{name}_a", query.x), query.keep, query.rows) if pre else query
        keyed = asking if key is query else key
        heard = self.attend(name, asking, keyed, causal)
        x = query.x + self.opened(name, heard.x)
        rows = None if self.ledger is None else united(query.rows, heard.rows)
        return Flow(x if pre else self.norm(f"{name}_a", x), query.keep, rows)

    def opened(self, name: str, x: Tensor) -> Tensor:
        """What is added to the residual stream: all, or scaled by learned factors."""
        if self.recipe.residual == "scaled":
            return x * self.number(f"scale_{name}", x.shape[-1])
        if self.recipe.residual == "tanh_gate":
            return self.number(f"gate_{name}", 1).tanh() * x
        return x

    def mlp(self, name: str, flow: Flow) -> Flow:
        kind = self.recipe.mlp
        if kind == "none":
            return flow
        pre = self.recipe.norm == "pre"
        x = self.norm(f"{name}_m", flow.x) if pre else flow.x
        wide = 2 * self.recipe.width
        if kind == "glu":
            x = F.silu(self.linear(f"{name}_gate", x, wide)) * self.linear(f"{name}_up", x, wide)
        elif kind == "conv":
            first = self.part(f"{name}_up", lambda: nn.Conv1d(x.shape[-1], wide, 1))
            x = F.gelu(first(x.transpose(1, 2)).transpose(1, 2))
        else:
            x = F.gelu(self.linear(f"{name}_up", x, wide))
        x = flow.x + self.linear(f"{name}_down", x, self.recipe.width)
        return Flow(x if pre else self.norm(f"{name}_m", x), flow.keep, flow.rows)

    def block(self, name: str, query: Flow, key: Flow | None = None, causal: bool = False) -> Flow:
        if key is None and self.recipe.mlp == "parallel":
            x = self.norm(f"{name}_a", query.x)
            asking = Flow(x, query.keep, query.rows)
            heard = self.attend(name, asking, asking, causal)
            beside_it = self.linear(
                f"{name}_down", F.gelu(self.linear(f"{name}_up", x, 12)), x.shape[-1]
            )
            rows = None if self.ledger is None else united(query.rows, heard.rows)
            return Flow(query.x + heard.x + beside_it, query.keep, rows)
        return self.mlp(name, self.residual(name, query, query if key is None else key, causal))

    def stack(self, name: str, flow: Flow, depth: int | None = None, causal: bool = False) -> Flow:
        for layer in range(depth or self.recipe.depth):
            flow = self.block(f"{name}{layer}", flow, causal=causal)
        return flow

    # Reading

    def pooled(self, flow: Flow, readout: str | None = None) -> Tensor:
        """One vector per sample; the ledger is told the tokens' weights."""
        readout, x, keep = readout or self.recipe.readout, flow.x, flow.keep
        count = x.shape[1]
        if readout == "first" and keep is not None and self.recipe.padding == "left":
            readout = "last"  # the first may be padding
        if readout == "last" and keep is not None and self.recipe.padding == "right":
            last = keep.sum(1) - 1
            x = x[torch.arange(x.shape[0]), last]
            weights = F.one_hot(last, count).double()
        elif readout in ("first", "last"):
            at = 0 if readout == "first" else count - 1
            x = x[:, at]
            weights = F.one_hot(torch.tensor([at] * x.shape[0]), count).double()
        elif readout == "mean":
            x = x.mean(1)
            weights = torch.full((x.shape[0], count), 1 / count, dtype=torch.float64)
        else:
            real = (x.new_ones(x.shape[:2]) if keep is None else keep).to(x.dtype)
            weights = (real / real.sum(1, keepdim=True)).double()
            keep = real.bool() if keep is None else keep
            if readout == "strided":
                masked = x * real[..., None]
                halves = masked[:, ::2].sum(1) + masked[:, 1::2].sum(1)
                x = halves / real.sum(1, keepdim=True)
            elif readout == "einsum":
                x = torch.einsum("bnd,bn->bd", x, real / real.sum(1, keepdim=True))
            elif readout == "masked_sum":
                x = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)
            elif readout == "masked_fill":
                x = x.masked_fill(~keep[..., None], 0.0).sum(1) / real.sum(1, keepdim=True)
            else:
                x = torch.bmm((real / real.sum(1, keepdim=True))[:, None], x).squeeze(1)
        if self.ledger is not None:
            self.ledger.readouts.append((weights.numpy(), flow.rows))
        return x

    def finals(self, **flows: Flow) -> None:
        """Say how the tokens of modalities were left."""
        if self.ledger is not None:
            for flow in flows.values():
                for b, rows in enumerate(flow.rows):
                    self.ledger.left(b, rows)

    def head(self, *read: Tensor) -> Tensor:
        if self.recipe.fusion == "cat":
            x = torch.cat(read, -1)
        elif self.recipe.fusion == "product":
            x = read[0]
            for other in read[1:]:
                x = x * other
        else:
            x = sum(read[1:], read[0])
        return self.linear("head", x, CLASSES)


def turned(x: Tensor) -> Tensor:
    """Rotary positions on (batch, tokens, heads, d)."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None] / 10.0 ** torch.arange(half)
    cos, sin = (
        torch.cat([f, f], -1)[None, :, None].to(x.dtype) for f in (angles.cos(), angles.sin())
    )
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def build(recipe: Recipe) -> Net:
    """The recipe's model in float64, with weights for which attention is far from uniform."""
    model = Net(recipe).eval()
    inputs = make_inputs(recipe)
    with torch.no_grad():
        model(**{k: v.float() if v.is_floating_point() else v for k, v in inputs.items()})
    model.double().eval()
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if "norm" in name:
                parameter.copy_((0.0 if name.endswith("bias") else 1.0) + 0.2 * noise)
            elif name.startswith("numbers.read"):
                parameter.copy_(1.0 + 0.2 * noise)
            elif name.startswith(("numbers.scale", "numbers.gate")):
                parameter.copy_(1.0 + 0.3 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.2 * noise)
            elif "embed" in name or name.startswith("numbers"):
                parameter.copy_(noise)
            else:
                parameter.copy_(1.5 * noise / parameter.shape[1] ** 0.5)
    return model


def make_inputs(recipe: Recipe) -> Inputs:
    """Inputs of the recipe's sizes; with padding, another number of real words for every sample."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    used = USES[recipe.topology]
    inputs: Inputs = {}
    if "words" in used:
        count = recipe.words * CHUNKS.get(recipe.topology, 1)
        shape = (recipe.batch, count)
        inputs["words"] = torch.randint(VOCABULARY, shape, generator=generator)
        if recipe.padding != "none":
            real = torch.tensor([[max(count - b, 1)] for b in range(recipe.batch)])
            mask = torch.arange(count) < real
            inputs["mask"] = (mask if recipe.padding == "right" else mask.flip(1)).long()
    for name, size in FEATURES.items():
        if name in used:
            shape = (recipe.batch, getattr(recipe, name), size)
            inputs[name] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return inputs
