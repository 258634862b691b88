"""An argument is one modality in what users read, however often the model embeds or cuts it."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import Attention, Block, seeded

WIDTH, VOCABULARY = 16, 30


def words(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def pixels(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Encoder(nn.Module):
    """One encoder, read at its first word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.head = nn.Embedding(VOCABULARY, 16), Block(), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.block(self.words(input_ids))[:, 0])


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Encoder(), Encoder()

    def forward(self, input_ids: Tensor) -> Tensor:
        return torch.cat([self.one(input_ids), self.other(input_ids)], -1)


class Reversed(Ensemble):
    """The other encoder reads the text backwards: from its last word."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return torch.cat([self.one(input_ids), self.other(input_ids.flip(1))], -1)


def score(output: Tensor) -> Tensor:
    return output[:, 1] + output[:, 4]


@pytest.mark.parametrize("engine", ["rows", "matrices"])
def test_embeddings_of_one_position_add_up(engine) -> None:
    model, ids = seeded(Ensemble), words(2, 5)
    both = fxplain.explain(model, (ids,), target=score, engine=engine)
    apart = [
        fxplain.explain(part, (ids,), target=1).relevance["input_ids"]
        for part in (model.one, model.other)
    ]
    assert list(both.relevance) == ["input_ids"]
    assert both.graph.modalities == {"input_ids": 5}
    assert torch.allclose(both.relevance["input_ids"], apart[0] + apart[1], atol=1e-5)
    assert not any("several ways" in warning for warning in both.graph.warnings)


def test_positions_are_the_argument_s_own_wherever_it_is_moved() -> None:
    model, ids = seeded(Reversed), words(2, 5)
    both = fxplain.explain(model, (ids,), target=score).relevance["input_ids"]
    one = fxplain.explain(model.one, (ids,), target=1).relevance["input_ids"]
    other = fxplain.explain(model.other, (ids.flip(1),), target=1).relevance["input_ids"]
    assert torch.allclose(both, one + other.flip(1), atol=1e-5)


def test_matrix_rows_at_the_readout_are_the_relevance() -> None:
    e = fxplain.explain(seeded(Ensemble), (words(2, 5),), target=score)
    assert e.readout == ("input_ids[0]",) * 2
    row = e.matrix("input_ids", "input_ids")[:, 0]
    assert torch.allclose(row, e.relevance["input_ids"], atol=1e-5)


class InChunks(nn.Module):
    """Chunks that are embedded and encoded one by one, the last one first."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.head = nn.Embedding(VOCABULARY, 16), Block(), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        chunks = [input_ids[:, i : i + 4] for i in (8, 4, 0)]
        return self.head(torch.stack([self.block(self.words(c)).mean(1) for c in chunks]).mean(0))


def test_chunks_stand_in_the_order_of_their_positions() -> None:
    ids = words(2, 12)
    model = seeded(InChunks)
    e = fxplain.explain(model, (ids,), target=1)
    assert {name: tuple(v.shape) for name, v in e.relevance.items()} == {"input_ids": (2, 12)}
    assert e.labels["input_ids"][1] == [str(i) for i in ids[1].tolist()]
    other = ids.clone()
    other[:, 8:] = words(2, 4, seed=3)
    moved = fxplain.explain(model, (other,), target=1)
    before, after = e.relevance["input_ids"], moved.relevance["input_ids"]
    assert torch.allclose(before[:, :8], after[:, :8], atol=1e-6)
    assert not torch.allclose(before[:, 8:], after[:, 8:], atol=1e-4)


class Derived(nn.Module):
    """A decoder that reads the encoder's words, one place later, behind a word of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.encoder, self.decoder, self.cross = Block(), Block(), Attention()

    def forward(self, input_ids: Tensor) -> Tensor:
        source = self.encoder(self.words(input_ids))
        shifted = torch.cat([torch.ones_like(input_ids[:, :1]), input_ids[:, :-1]], 1)
        x = self.decoder(self.words(shifted))
        return self.head((x + self.cross(x, source))[:, -1])


def test_what_the_model_adds_to_the_words_is_at_none_of_their_positions() -> None:
    e = fxplain.explain(seeded(Derived), (words(2, 5),), target=1)
    assert e.graph.modalities == {"input_ids": 5, "input_ids@added": 1}
    assert [node.kind for node in e.graph.nodes] == ["self", "self", "encoder-decoder"]
    assert e.readout == ("input_ids[3]",) * 2  # the decoder's last word, which is the fourth
    row = e.matrix("input_ids", "input_ids")[:, 3]
    assert torch.allclose(row, e.relevance["input_ids"], atol=1e-5)


class Joined(nn.Module):
    """Two texts in one sequence, joined before they are embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.head = nn.Embedding(VOCABULARY, 16), Block(), nn.Linear(16, 3)

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        return self.head(self.block(self.words(torch.cat([question, answer], 1)))[:, -1])


