"""Photos and recordings are shown as they were given, with what the processor did to them."""

import base64
import io
import pickle
import re
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from torch import nn

import fxplain
from fxplain.errors import LoadError, ModalityError
from fxplain.explanation.beneath import pictures_beneath
from fxplain.explanation.on_photos import OnPhoto, on_photos
from fxplain.explanation.originals import Originals, Placement
from fxplain.explanation.pictures import Picture, pictures_of
from fxplain.html.photos import photo_url
from fxplain.pipelines.encoding import encode
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded
from fxplain.reports.explanation_report import left_out
from fxplain.reports.headline import notes
from tests import small_pretrained
from tests.small_models import seeded
from tests.test_html import data_of
from tests.test_spectrograms import Patches


def photo(width: int = 120, height: int = 80) -> Image.Image:
    """Smooth colours with a block in the upper left and a stripe at the right edge."""
    down, across = np.mgrid[0:height, 0:width]
    pixels = np.stack(
        [80 + 60 * np.sin(across / 19), 90 + 60 * np.cos(down / 13), 60 + 0 * down], -1
    )
    pixels[height // 8 : height // 2, width // 8 : width // 3] = (230, 30, 30)
    pixels[:, width * 9 // 10 :] = (20, 20, 220)
    return Image.fromarray(pixels.astype(np.uint8))


class Anything(nn.Module):
    """Takes whatever a processor makes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids=None, **inputs):
        raise NotImplementedError


def placed(processor, photos, count, grid=(), inputs=None):
    """(pictures, placements) of the first sample that a processor makes of photos."""
    loaded = Loaded(Anything(), "a model", image_processor=processor)
    encoded = encode(loaded, Given(image=photos, inputs=inputs or {}))
    value = encoded.inputs["pixel_values"]
    pictures = pictures_of("pixel_values", count(value), {}, grid, encoded.inputs)
    return pictures, encoded.originals.placements("pixel_values", value, pictures, 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def seen(root):
    """What CLIP says of two texts and a photo, of which its processor crops the middle."""
    explainer = fxplain.from_pretrained(small_pretrained.save("clip", root))
    return explainer(image=photo(), text=["the cat", "the dog"])


# ---- where a picture lies -----------------------------------------------------------------------


def test_a_centre_crop_lies_in_the_middle_of_the_photo():
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    _, found = placed(hf.CLIPImageProcessorPil(**size), [photo()], lambda _: 16, (4, 4))
    assert found[0].box == pytest.approx((20 / 120, 0, 100 / 120, 1), abs=0.01)


def test_a_crop_of_a_panorama_lies_in_its_middle():
    """A hundredth of it is seen: it is compared with that part, and not with the whole made small."""
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    noise = np.random.default_rng(0).integers(0, 256, (10, 800, 3), dtype=np.uint8)
    wide = Image.fromarray(noise).resize((8000, 100))
    _, found = placed(hf.CLIPImageProcessorPil(**size), [wide], lambda _: 16, (4, 4))
    assert found[0].box == pytest.approx((3950 / 8000, 0, 4050 / 8000, 1), abs=0.002)


def test_a_resized_photo_is_seen_whole_and_of_each_sample_its_own():
    processor = small_pretrained.square_images(hf.ViTImageProcessorPil)
    for photos in ([photo()], [photo(40, 90), photo()]):
        _, found = placed(processor, photos, lambda _: 16, (4, 4))
        assert found == (Placement(0, (0.0, 0.0, 1.0, 1.0)),)


@pytest.mark.parametrize("size", [(1, 90), (90, 1), (1, 1), (2, 5), (7, 3), (20, 90)])
def test_a_photo_of_a_few_pixels_is_seen_whole(size):
    processor = small_pretrained.square_images(hf.ViTImageProcessorPil)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    _, found = placed(processor, [Image.fromarray(noise)], lambda _: 16, (4, 4))
    assert found[0].box == pytest.approx((0, 0, 1, 1), abs=0.01)


def test_a_photo_one_pixel_wide_is_cropped_and_padded():
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    column = Image.fromarray(np.full((8, 1, 3), 90, np.uint8))
    _, found = placed(hf.CLIPImageProcessorPil(**size), [column], lambda _: 16, (4, 4))
    assert found[0].box == pytest.approx((0, 3.5 / 8, 1, 4.5 / 8), abs=0.02)
    size = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    _, found = placed(hf.SamImageProcessorPil(**size), [column], lambda _: 16, (4, 4))
    assert found[0].box == pytest.approx((0, 0, 8, 1), abs=0.2)


def test_padding_lies_beyond_the_photo():
    size = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    _, found = placed(hf.SamImageProcessorPil(**size), [photo()], lambda _: 16, (4, 4))
    assert found[0].box == pytest.approx((0, 0, 1, 64 / 43), abs=0.02)


@pytest.mark.parametrize("cut", ["tiles", "padded tiles", "tiles and the whole at the end"])
def test_tiles_of_every_kind_are_put_together(cut):
    if cut == "tiles":
        processor = hf.GotOcr2ImageProcessorPil(
            crop_to_patches=True, max_patches=6, size={"height": 32, "width": 32}
        )
    elif cut == "padded tiles":
        processor = hf.LlavaNextImageProcessorPil(
            image_grid_pinpoints=[[64, 64]], size={"shortest_edge": 32},
            crop_size={"height": 32, "width": 32}, do_center_crop=False,
        )  # fmt: skip
    else:
        processor = hf.Idefics3ImageProcessorPil(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
        )
    pictures, found = placed(processor, [photo()], lambda v: 16 * v.shape[:-3].numel(), (4, 4))
    whole, *small = on_photos(pictures, found)
    assert len(whole.pictures) == len(pictures) - 1 == len(small) * (len(pictures) - 1)
    assert small[0].box == pytest.approx((0, 0, 1, 1), abs=0.01)
    rows, columns = whole.grid
    assert rows * columns == 16 * len(whole.pictures)
    first = pictures[whole.pictures[0]]
    assert whole.tokens[:4] == first.tokens[:4]  # the upper left tile's first row
    assert whole.tokens[columns : columns + 4] == first.tokens[4:8]


def test_two_photos_are_told_apart_in_one_list_of_patches():
    ids = torch.tensor([[1, *[5] * 6, 2, *[5] * 4, 3]])
    size = {"shortest_edge": 56 * 56, "longest_edge": 56 * 84}
    processor = hf.Qwen2VLImageProcessorPil(size=size)
    one, other = photo(84, 56), photo(56, 56)
    pictures, found = placed(processor, [one, other], len, (), {"input_ids": ids})
    assert [picture.grid for picture in pictures] == [(4, 6), (4, 4)]
    assert [on.photo for on in found] == [0, 1]
    assert all(on.box == pytest.approx((0, 0, 1, 1), abs=0.01) for on in found)


def test_a_processor_that_looks_at_what_it_cuts_is_found_out():
    class Cuts(hf.ViTImageProcessorPil):
        """Takes the upper left corner of every photo that is not of one brightness."""

        def __call__(self, images, **options):
            corner = [
                i.crop((0, 0, 40, 40)) if len(i.getcolors(10**6)) > 300 else i for i in images
            ]
            return super().__call__(corner, **options)

    processor = Cuts(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    _, found = placed(processor, [photo()], lambda _: 16, (4, 4))
    assert found == (None,)


def test_a_processor_that_refuses_plain_pictures_leaves_it_unknown():
    class Refuses(hf.ViTImageProcessorPil):
        def __call__(self, images, **options):
            if any(len(image.getcolors(10**6)) == 1 for image in images):
                raise ValueError("this picture is empty")
            return super().__call__(images, **options)

    processor = Refuses(size={"height": 32, "width": 32})
    _, found = placed(processor, [photo()], lambda _: 16, (4, 4))
    assert found == (None,)


# ---- tokens on a photo --------------------------------------------------------------------------


def test_crop_and_padding_are_said():
    def on(*box):
        return OnPhoto(0, box, (1, 1), (0,), (0,))

    assert on(0, 0, 1, 1).said() == ""
    assert on(0.25, 0, 0.75, 1).said() == "The processor cut 50% of the photo off."
    assert "margin around it (50% of" in on(0, -0.5, 1, 1.5).said()
    assert on(0, -0.5, 1, 1.5).frame == (0, -0.5, 1, 1.5)


def test_a_heat_map_at_the_photos_own_size(seen):
    heat = seen.photo_heat("pixel_values", mode="nearest")
    assert heat.shape == (80, 120)
    left, right = 18, 102  # some of 20 and 100 columns are the crop's, to a pixel or two
    assert not heat[:, :left].any()
    assert not heat[:, right:].any()
    patches = seen.relevance["pixel_values"][0, 1:].reshape(4, 4)
    for row in range(4):
        for column in range(4):
            at = heat[20 * row + 10, 20 + 20 * column + 10]
            assert float(at) == pytest.approx(float(patches[row, column]))


def test_a_region_is_said_in_the_photos_own_pixels(seen):
    """The crop begins at column 20, and patches are 20 pixels wide."""
    found = seen.units("pixel_values", {"block": (15, 0, 61, 40)})[0]
    patches = seen.relevance["pixel_values"][0, 1:].reshape(4, 4)
    own = float(found.relevance[found.labels.index("block")])
    assert own == pytest.approx(float(patches[:2, :2].sum()), rel=1e-5)


def test_no_photo_is_known_of_tensors():
    e = fxplain.explain(
        hf.ViTForImageClassification(hf.ViTConfig(**small_pretrained.SEEN)).eval(),
        {"pixel_values": torch.randn(1, 3, 16, 16)},
    )
    assert e.on_photos("pixel_values") == []
    with pytest.raises(ModalityError, match="no photo 0"):
        e.photo_heat("pixel_values")


def test_tiles_that_reach_over_each_other_stay_by_themselves():
    pictures = [Picture((2, 2), tuple(range(4 * i, 4 * i + 4)), 0, i, 2) for i in range(2)]
    lying = [Placement(0, (0, 0, 0.6, 1)), Placement(0, (0.4, 0, 1, 1))]
    found = on_photos(pictures, lying)
    assert [on.pictures for on in found] == [(0,), (1,)]
    assert found[0].said() == "The processor gave the model 60% of the photo here."


def test_wide_tiles_with_a_margin_are_put_together_beside_the_whole():
    pictures = [Picture((2, 2), tuple(range(4 * i, 4 * i + 4)), 0, i, 3) for i in range(3)]
    boxes = [(0, 0, 1, 1), (0, -2, 0.5, 3), (0.5, -2, 1, 3)]
    together, whole = on_photos(pictures, [Placement(0, box) for box in boxes])
    assert (together.pictures, together.grid) == ((1, 2), (2, 4))
    assert (whole.pictures, whole.said()) == ((0,), "")


@pytest.mark.parametrize("behind", [False, True])
def test_crops_as_rows_of_patches_lie_on_the_photo(behind):
    """Two crops of each of two samples; a patch's colours stand before or behind its pixels."""

    def patches(pixels):
        cut = torch.tensor(np.asarray(pixels)).float().reshape(4, 8, 4, 8, 3)
        order = (0, 2, 1, 3, 4) if behind else (0, 2, 4, 1, 3)
        return cut.permute(order).reshape(16, 192)

    photos = [photo(32, 32), Image.fromarray(np.asarray(photo(32, 32))[::-1].copy())] * 2
    value = torch.stack([patches(each) for each in photos])
    pictures = pictures_of("pixels", 32, {}, (), {"pixels": value})
    assert [picture.grid for picture in pictures] == [(4, 4)] * 2
    seen = pictures_beneath(value, pictures, 1)
    for crop, given in zip(seen, photos[2:], strict=True):
        assert torch.equal(crop, torch.tensor(np.asarray(given)).float().movedim(-1, 0))


def test_tiles_that_fill_no_rectangle_stay_by_themselves():
    pictures = [Picture((1, 1), (i,)) for i in range(3)]
    boxes = [(0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5), (0.0, 0.5, 0.5, 1.0)]
    found = on_photos(pictures, [Placement(0, box) for box in boxes])
    assert [on.pictures for on in found] == [(0,), (1,), (2,)]


# ---- displays -----------------------------------------------------------------------------------


def test_the_page_has_the_photo_in_colour_and_where_the_tokens_lie(seen):
    data = data_of(seen.to_html())
    number = [modality["name"] for modality in data["modalities"]].index("pixel_values")
    given = data["samples"][0][number]["photos"]
    picture = Image.open(io.BytesIO(base64.b64decode(given["urls"][0].partition(",")[2])))
    assert picture.size == (120, 80)
    assert picture.convert("RGB").getpixel((115, 40)) == (20, 20, 220)
    (on,) = given["placed"]
    assert (on["size"], on["shown"]) == ([120, 80], [0, 0, 1, 1])
    assert on["heat"] == pytest.approx([20 / 120, 0, 100 / 120, 1], abs=0.02)
    assert "cut 3" in on["said"]


def test_a_turned_photo_is_seen_upright(root, tmp_path):
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the right side is up
    photo(120, 80).save(file, exif=exif)
    explainer = fxplain.from_pretrained(small_pretrained.save("vit", root))
    e = explainer(image=file)
    assert e.originals.photos[0].shape == (120, 80, 3)
    assert e.photo_heat("pixel_values").shape == (120, 80)
    (axes, *_) = [a for a in e.plot().axes if a.images]
    assert axes.images[0].get_array().shape[:2] == (120, 80)


def test_print_and_comparison_tell_of_the_crop(seen):
    assert "The processor cut 3" in str(seen)
    page = fxplain.compare([seen, seen])
    url = page.partition('class="heat" src="')[2].partition('"')[0]
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert picture.size == (120, 80)


def test_boxes_lie_on_the_photo(root):
    e = fxplain.from_pretrained(small_pretrained.save("detr", root))(image=photo(96, 64))
    data = data_of(e.to_html())
    given = data["samples"][0][-1]
    assert given["photos"]["placed"][0]["size"] == [96, 64]
    assert given["boxes"]


# ---- recordings ---------------------------------------------------------------------------------


def heard(url):
    """(samples per second, samples) of a .wav file as an address."""
    with wave.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as file:
        samples = file.readframes(file.getnframes())
        return file.getframerate(), np.frombuffer(samples, "<i2") / 32767


def test_a_recording_is_played_and_its_tokens_are_told_by_seconds(root):
    explainer = fxplain.from_pretrained(small_pretrained.save("wav2vec2", root))
    sound = (0.5 * np.sin(np.arange(8000) / 9)).astype(np.float32)
    e = explainer(audio=sound)
    (view,) = data_of(e.to_html())["samples"][0]
    rate, played = heard(view["sound"]["url"])
    assert rate == 16_000
    np.testing.assert_allclose(played, sound, atol=1e-4)
    step = 0.5 / e.relevance["input_values"].shape[1]
    assert e.named_tokens("input_values")[3] == f"{3 * step:.2f}-{4 * step:.2f} s"
    assert " s" in e.top(1)[0].text


def test_written_words_are_told_by_seconds_of_the_recording(root):
    explainer = fxplain.from_pretrained(small_pretrained.save("whisper", root))
    written = explainer.generate(audio=np.zeros(16_000, np.float32), max_new_tokens=2)
    assert re.search(r"input_features \d+%: \d\.\d\d-\d\.\d\d s", str(written))
    view = data_of(written.to_html())["samples"][0][0]
    assert view["sound"]["seconds"] == 1.0


def test_a_spectrogram_has_its_recording_and_says_what_was_cut_off():
    sound = np.zeros(16_000, np.float32)
    e = replace(
        fxplain.explain(seeded(Patches), {"values": torch.rand(1, 16, 10)}, target=1),
        seconds={"values": 0.6},
        originals=Originals(sounds=(sound,), rate=16_000),
    )
    (view,) = data_of(e.to_html())["samples"][0]
    assert view["sound"]["seconds"] == 1.0
    assert view["sound"]["shown"] == 0.6
    assert "is 1.00 s long, and the model was given 0.60 s of it" in " ".join(notes(e))
    padded, whole = (" ".join(notes(replace(e, seconds={"values": s}))) for s in (1.28, 1.0))
    assert "is 1.00 s long, and the processor padded it: values is of 1.28 s" in padded
    assert "long, and" not in whole


def test_many_small_photos_are_jpegs():
    photo = np.zeros((100, 100, 3), np.uint8)
    assert photo_url(photo, 600_000).startswith("data:image/png")
    assert photo_url(photo, 20_000).startswith("data:image/jpeg")


def test_what_is_left_out_is_told_of_its_own_modality(seen):
    """A patch has the same place as the text's [SEP], and is not left out with it."""
    hidden = {e.text for e in seen.top(99, special="show") if e.special}
    told = left_out(seen, 0).removeprefix("left out: ").partition(" with ")[0]
    assert set(told.split(", ")) == hidden


def test_long_recordings_are_played_with_fewer_samples_or_not():
    from fxplain.html.sounds import wav_url

    sound = np.zeros(160_000, np.float32)
    rate, played = heard(wav_url(sound, 16_000, 200_000))
    assert (rate, len(played)) == (8_000, 80_000)
    assert wav_url(sound, 16_000, 1000) is None


# ---- files --------------------------------------------------------------------------------------


def test_a_file_and_another_process_keep_the_photo_and_where_tokens_lie(seen, tmp_path):
    seen.save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    for kept in (loaded, pickle.loads(pickle.dumps(seen))):
        assert kept.on_photos("pixel_values") == seen.on_photos("pixel_values")
        np.testing.assert_array_equal(kept.originals.photos[0], seen.originals.photos[0])
    assert "photos" in data_of(loaded.to_html())["samples"][0][-1]


def test_a_recording_is_kept_in_a_file(root, tmp_path):
    explainer = fxplain.from_pretrained(small_pretrained.save("wav2vec2", root))
    e = explainer(audio=np.linspace(-1, 1, 4000, dtype=np.float32))
    e.save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    assert loaded.originals.rate == 16_000
    np.testing.assert_allclose(loaded.originals.sounds[0], e.originals.sounds[0], atol=1e-4)


@pytest.mark.parametrize(
    ("tensors", "placed", "told"),
    [
        ({"photo/0": torch.zeros(2, 2)}, {}, "photos"),
        ({"sound/0": torch.zeros(2)}, {}, "recordings"),
        ({}, {"x": [[[0, 0, 0, 1, 1]]]}, "lie at no photo"),
    ],
)
def test_a_damaged_file_is_told(tensors, placed, told):
    from fxplain.explanation.originals import Originals

    with pytest.raises(LoadError, match=told):
        Originals.read(tensors, 0, placed)
