"""Token activation maps: where in an image each written word is activated, and no other word before it.

Li et al., "Token Activation Map to Visually Explain Multimodal LLMs", ICCV 2025 (arXiv 2506.23270): the
logit of a word at every place of the image, less what earlier words activate there anyway, smoothed by
a filter that looks at the order of neighbouring values. No gradient, and one forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fxplain.arguments import place_in
from fxplain.errors import MethodError
from fxplain.explanation import Explanation
from fxplain.generation.sources import logits_of
from fxplain.presentation import Presentable
from fxplain.tokens import Level, follow_tokens

if TYPE_CHECKING:
    from fxplain.generation.generation import Generation

__all__ = ["ActivationMaps", "activation_maps", "rank_gaussian", "without_interference"]

WINDOW = 3


@dataclass(frozen=True, eq=False)
class ActivationMaps(Presentable):
    """Where in an image each written token is activated; printed, a table, and a page by `to_html`.

    Attributes
    ----------
    modality
        The image's.
    grid
        (rows, columns) of its places; () where they lie on no grid, and nothing is smoothed.
    maps
        By sample, (written tokens, places), 0 or more, in the unit of logits.
    labels
        By sample, the written tokens.
    pictures
        By sample, the image as the model was given it, (1 or 3 channels, height, width); () where it
        was given none.
    """

    modality: str
    grid: tuple[int, ...]
    maps: tuple[Tensor, ...] = field(repr=False)
    labels: tuple[tuple[str, ...], ...] = field(repr=False)
    pictures: tuple[Tensor, ...] = field(default=(), repr=False)

    def map(self, token: int, *, sample: int = 0) -> Tensor:
        """The map of one written token, (rows, columns), or (places,) without a grid."""
        sample = place_in("sample", sample, len(self.maps))
        own = self.maps[sample]
        chosen = own[place_in("token", token, len(own))]
        return chosen.reshape(self.grid) if self.grid else chosen

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "format": "fxplain-activation-maps-1",
            "modality": self.modality,
            "grid": list(self.grid),
            "samples": [
                [
                    {"token": label, "map": row}
                    for label, row in zip(own, rows.tolist(), strict=True)
                ]
                for own, rows in zip(self.labels, self.maps, strict=True)
            ],
        }


def without_interference(own: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """A map less what earlier words activate anyway: max(0, s - a* I).

    I is the weighted mean of the other maps, and a* the number for which s - a I is smallest.

    Parameters
    ----------
    own
        (places,) the activation s of a word.
    others
        (words, places) those of earlier words.
    weights
        (words,) how much each counts, 0 or more.

    Examples
    --------
    >>> s, I = torch.tensor([1.0, 3.0]), torch.tensor([[1.0, 1.0]])
    >>> without_interference(s, I, torch.tensor([5.0]))
    tensor([0., 1.])
    """
    total = weights.sum()
    if not bool(total > 0):
        return own.clamp(min=0)
    interference = weights @ others / total
    size = interference @ interference
    if not bool(size > 0):
        return own.clamp(min=0)
    return (own - (own @ interference) / size * interference).clamp(min=0)


def rank_gaussian(x: Tensor) -> Tensor:
    """The rank Gaussian filter of a map, (rows, columns).

    Each place gets the mean of the sorted values of the 3 by 3 places around it, weighed by
    exp(-r^2 / (2 sigma^2)) of their distance r from the middle of the order, with sigma the deviation
    of the values over their mean: single bright places go, edges stay.
    """
    windows = F.unfold(F.pad(x[None, None], (1, 1, 1, 1), mode="reflect"), WINDOW)[0].T
    ordered = windows.sort(-1).values
    mean, deviation = ordered.mean(-1), ordered.std(-1, correction=0)
    ranks = torch.arange(WINDOW**2, dtype=x.dtype, device=x.device) - WINDOW**2 // 2
    sigma = (deviation / mean.clamp(min=1e-30)).unsqueeze(-1)
    kernel = torch.exp(-(ranks**2) / (2 * sigma.clamp(min=1e-6) ** 2))
    filtered = (ordered * kernel).sum(-1) / kernel.sum(-1)
    return torch.where(mean > 0, filtered, 0).reshape(x.shape)


def activation_maps(generation: Generation, modality: str | None = None) -> ActivationMaps:
    """See `Generation.activation_maps`."""
    first = generation.explanations[0]
    if first.asked is None:
        raise MethodError("this generation was loaded, and has no model: generate again.")
    text = generation.text_input
    if modality is None:
        modality = next((n for n in first.modalities if _on_a_grid(first, n)), None)
    if modality is None or modality == text:
        raise MethodError("nothing of the prompt is an image: there is nowhere to draw a map.")
    logits = logits_of(first.output).detach().float().cpu()
    places = _image_places(first, logits, modality)
    ids = first.inputs[text].cpu()
    if places.shape[1] == 0 or ids.shape[1] != logits.shape[1]:
        raise MethodError(
            f"{modality!r} stands in another sequence than the text, so that no word has a logit at "
            f"its places: token activation maps are of models that read both as one."
        )
    real = _real_words(first.inputs.get("attention_mask"), ids)
    maps, labels = [], []
    for sample in range(generation.batch_size):
        written = int(generation.written[sample].sum())
        start = logits.shape[1] - generation.ids.shape[1]
        places_written = range(start, start + written)
        own = _of_sample(logits[sample], ids[sample], places[sample], places_written, real[sample])
        maps.append(own)
        labels.append(tuple(token.label for token in generation.tokens[sample]))
    grid = _grid(first, modality, places.shape[1])
    if grid:
        maps = [
            torch.stack([rank_gaussian(m.reshape(grid)).flatten() for m in own]) for own in maps
        ]
    pictures = _pictures(first.inputs.get(modality), generation.batch_size)
    return ActivationMaps(modality, grid, tuple(maps), tuple(labels), pictures)


def _real_words(mask: Any, ids: Tensor) -> Tensor:
    """(batch, tokens) which tokens are no padding."""
    if not isinstance(mask, Tensor) or mask.shape != ids.shape:
        return torch.ones_like(ids, dtype=torch.bool)
    return mask.cpu() > 0


def _pictures(given: Any, batch: int) -> tuple[Tensor, ...]:
    """One picture for each sample, where the model was given such."""
    pictures = isinstance(given, Tensor) and given.dim() == 4 and given.shape[1] in (1, 3)
    return tuple(given.detach().cpu()) if pictures and len(given) == batch else ()


def _of_sample(
    logits: Tensor, ids: Tensor, image: Tensor, written: Sequence[int], real: Tensor
) -> Tensor:
    """(written tokens, places of the image) activations without interference; of `real` words."""
    seen = {*image.tolist(), *(~real).nonzero().flatten().tolist()}
    rows = []
    for place in written:
        earlier = torch.tensor(
            [j for j in range(place) if j not in seen and ids[j] != ids[place]], dtype=torch.long
        )
        activated = logits[:, ids[place]].clamp(min=0)
        others = logits[image][:, ids[earlier]].T.clamp(min=0)
        rows.append(without_interference(activated[image], others, activated[earlier]))
    return torch.stack(rows) if rows else torch.zeros(0, len(image))


def _on_a_grid(explanation: Explanation, name: str) -> bool:
    return len(explanation.grids.get(name, ())) >= 2


def _grid(explanation: Explanation, modality: str, count: int) -> tuple[int, ...]:
    """The rows and columns of an image's places; those of merged patches by their number."""
    *_, rows, columns = (0, 0, *explanation.grids.get(modality, ()))
    step = 1
    while rows * columns > count * step * step:
        step += 1
    rows, columns = rows // step, columns // step
    return (rows, columns) if rows * columns == count and min(rows, columns) > 1 else ()


