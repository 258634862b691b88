"""Which axis of a float input holds features: told by what reads it, where sizes do not tell."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import seeded

WIDTH = 8


class Reader(nn.Module):
    """Tokens that attend to one another as they are given, without an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def attend(self, x: Tensor) -> Tensor:
        return x + (self.query(x) @ self.key(x).mT / 3).softmax(-1) @ x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attend(x)[:, 0])


class Grid(Reader):
    """Features of a grid's places (batch, rows, columns, features), as a backbone returns them."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.norm, self.form = nn.LayerNorm(WIDTH), form

    def forward(self, grid: Tensor) -> Tensor:
        x = self.norm(grid) if self.form == "normed" else grid
        return super().forward(x.reshape(len(x), -1, WIDTH))


@pytest.mark.parametrize("form", ["plain", "normed"])
def test_places_of_a_grid_are_tokens(form: str) -> None:
    model, grid = seeded(Grid, form), torch.randn(2, 2, 3, WIDTH)
    e = fxplain.explain(model, (grid,), target=1)
    given = model.norm(grid) if form == "normed" else grid
    plain = seeded(Reader)
    plain.load_state_dict(model.state_dict(), strict=False)
    want = fxplain.explain(plain, (given.detach().flatten(1, 2),), target=1)
    torch.testing.assert_close(e.output, want.output)
    assert [node.kind for node in e.graph.nodes] == ["self"]
    torch.testing.assert_close(e.relevance["grid"], want.relevance["x"])


class Joints(Reader):
    """Joints of each frame (batch, frames, joints, features) attend within it."""

    def forward(self, joints: Tensor) -> Tensor:
        return self.head(self.attend(joints)[:, 0, 0])


def test_joints_of_frames_are_tokens() -> None:
    model, joints = seeded(Joints), torch.randn(2, 3, 4, WIDTH)
    e = fxplain.explain(model, (joints,), target=1)
    plain = seeded(Reader)
    plain.load_state_dict(model.state_dict())
    want = fxplain.explain(plain, (joints[:, 0],), target=1)
    assert e.relevance["joints"].shape == (2, 12)
    torch.testing.assert_close(e.relevance["joints"][:, :4], want.relevance["x"])
    assert not e.relevance["joints"][:, 4:].any()


class Series(Reader):
    """Series side by side (batch, series, time): each is cut into patches that attend."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.patch, self.form = nn.Linear(2, WIDTH), form

    def forward(self, series: Tensor) -> Tensor:
        batch, count, time = series.shape
        if self.form == "windows":
            patches = series.unfold(-1, 2, 2).reshape(batch * count, time // 2, 2)
        elif self.form == "laid out anew":
            patches = series.reshape(batch * count, time // 2, 2)
        else:  # (batch, time, series)
            patches = series.transpose(1, 2).reshape(batch * series.shape[2], -1, 2)
        x = self.attend(self.patch(patches))
        return self.head(x.unflatten(0, (batch, -1))[:, 0, -1])


@pytest.mark.parametrize("form", ["windows", "laid out anew"])
def test_patches_of_series_that_lie_side_by_side(form: str) -> None:
    series = torch.randn(2, 3, 8)
    e = fxplain.explain(seeded(Series, form), (series,), target=1)
    want = fxplain.explain(seeded(Series, "time first"), (series.transpose(1, 2),), target=1)
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.modalities == {"series": 12}
    assert [node.kind for node in e.graph.nodes] == ["self"]
    torch.testing.assert_close(e.relevance["series"][:, :4], want.relevance["series"][:, :4])


class Wave(Reader):
    """A wave of one channel (batch, 1, time), cut into frames."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.embed, self.form = nn.Linear(4, WIDTH), form

    def forward(self, wave: Tensor) -> Tensor:
        if self.form == "windows":
            return super().forward(self.embed(wave.squeeze(1).unfold(1, 4, 4)))
        return super().forward(self.embed(wave.view(len(wave), -1, 4)))


@pytest.mark.parametrize("form", ["windows", "laid out anew"])
def test_frames_of_a_wave_with_one_channel(form: str) -> None:
    model, wave = seeded(Wave, form), torch.randn(2, 1, 20)
    e = fxplain.explain(model, (wave,), target=1)
    plain = seeded(Reader)
    plain.load_state_dict(model.state_dict(), strict=False)
    frames = model.embed(wave.view(2, 5, 4)).detach()
    want = fxplain.explain(plain, (frames,), target=1)
    torch.testing.assert_close(e.output, want.output)
    torch.testing.assert_close(e.relevance["wave"], want.relevance["x"])


class Film(Reader):
    """Two frames of three colours, cut into patches of space or of space and time."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.space, self.time = nn.Conv2d(3, WIDTH, 4, 4), nn.Conv3d(3, WIDTH, (1, 4, 4), (1, 4, 4))

    def forward(self, film: Tensor) -> Tensor:
        if self.form == "colours first":
            x = self.time(film)
        elif self.form == "turned":
            x = self.time(film.transpose(1, 2))
        else:
            x = self.space(torch.cat(film.unbind(1))).unflatten(0, (-1, len(film)))
            x = x.permute(1, 2, 0, 3, 4)
        return super().forward(x.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("form", ["colours first", "turned", "one by one"])
def test_fewer_frames_than_colours(form: str) -> None:
    model = seeded(Film, form)
    model.time.weight.data = model.space.weight.data[:, :, None]
    model.time.bias.data = model.space.bias.data
    film = torch.randn(2, 2, 3, 8, 12)
    given = film.transpose(1, 2).contiguous() if form == "colours first" else film
    e = fxplain.explain(model, (given,), target=1)
    assert e.graph.warnings == ()
    assert e.relevance["film"].shape == (2, 12)
    plain = seeded(Reader)
    plain.load_state_dict(model.state_dict(), strict=False)
    patches = torch.stack([model.space(frame) for frame in film.unbind(1)], 2).flatten(2).mT
    want = fxplain.explain(plain, (patches.detach(),), target=1)
    torch.testing.assert_close(e.relevance["film"], want.relevance["x"], rtol=1e-5, atol=1e-7)


class Stacked(Reader):
    """Frames that are stacked as a convolution's channels: a patch is of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(6, WIDTH, 4, 4)

    def forward(self, film: Tensor) -> Tensor:
        return super().forward(self.embed(film.flatten(1, 2)).flatten(2).transpose(1, 2))


def test_frames_stacked_as_channels() -> None:
    model, film = seeded(Stacked), torch.randn(2, 2, 3, 8, 12)
    e = fxplain.explain(model, (film,), target=1)
    assert (e.graph.warnings, e.relevance["film"].shape) == ((), (2, 6))
    plain = seeded(Reader)
    plain.load_state_dict(model.state_dict(), strict=False)
    patches = model.embed(film.flatten(1, 2)).flatten(2).mT.detach()
    want = fxplain.explain(plain, (patches,), target=1)
    torch.testing.assert_close(e.relevance["film"], want.relevance["x"], rtol=1e-5, atol=1e-7)
