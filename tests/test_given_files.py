"""What people have: pictures and recordings of all kinds, long texts, torn checkpoints."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fxplain
from fxplain.pipelines.media import open_image, open_recording
from tests import small_pretrained

Image = pytest.importorskip("PIL.Image")
wavfile = pytest.importorskip("scipy.io.wavfile")
LONG = "the movie was great " * 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def pixels_of(value):
    return np.asarray(open_image(value))


# ---- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_people_see_it(tmp_path, orientation):
    plain = small_pretrained.picture(8, 12)
    ways = {
        1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1],
        5: plain.transpose(1, 0, 2), 6: np.rot90(plain, -1),
        7: np.rot90(plain, 2).transpose(1, 0, 2), 8: np.rot90(plain),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(plain).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels_of(tmp_path / "turned.png"), ways[orientation])
    np.testing.assert_array_equal(pixels_of(Image.open(tmp_path / "turned.png")), ways[orientation])


def test_sixteen_bits_are_scaled(tmp_path):
    plain = small_pretrained.picture(8, 12)[..., 0]
    deep = plain.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "wide.tif")
    held = {"bytes": (tmp_path / "deep.png").read_bytes(), "path": "elsewhere.png"}
    named = {"bytes": None, "path": str(tmp_path / "deep.png")}
    files = [tmp_path / "deep.png", tmp_path / "deep.tif", tmp_path / "wide.tif"]
    for value in (*files, held["bytes"], held, named, deep):
        np.testing.assert_array_equal(pixels_of(value)[..., 0], plain)
    Image.fromarray(plain / np.float32(255)).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(pixels_of(tmp_path / "float.tif")[..., 0], plain)
    np.testing.assert_array_equal(pixels_of(plain > 127)[..., 0], np.where(plain > 127, 255, 0))


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr", "HSV", "P", "1", "L", "LA", "RGBA"])
def test_every_mode_is_a_picture(tmp_path, mode):
    image = Image.fromarray(small_pretrained.picture(8, 12))
    made = Image.new("LAB", image.size) if mode == "LAB" else image.convert(mode)
    assert open_image(made).size == image.size


def test_pictures_that_are_none(tmp_path, monkeypatch):
    whole = tmp_path / "whole.png"
    Image.fromarray(small_pretrained.picture(64, 64)).save(whole)
    cut, text = tmp_path / "cut.png", tmp_path / "text.png"
    cut.write_bytes(whole.read_bytes()[:2000])
    text.write_text("no picture")
    for path in (cut, text, tmp_path / "missing.png", tmp_path):
        with pytest.raises(fxplain.LoadError, match=path.name):
            open_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(fxplain.LoadError, match=r"whole\.png.*bomb"):
        open_image(whole)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3), np.uint8), "no pixels"),
        (np.full((4, 4), 300), "from 0 to 255"),
        (np.full((4, 4), -1), "from 0 to 255"),
        (np.full((4, 4), np.nan), "from 0 to 1"),
        (np.full((4, 4), "a"), "numbers"),
        (np.zeros((4, 4), complex), "numbers"),
        (torch.zeros(2, 2, 2, 2), "no image"),
        (Image.new("RGB", (0, 4)), "nothing to show"),
        (3.0, "not a float"),
    ],
)
def test_arrays_that_are_no_picture(value, message):
    with pytest.raises(fxplain.InputError, match=message):
        open_image(value)


# ---- recordings ---------------------------------------------------------------------------------


def test_recordings_of_every_depth(tmp_path):
    tone = small_pretrained.recording(0.1)
    depths = {
        "float32": tone, "float64": tone.astype(np.float64), "int16": (tone * 32767).astype(np.int16),
        "int32": (tone * 2147483000).astype(np.int32), "uint8": (tone * 127 + 128).astype(np.uint8),
        "stereo": np.stack([tone, tone], 1),
    }  # fmt: skip
    for name, samples in depths.items():
        wavfile.write(tmp_path / f"{name}.wav", 16_000, samples)
        found = open_recording(tmp_path / f"{name}.wav", 16_000)
        np.testing.assert_allclose(found, tone, atol=0.02)
        held = {"bytes": (tmp_path / f"{name}.wav").read_bytes(), "path": None}
        np.testing.assert_array_equal(open_recording(held, 16_000), found)


@pytest.mark.filterwarnings("ignore")
def test_recordings_that_are_none(tmp_path):
    whole = tmp_path / "whole.wav"
    wavfile.write(whole, 16_000, small_pretrained.recording(0.1))
    raw = whole.read_bytes()
    silent, no_rate, law = (tmp_path / f"{name}.wav" for name in ("silent", "no_rate", "law"))
    wavfile.write(silent, 16_000, np.zeros(0, np.float32))
    no_rate.write_bytes(raw[:24] + bytes(4) + raw[28:])
    law.write_bytes(raw[:20] + b"\x06\x00" + raw[22:])
    cuts = [tmp_path / f"cut{size}.wav" for size in (0, 3, 11, 20, 30, 43)]
    for path in cuts:
        path.write_bytes(raw[: int(path.stem[3:])])
    for path in (silent, no_rate, law, *cuts, tmp_path / "missing.wav", tmp_path):
        with pytest.raises(fxplain.LoadError, match=path.name):
            open_recording(path, 16_000)
    both = tmp_path / "both.wav"
    wavfile.write(both, 16_000, np.zeros((50, 2), np.int16))
    both.write_bytes(both.read_bytes()[:-3])
    with pytest.raises(fxplain.LoadError, match="cut off: 3 bytes"):
        open_recording(both, 16_000)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"array": np.zeros(4), "sampling_rate": 0}, "sampling_rate=0 must"),
        ({"array": np.zeros(4), "sampling_rate": "high"}, "sampling_rate='high' must"),
        ({"array": np.zeros(4)}, "'sampling_rate'"),
        (np.zeros(0), "no recording"),
        (np.zeros((2, 4)), "no recording"),
        (np.full(4, np.nan), "NaN"),
        (np.full(4, "a"), "numbers"),
    ],
)
def test_arrays_that_are_no_recording(value, message):
    with pytest.raises(fxplain.InputError, match=message):
        open_recording(value, 16_000)


# ---- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["classifier", "reader", "gpt2"])
def test_a_text_that_is_too_long_is_named_or_cut(root, name):
    explainer = fxplain.from_pretrained(small_pretrained.save(name, root))
    limit = explainer.model.config.max_position_embeddings
    given = {"text": LONG} if name != "reader" else {"text": "who ?", "pair": LONG}
    with pytest.raises(fxplain.InputError, match=f"{limit} at most.*truncation=True"):
        explainer(**given)
    cut = explainer(**given, truncation=True)
    assert cut.relevance["input_ids"].shape[1] == limit
    with pytest.raises(fxplain.InputError, match="itself fails"):
        explainer(**given, truncation=False)
    with pytest.raises(fxplain.InputError, match="truncation='longest' must be True or False"):
        explainer(**given, truncation="longest")


def test_a_text_that_is_cut_leaves_room_for_what_is_written(root):
    explainer = fxplain.from_pretrained(small_pretrained.save("gpt2", root))
    limit = explainer.model.config.max_position_embeddings
    written = explainer.generate(LONG, truncation=True, max_new_tokens=3, min_new_tokens=3)
    assert written.explanations[0].inputs["input_ids"].shape[1] == limit
    with pytest.raises(
        fxplain.InputError, match=f"{limit} tokens.*{limit + 8} more.*max_new_tokens"
    ):
        explainer.generate("the movie", max_new_tokens=limit + 8, min_new_tokens=limit + 8)


# ---- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_that_lacks_a_layer_is_refused(root, tmp_path):
    shutil.copytree(small_pretrained.save("classifier", root), tmp_path / "torn")
    file = tmp_path / "torn" / "model.safetensors"
    weights = load_file(file)
    kept = {name: value for name, value in weights.items() if "layer.0.output" not in name}
    assert len(kept) < len(weights)
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(fxplain.LoadError, match=r"lacks weights.*layer\.0\.output"):
        fxplain.from_pretrained(tmp_path / "torn")
