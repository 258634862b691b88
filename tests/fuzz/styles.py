"""Attention in many ways: queries (batch, s, heads, d), keys and values (batch, q, groups, d)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.fuzz.recipe import Recipe

LOG2_E = 1.4426950408889634


def softmax(style: str, scores: Tensor, dim: int) -> Tensor:
    """A softmax, written in one of several ways."""
    if style == "exp_sum":
        weights = scores.exp()
        return weights / weights.sum(dim, keepdim=True)
    if style == "logsumexp":
        return (scores - scores.logsumexp(dim, keepdim=True)).exp()
    if style == "max_subtracted":
        weights = (scores - scores.amax(dim, keepdim=True)).exp()
        return weights / weights.sum(dim, keepdim=True)
    if style == "log_softmax":
        return F.log_softmax(scores, dim).exp()
    if style == "reciprocal":
        weights = (scores - scores.amax(dim, keepdim=True).clamp(min=-1e30)).exp()
        return weights * (1.0 / (weights.sum(dim, keepdim=True) + 1e-30))
    if style == "exp2":
        weights = torch.exp2((scores - scores.amax(dim, keepdim=True)) * LOG2_E)
        return weights / weights.sum(dim, keepdim=True)
    return scores.softmax(dim)


def masked(style: str, scores: Tensor, keep: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scores with a bias and with what is not kept (False in ``keep``) pushed to nothing."""
    if bias is not None:
        scores = scores + bias
    if keep is None:
        return scores
    if style == "additive":
        lowest = torch.finfo(scores.dtype).min
        return scores + torch.zeros_like(keep, dtype=scores.dtype).masked_fill(~keep, lowest)
    if style == "where_inf":
        return torch.where(keep, scores, float("-inf"))
    if style == "fill_1e9":
        return scores.masked_fill(~keep, -1e9)
    if style == "renormalised":  # after the softmax
        return scores
    return scores.masked_fill(~keep, torch.finfo(scores.dtype).min)


def weights_of(
    recipe: Recipe, scores: Tensor, keep: Tensor | None, bias: Tensor | None, dim: int
) -> Tensor:
    """Scores masked and normalised; a mask may also come after a softmax over everything."""
    weights = softmax(recipe.softmax, masked(recipe.mask_form, scores, keep, bias), dim)
    if recipe.mask_form != "renormalised" or keep is None:
        return weights
    weights = weights * keep.to(weights.dtype)
    return weights / weights.sum(dim, keepdim=True)


class Plain(torch.autograd.Function):
    """Attention with a backward by hand, as kernels are wrapped."""

    @staticmethod
    def forward(  # type: ignore[override]
        context: Any, query: Tensor, key: Tensor, value: Tensor, added: Tensor
    ) -> Tensor:
        weights = (query @ key.mT / query.shape[-1] ** 0.5 + added).softmax(-1)
        context.save_for_backward(query, key, value, weights)
        return weights @ value

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = context.saved_tensors
        to_weights = gradients[0] @ value.mT
        to_scores = weights * (to_weights - (weights * to_weights).sum(-1, keepdim=True))
        scale = query.shape[-1] ** 0.5
        return (
            to_scores @ key / scale,
            to_scores.mT @ query / scale,
            weights.mT @ gradients[0],
            to_scores,
        )


def in_place(scores: Tensor, keep: Tensor | None, bias: Tensor | None) -> Tensor:
    """Masked and normalised where they lie."""
    if bias is not None:
        scores += bias
    if keep is not None:
        scores.masked_fill_(~keep, float("-inf"))
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