def _image_places(explanation: Explanation, logits: Tensor, modality: str) -> Tensor:
    """(batch, places) where in the sequence rows of logits stand for parts of the image.

    They are those whose tokens are of that modality, or were merged of it: of no input's own.
    """
    asked = explanation.asked
    assert asked is not None
    bound, captured, program = asked.question.detected()
    flow = follow_tokens(captured, asked.model, bound, keep_tags=True)
    (end,) = (node for node in captured.graph.nodes if node.op == "output")
    own = next(
        node
        for node, value in zip(end.args[0], asked.outputs, strict=True)
        if value.shape == logits.shape
    )
    tags = [t for t in flow.tags.get(own, ()) if t.level >= Level.PARAMETER_TOKEN]
    if not tags or tags[0].tokens.dim() != logits.dim():
        return torch.zeros(len(logits), 0, dtype=torch.long)
    tokens = flow.book.find(tags[0].tokens)[..., 0].expand(logits.shape[:2])
    of = {m.name: m.every[m.every >= 0] for m in program.modalities}
    others = torch.cat([own for name, own in of.items() if name != modality])
    inside = (tokens >= 0) & ~torch.isin(tokens, others)
    counts = inside.sum(1)
    if not bool((counts == counts[0]).all()):
        raise MethodError(
            "the samples' images take different numbers of places: generate for one at a time."
        )
    return inside.nonzero()[:, 1].reshape(len(logits), -1)