def test_arguments_that_are_joined_before_they_are_embedded_stay_two() -> None:
    question, answer = words(2, 3), words(2, 4, seed=1)
    e = fxplain.explain(seeded(Joined), (question, answer), target=1)
    assert e.graph.modalities == {"question": 3, "answer": 4}
    assert e.readout == ("answer[3]",) * 2
    assert e.labels["answer"][0] == [str(i) for i in answer[0].tolist()]
    assert [node.kind for node in e.graph.nodes] == ["self"]


class Frames(nn.Module):
    """A video whose frames are cut into patches one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.block = Block()

    def forward(self, video: Tensor) -> Tensor:
        frames = [self.patches(frame).flatten(2).mT for frame in video.unbind(1)]
        return self.head(torch.stack([self.block(f).mean(1) for f in frames]).mean(0))


def test_frames_are_one_video() -> None:
    e = fxplain.explain(seeded(Frames), (pixels(2, 3, 3, 8, 8),), target=1)
    assert e.graph.modalities == {"video": 3 * 4}
    assert e.grids["video"] == (3, 2, 2)


class TwoSizes(nn.Module):
    """Large and small patches of one image, each with an encoder."""

    def __init__(self, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.patches = nn.ModuleList(nn.Conv2d(3, 16, size, size) for size in sizes)
        self.blocks, self.head = nn.ModuleList([Block(), Block()]), nn.Linear(32, 3)

    def forward(self, image: Tensor) -> Tensor:
        parts = zip(self.patches, self.blocks, strict=True)
        return self.head(torch.cat([b(p(image).flatten(2).mT).mean(1) for p, b in parts], -1))


def test_patches_of_one_size_add_up() -> None:
    e = fxplain.explain(seeded(TwoSizes, sizes=(4, 4)), (pixels(2, 3, 8, 8),), target=1)
    assert e.graph.modalities == {"image": 4}
    assert e.grids["image"] == (2, 2)


def test_patches_of_other_sizes_stay_apart_and_are_named() -> None:
    e = fxplain.explain(seeded(TwoSizes, sizes=(2, 4)), (pixels(2, 3, 8, 8),), target=1)
    assert e.graph.modalities == {"image": 16, "image@patches.1": 4}
    assert e.grids["image@patches.1"] == (2, 2)
    said = [warning for warning in e.graph.warnings if "several ways" in warning]
    assert len(said) == 1
    assert "image, image@patches.1" in said[0]


# -- learned tokens that stand in an argument's sequence ------------------------------------------


class Factorised(nn.Module):
    """Each frame's class token, then those of all frames with one of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.of_frame, self.of_video = (nn.Parameter(torch.randn(1, 1, 16)) for _ in range(2))
        self.space, self.time = Block(), Block()

    def forward(self, video: Tensor) -> Tensor:
        batch, frames = video.shape[:2]
        x = self.patches(video.flatten(0, 1)).flatten(2).mT
        x = torch.cat([self.of_frame.expand(batch * frames, -1, -1), x], 1)
        x = self.space(x)[:, 0].unflatten(0, (batch, frames))
        x = torch.cat([self.of_video.expand(batch, -1, -1), x], 1)
        return self.head(self.time(x)[:, 0])


def test_a_class_token_among_class_tokens_is_the_video_s() -> None:
    e = fxplain.explain(seeded(Factorised), (pixels(2, 3, 3, 8, 8),), target=1)
    assert e.graph.modalities == {"video": 1 + 3 * (1 + 4)}
    assert list(e.special["video"].values()) == ["of_video", *["of_frame"] * 3]
    assert e.readout == ("video[0]",) * 2


class Merged(nn.Module):
    """A class token that joins patches which a convolution has merged after they attended."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.merge = nn.Conv2d(3, 16, 2, 2), nn.Conv2d(16, 16, 2, 2)
        self.token, self.head = nn.Parameter(torch.randn(1, 1, 16)), nn.Linear(16, 3)
        self.first, self.second = Block(), Block()

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(self.patches(image).flatten(2).mT).mT.unflatten(-1, (4, 4))
        x = self.merge(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.head(self.second(x)[:, 0])


def test_a_class_token_among_merged_patches_is_the_image_s() -> None:
    e = fxplain.explain(seeded(Merged), (pixels(2, 3, 8, 8),), target=1)
    assert e.graph.modalities == {"image": 16 + 1}
    assert list(e.special["image"].values()) == ["token"]
    assert e.readout[0].startswith("image[")


class MeanFirst(nn.Module):
    """The mean of the patches is put beside them, and reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.attention = Attention()

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        x = torch.cat([x.mean(1, keepdim=True), x], 1)
        return self.head(self.attention(x[:, :1], x)[:, 0])