def all_heads(recipe: Recipe, keys: Tensor, heads: int) -> Tensor:
    """Keys or values (batch, q, groups, d) for every query head."""
    batch, tokens, groups, size = keys.shape
    if groups == heads:
        return keys
    if recipe.grouping == "repeat":
        return keys.repeat_interleave(heads // groups, dim=2)
    wide = keys[:, :, :, None].expand(batch, tokens, groups, heads // groups, size)
    return wide.reshape(batch, tokens, heads, size)


def online(scores: Tensor, value: Tensor, chunk: int = 2) -> Tensor:
    """Flash attention by hand: running maximum, sum and output over chunks of the keys."""
    top = scores[..., :chunk].amax(-1, keepdim=True)
    weights = (scores[..., :chunk] - top).exp()
    total, output = weights.sum(-1, keepdim=True), weights @ value[..., :chunk, :]
    for start in range(chunk, scores.shape[-1], chunk):
        part = scores[..., start : start + chunk]
        new = torch.maximum(top, part.amax(-1, keepdim=True))
        weights = (part - new).exp()
        total = total * (top - new).exp() + weights.sum(-1, keepdim=True)
        output = output * (top - new).exp() + weights @ value[..., start : start + chunk, :]
        top = new
    return output / total


def styled_attention(
    recipe: Recipe,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keep: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """Attention's outputs (batch, s, heads, d), in the recipe's way of writing them."""
    batch, s, heads, size = query.shape
    groups, scale, style = key.shape[2], size**-0.5, recipe.attention

    def weigh(scores: Tensor, dim: int = -1) -> Tensor:
        hidden, added = keep, bias
        if dim == -2:
            hidden = None if keep is None else keep.transpose(-1, -2)
            added = None if bias is None else bias.transpose(-1, -2)
        return weights_of(recipe, scores, hidden, added, dim)

    if style == "einsum_grouped" and recipe.softmax != "online":
        grouped = query.reshape(batch, s, groups, heads // groups, size)
        scores = torch.einsum("bsgrd,bqgd->bgrsq", grouped, key) * scale
        weights = weigh(scores.flatten(1, 2)).unflatten(1, (groups, heads // groups))
        return torch.einsum("bgrsq,bqgd->bsgrd", weights, value).flatten(2, 3)
    key, value = all_heads(recipe, key, heads), all_heads(recipe, value, heads)
    if style == "einsum":
        weights = weigh(torch.einsum("bqhd,bkhd->bhqk", query, key) * scale)
        return torch.einsum("bhqk,bkhd->bqhd", weights, value)
    if style == "heads_last":
        scores = torch.einsum("bqhd,bkhd->bqkh", query, key) * scale
        weights = weigh(scores.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return torch.einsum("bqkh,bkhd->bqhd", weights, value)
    if style == "sequence_first_folded":  # fairseq: (s, b, d) to (b * heads, s, d)
        folded = [
            x.transpose(0, 1).reshape(-1, batch * heads, size).transpose(0, 1)
            for x in (query * scale, key, value)
        ]
        weights = weigh(torch.bmm(folded[0], folded[1].mT).view(batch, heads, s, -1))
        out = torch.bmm(weights.view(batch * heads, s, -1), folded[2]).transpose(0, 1)
        return out.reshape(s, batch, heads, size).transpose(0, 1)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if style == "weighted_sum":
        weights = weigh(query @ key.mT * scale)
        return (weights[..., None] * value[:, :, None]).sum(-2).transpose(1, 2)
    if style == "outer":
        scores = (query[..., None, :] * key[..., None, :, :]).sum(-1) * scale
        return (weigh(scores) @ value).transpose(1, 2)
    if style == "query_chunks":
        parts = []
        for start in range(0, s, 2):
            rows = slice(start, start + 2)
            scores = query[:, :, rows] @ key.mT * scale
            hidden = keep if keep is None or keep.shape[2] == 1 else keep[:, :, rows]
            added = bias if bias is None else bias[:, :, rows]
            parts.append(weights_of(recipe, scores, hidden, added, -1) @ value)
        return torch.cat(parts, 2).transpose(1, 2)
    if style == "in_place":
        return (in_place(query @ key.mT * scale, keep, bias) @ value).transpose(1, 2)
    if style == "function":
        added = query.new_zeros(1, 1, 1, 1) if bias is None else bias
        if keep is not None:
            added = torch.where(keep, added, float("-inf"))
        return Plain.apply(query, key, value, added).transpose(1, 2)
    if style in ("sdpa", "multi_head"):
        added = keep if bias is None else masked("where_inf", bias, keep, None)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=added).transpose(1, 2)
    if style == "head_loop":
        parts = []
        for h in range(heads):
            scores = query[:, h] @ key[:, h].mT * scale
            added = None if bias is None else bias[:, h]
            hidden = None if keep is None else keep[:, 0]
            weights = weights_of(recipe, scores, hidden, added, -1)
            parts.append(weights @ value[:, h])
        return torch.stack(parts, 2)
    if style == "queries_last":
        weights = weigh(key @ query.mT * scale, -2)
        return (value.mT @ weights).permute(0, 3, 1, 2)
    if style in ("folded", "baddbmm"):
        folded = [x.reshape(batch * heads, -1, size) for x in (query, key, value)]
        if style == "baddbmm":
            start = query.new_zeros(batch * heads, s, key.shape[2])
            scores = torch.baddbmm(start, folded[0], folded[1].mT, alpha=scale)
        else:
            scores = torch.bmm(folded[0] * scale, folded[1].mT)
        weights = weigh(scores.view(batch, heads, s, -1)).flatten(0, 1)
        return torch.bmm(weights, folded[2]).view(batch, heads, s, size).transpose(1, 2)
    scores = query @ key.mT * scale
    if recipe.softmax == "online":
        form = "where_inf" if recipe.mask_form == "renormalised" else recipe.mask_form
        return online(masked(form, scores, keep, bias), value).transpose(1, 2)
    return (weigh(scores) @ value).transpose(1, 2)
