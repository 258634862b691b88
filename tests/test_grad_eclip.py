"""Grad-ECLIP against the published formula, transcribed slowly for one sample and tower at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxplain
from fxplain.errors import MethodError
from small_models import architecture


def transcribed(
    model: nn.Module, inputs: dict[str, Tensor], tower: str, sample: int, layers: int = 1
) -> Tensor:
    """ReLU(sum over layers and channels of w_c lambda_i v_i^c), for the tokens of one tower.

    Zhao et al., ICML 2024. w is the gradient of the similarity at what the read token hears, heads side
    by side, and lambda the cosine of its query with each key, from 0 to 1 over words or patches.
    """
    model = model.eval()
    attentions = [block.self_attn for block in getattr(model, tower).encoder.layers[-layers:]]
    kept: dict[str, list[Tensor]] = {"q": [], "k": [], "v": [], "o": []}
    hooks = []
    for each in attentions:
        for name, part in (("q", each.q_proj), ("k", each.k_proj), ("v", each.v_proj)):
            hooks.append(part.register_forward_hook(lambda _m, _i, x, n=name: kept[n].append(x)))
        hooks.append(each.out_proj.register_forward_pre_hook(lambda _m, i: kept["o"].append(i[0])))
    score = model(**inputs).logits_per_image[sample, sample]
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(score, kept["o"])
    if tower == "vision_model":
        read, words = 0, range(1, kept["q"][0].shape[1])
    else:
        read = int(inputs["input_ids"][sample].argmax())
        words = range(read + 1)
    total = torch.zeros(kept["q"][0].shape[1])
    for q, k, v, o in zip(kept["q"], kept["k"], kept["v"], gradients, strict=True):
        w = o[sample, read]
        alike = {i: F.cosine_similarity(q[sample, read], k[sample, i], dim=0) for i in words}
        low, high = min(alike.values()), max(alike.values())
        for i in words:
            total[i] += ((alike[i] - low) / (high - low) * w * v[sample, i]).sum().detach()
    return total.clamp(min=0)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_published_formula(implementation: str, layers: int) -> None:
    model, inputs = architecture("clip", implementation)
    e = fxplain.explain(
        model, inputs, [0, 1], "grad_eclip", output="logits_per_image", layers=layers
    )
    for tower, name in (("vision_model", "pixel_values"), ("text_model", "input_ids")):
        for sample in (0, 1):
            want = transcribed(model, inputs, tower, sample, layers)
            assert want.max() > 1e-4
            torch.testing.assert_close(e.relevance[name][sample], want, rtol=1e-4, atol=1e-6)


def test_matrices_are_there() -> None:
    model, inputs = architecture("clip")
    e = fxplain.explain(model, inputs, [0, 1], "grad_eclip", output="logits_per_image")
    row = e.matrix("pixel_values", "pixel_values")[:, 0]
    torch.testing.assert_close(row, e.relevance["pixel_values"])


def test_torch_attention() -> None:
    """Heads folded into the batch, scores by baddbmm or fused."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.cls = nn.Embedding(9, 8), nn.Parameter(torch.randn(1, 1, 8))
            self.attention, self.head = layer.self_attn, nn.Linear(8, 2)

        def forward(self, ids: Tensor, *, needed: bool = True) -> Tensor:
            x = torch.cat([self.cls.expand(len(ids), -1, -1), self.words(ids)], 1)
            return self.head((x + self.attention(x, x, x, need_weights=needed)[0])[:, 0])

    model, ids = Tower().eval(), torch.randint(9, (2, 5))
    fused = fxplain.explain(model, {"ids": ids, "needed": False}, 1, "grad_eclip")
    written_out = fxplain.explain(model, {"ids": ids, "needed": True}, 1, "grad_eclip")
    assert fused.relevance["ids"].max() > 1e-3
    torch.testing.assert_close(fused.relevance["ids"], written_out.relevance["ids"])


class TwoScores(nn.Module):
    """Scores of content and of places, both of which queries ask."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(9, 8), nn.Parameter(torch.randn(5, 8))
        self.q, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        q = self.q(x)
        scores = q @ x.transpose(-1, -2) + q @ self.places.T
        return self.head((x + scores.softmax(-1) @ x)[:, 0])


def test_scores_of_two_products_are_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(MethodError, match="grad_eclip needs the queries and keys"):
        fxplain.explain(TwoScores().eval(), (torch.randint(9, (2, 5)),), 0, "grad_eclip")
