"""Noisy linear imputation (ROAD) against the paper's linear system, solved densely."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.errors import EvaluationError
from fxplain.removal import imputation
from fxplain.removal.imputation import imputed


def solved(picture: Tensor, missing: Tensor) -> Tensor:
    """One channel: each missing pixel is the weighted mean of its neighbours, pixel by pixel."""
    rows, columns = picture.shape
    places = [tuple(p) for p in missing.nonzero().tolist()]
    number = {place: i for i, place in enumerate(places)}
    A, b = torch.zeros(len(places), len(places)).double(), torch.zeros(len(places)).double()
    for (r, c), i in number.items():
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                at = (r + dr, c + dc)
                if (dr, dc) == (0, 0) or not (0 <= at[0] < rows and 0 <= at[1] < columns):
                    continue
                weight = 1 / 6 if 0 in (dr, dc) else 1 / 12
                A[i, i] += weight
                if at in number:
                    A[i, number[at]] -= weight
                else:
                    b[i] += weight * picture[at].double()
    found = picture.double().clone()
    found[missing] = torch.linalg.solve(A, b)
    return found


def test_the_paper_s_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "NOISE", 0.0)
    torch.manual_seed(0)
    pictures, missing = torch.randn(3, 2, 9, 7), torch.rand(3, 9, 7) < 0.6
    missing[1, :6] = True  # a large hole at the edge
    found = imputed(pictures, missing)
    for n in range(3):
        for channel in range(2):
            want = solved(pictures[n, channel], missing[n])
            torch.testing.assert_close(found[n, channel].double(), want, rtol=1e-3, atol=1e-3)


def test_what_is_left_stays_and_noise_is_small() -> None:
    torch.manual_seed(0)
    pictures, missing = torch.randn(2, 3, 8, 8), torch.rand(2, 8, 8) < 0.5
    missing[1] = True
    found, again = imputed(pictures, missing), imputed(pictures, missing)
    assert torch.equal(found, again)
    kept = ~missing.unsqueeze(1).expand_as(found)
    assert torch.equal(found[kept], pictures[kept])
    mean = pictures[1].mean((1, 2), keepdim=True)
    assert (found[1] - mean).abs().max() < 0.1
    assert (found[1] - mean).std() > 1e-3


class Patches(nn.Module):
    """Four by four patches of an image, mixed by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 8, 2, stride=2), nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = x + nn.functional.scaled_dot_product_attention(x, x, x)
        return self.head(x.mean(1))


def test_an_evaluation_removes_by_it() -> None:
    torch.manual_seed(0)
    model, images = Patches().eval(), torch.randn(3, 3, 8, 8)
    found = fxplain.evaluate(
        model, [{"image": images}], methods="generic", metrics="deletion", removal="road"
    )
    assert found.settings["removal"]["image"].startswith("road: ")
    alone = fxplain.evaluate(
        model,
        [{"image": image[None]} for image in images],
        methods="generic",
        metrics="deletion",
        removal="road",
    )
    for key, values in found.samples.items():
        if key.method == "generic":
            torch.testing.assert_close(values, alone.samples[key], rtol=1e-4, atol=1e-5)


def test_words_have_no_pixels() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(9, 8), nn.Linear(8, 3)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.words(ids)
            x = x + nn.functional.scaled_dot_product_attention(x, x, x)
            return self.head(x.mean(1))

    with pytest.raises(EvaluationError, match="'road' is for regions"):
        fxplain.evaluate(
            Words().eval(), [torch.randint(9, (2, 5))], methods="generic", removal="road"
        )