def test_a_mean_beside_what_it_is_the_mean_of_is_no_modality() -> None:
    e = fxplain.explain(seeded(MeanFirst), (pixels(2, 3, 8, 8),), target=1)
    assert e.graph.modalities == {"image": 4}
    assert [node.kind for node in e.graph.nodes] == ["self"]
    assert e.readout == ("mean of image[0..3]",) * 2


class Running(nn.Module):
    """Each word but the first with the mean of those up to it, row by row, before they attend."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.attention = nn.Embedding(VOCABULARY, 16), Block()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        rows = [x[:, 0], *(x[:, i] + x[:, : i + 1].mean(1) for i in range(1, x.shape[1]))]
        return self.attention(torch.stack(rows, 1))


def test_a_word_that_is_added_to_a_mean_it_is_in_is_that_word() -> None:
    e = fxplain.explain(seeded(Running), (words(2, 4),), target=(2, 1))
    assert e.graph.modalities == {"ids": 4}
    assert not e.graph.routes
    assert e.readout == ("ids[2]",) * 2


# -- what a readout names -------------------------------------------------------------------------


class Captioned(nn.Module):
    """Patches, merged by four after they attended, stand among the words."""

    def __init__(self, *, mean: bool) -> None:
        super().__init__()
        self.mean = mean
        self.words, self.patches = nn.Embedding(VOCABULARY, 16), nn.Conv2d(3, 16, 2, 2)
        self.vision, self.text, self.merge = Block(), Block(), nn.Linear(64, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        x = self.vision(self.patches(image).flatten(2).mT)
        x = self.merge(x.unflatten(1, (-1, 4)).flatten(2))
        x = self.head(self.text(torch.cat([x, self.words(ids)], 1)))
        return x.mean(1) if self.mean else x


def test_readouts_name_merged_tokens_beside_others() -> None:
    inputs = (words(2, 3), pixels(2, 3, 8, 8))
    graph = fxplain.inspect(seeded(Captioned, mean=False), inputs)
    assert graph.modalities == {"ids": 3, "image": 16}
    assert graph.readout == "each of ids[0..2], linear of image[0..15]"
    e = fxplain.explain(seeded(Captioned, mean=True), inputs, target=1)
    assert e.readout == ("mean of ids[0..2], 4 tokens made of image",) * 2


def test_means_of_means_are_means() -> None:
    class Averaged(Ensemble):
        def forward(self, input_ids: Tensor) -> Tensor:
            parts = [p.block(p.words(input_ids)).mean(1) for p in (self.one, self.other)]
            return self.one.head(torch.stack(parts).mean(0))

    e = fxplain.explain(seeded(Averaged), (words(2, 5),), target=1)
    assert e.readout == ("mean of input_ids[0..4]",) * 2


class TwoHeads(Merged):
    """The scores of two tokens' heads are averaged."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(self.patches(image).flatten(2).mT)
        return (self.head(x[:, 0]) + self.head(x[:, 3])) / 2


def test_scores_of_two_tokens_that_are_added_are_read_from_both() -> None:
    e = fxplain.explain(seeded(TwoHeads), (pixels(2, 3, 8, 8),), target=1)
    assert e.readout == ("image[0] and image[3]",) * 2
    assert not e.graph.warnings
    matrix = e.matrix("image", "image")
    assert torch.allclose(matrix[:, 0] + matrix[:, 3], e.relevance["image"], atol=1e-5)


class Placed(nn.Module):
    """Patches whose places are counted from the mask of the pixels that are real (Idefics)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(3, WIDTH, 2, 2), nn.Embedding(4, WIDTH)
        self.block, self.head = Block(), nn.Linear(WIDTH, 3)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Tensor:
        shown = (pixel_values != 0).flatten(1).any(1)[:, None, None]
        real = (pixel_mask.unfold(1, 2, 2).unfold(2, 2, 2).sum((-1, -2)) > 0) & shown
        rows = real[:, :, 0].sum(1)
        at = torch.bucketize(torch.arange(2) / rows[:, None], torch.tensor([0.5]), right=True)
        places = torch.where(real, at[:, :, None] * 2 + torch.arange(2), 0)
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        return self.head(self.block(x + self.places(places.flatten(1)))[:, 0])


def test_places_that_are_counted_from_a_mask_are_no_modality() -> None:
    given = {"pixel_values": torch.randn(2, 3, 4, 4), "pixel_mask": torch.ones(2, 4, 4).long()}
    e = fxplain.explain(seeded(Placed), given, target=1)
    assert e.graph.modalities == {"pixel_values": 4}
    assert e.grids["pixel_values"] == (2, 2)
