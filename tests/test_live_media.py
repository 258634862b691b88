"""The live page: recordings and videos, and files that are none or too much."""

import base64
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile
from starlette.testclient import TestClient

import fxplain
from fxplain.errors import InputError
from fxplain.serving import Desk, Limits, create_app
from fxplain.serving.received import Receiver
from tests import small_pretrained

HOST = "http://localhost"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def url_of(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def picture(seed: int = 0, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(small_pretrained.picture(seed=seed)).save(file, form, **options)
    return file.getvalue()


SOUND = np.round(small_pretrained.recording() * 20_000).astype(np.int16)


def test_a_recording(root: Path) -> None:
    explainer = fxplain.from_pretrained(small_pretrained.save("wav2vec2", root))
    client = TestClient(create_app(Desk(explainer)), base_url=HOST)
    assert 'id="audio"' in client.get("/").text
    told = client.post("/explain", json={"audio": url_of(wav(SOUND), "audio/wav")}).json()
    e = explainer(audio=SOUND / np.float32(32768), method="generic")
    (heard,) = told["modalities"]
    want = e.beyond_identity()["input_values"][0]
    assert heard["kind"] == "moments"
    assert told["answer"]["score"] == pytest.approx(float(e.scores[0]), abs=1e-5)
    assert [u["relevance"] for u in heard["units"]] == pytest.approx(want.tolist(), abs=1e-5)
    assert heard["units"][1]["text"] == "0.02 to 0.04 s"  # half a second in 25 tokens
    assert heard["looks"]["strip"].startswith("data:image/")
    sound = heard["looks"]["sound"]
    assert (sound["seconds"], sound["shown"]) == (0.5, 0.5)
    played = base64.b64decode(sound["url"].partition(",")[2])
    np.testing.assert_allclose(wavfile.read(io.BytesIO(played))[1], SOUND, atol=2)
    struck = {"id": told["id"], "tokens": {"input_values": heard["units"][3]["tokens"]}}
    after = client.post("/cut", json=struck).json()
    want = e.intervene(fxplain.Cut.tokens("input_values", 3))
    assert after["answer"]["score"] == pytest.approx(float(want.scores[0, 0]), abs=1e-5)
    assert "fxplain.Cut.tokens('input_values', [3])" in after["snippet"]
    compile(after["snippet"], "snippet", "exec")


@pytest.mark.slow
def test_what_is_written_of_a_recording(root: Path) -> None:
    explainer = fxplain.from_pretrained(small_pretrained.save("whisper", root))
    client = TestClient(create_app(Desk(explainer)), base_url=HOST)
    asked = {"audio": url_of(wav(SOUND), "audio/wav"), "tokens": 2}
    told = client.post("/write", json=asked).json()
    assert "sound" in told["looks"]["input_features"]
    one = told["tokens"][0]["modalities"][0]
    # 50 tokens are more than can be chosen one by one: moments are two of them each
    assert (one["kind"], len(one["units"]), one["units"][0]["tokens"]) == ("moments", 25, [0, 1])
    assert one["units"][0]["text"] == "0.00 to 0.04 s"
    assert "looks" not in one  # the recording is sent once, not with each token


def test_a_video(root: Path) -> None:
    explainer = fxplain.from_pretrained(small_pretrained.save("videomae", root))
    client = TestClient(create_app(Desk(explainer)), base_url=HOST)
    frames = [small_pretrained.picture(seed=i) for i in range(4)]
    sent = {"frames": [url_of(picture(i), "image/png") for i in range(4)], "seconds": 2.0}
    told = client.post("/explain", json={"video": sent}).json()
    e = explainer(video=np.stack(frames), method="generic")
    (seen,) = told["modalities"]
    want = e.beyond_identity()["pixel_values"][0]
    assert [tile["grid"] for tile in seen["pictures"]] == [[4, 4], [4, 4]]
    assert len(seen["looks"]["pictures"]) == 2
    assert [u["relevance"] for u in seen["units"]] == pytest.approx(want.tolist(), abs=1e-5)
    first, *more = map(Image.fromarray, frames)
    film = io.BytesIO()
    first.save(film, "WEBP", save_all=True, append_images=more, duration=500, lossless=True)
    animated = client.post("/explain", json={"video": url_of(film.getvalue(), "image/webp")}).json()
    assert animated["answer"]["score"] == pytest.approx(told["answer"]["score"], abs=1e-5)


def header(rate: int, samples: int = 8) -> bytes:
    """A .wav file of silence that says how fast it is."""
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    data = bytes(2 * samples)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n%%EOF\n"
PNG, WAV = url_of(picture(), "image/png"), url_of(wav(SOUND), "audio/wav")


@pytest.mark.parametrize(
    ("kind", "sent", "said"),
    [
        ("image", url_of(POSTSCRIPT, "image/png"), "cannot be read"),
        ("image", url_of(picture()[:200], "image/png"), "cannot be read"),
        ("image", "data:image/png;base64,%%%", "base64"),
        ("image", ["x"], "data URL"),
        ("image", WAV, "data URL"),
        ("image", url_of(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), "read"),
        ("audio", PNG, "data URL"),
        ("audio", url_of(picture(), "audio/wav"), "cannot be read as a .wav"),
        ("audio", url_of(b"", "audio/wav"), "cannot be read"),
        ("audio", url_of(header(1), "audio/wav"), "8 seconds; up to 4"),
        ("audio", url_of(header(9_999_991), "audio/wav"), "9999991 samples a second"),
        ("audio", url_of(header(2**31 - 1), "audio/wav"), "no sound"),
        ("audio", url_of(wav(np.full(9, np.nan, np.float32)), "audio/wav"), "NaN"),
        ("audio", "/etc/passwd", "data URL"),
        ("video", {"frames": []}, "a list"),
        ("video", {"frames": [PNG] * 21}, "21 frames; up to 20"),
        ("video", {"frames": [PNG, "file:///etc/passwd"], "seconds": "x"}, "data URL"),
        ("video", WAV, "data URL"),
        ("video", None, "nothing was given"),
        ("text", {"a": 1}, "string"),
    ],
)  # fmt: skip
def test_files_that_are_none_or_too_much(kind: str, sent: object, said: str) -> None:
    receiver = Receiver(Limits(seconds=4, frames=20, pixels=10_000), frames=2)
    with pytest.raises(InputError, match=said):
        receiver.opened(kind, sent)


def test_pictures_that_are_large_when_opened() -> None:
    """A small file may stand for many pixels, by its size or by its frames."""
    blank = Image.new("RGB", (200, 200))
    large, long = io.BytesIO(), io.BytesIO()
    blank.save(large, "PNG")
    frames = [Image.new("L", (30, 30), i) for i in range(15)]
    frames[0].save(long, "GIF", save_all=True, append_images=frames[1:])
    receiver = Receiver(Limits(frames=20, pixels=10_000), frames=2)
    with pytest.raises(InputError, match="40000 pixels; up to 10000"):
        receiver.opened("image", url_of(large.getvalue(), "image/png"))
    with pytest.raises(InputError, match="13500 pixels"):
        receiver.opened("video", url_of(long.getvalue(), "image/gif"))
    half = {"frames": [url_of(large.getvalue(), "image/png")] * 2}
    with pytest.raises(InputError, match="40000 pixels; up to 5000"):
        receiver.opened("video", half)


def test_a_photo_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    sent = url_of(picture(form="JPEG", exif=exif), "image/jpeg")
    opened = Receiver(Limits()).opened("image", sent)
    assert fxplain.pipelines.media.open_image(opened).size == (20, 30)


def test_what_is_kept_has_a_size(root: Path) -> None:
    explainer = fxplain.from_pretrained(small_pretrained.save("vit", root))
    desk = Desk(explainer, Limits(memory=4_000))  # each picture has 1,800 bytes
    names = [desk.explain({"image": PNG})["id"] for _ in range(4)]
    assert list(desk._kept) == names[-2:]
