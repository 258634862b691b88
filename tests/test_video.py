"""Videos, and several pictures of one text: from what people have to a picture for each frame."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import fxplain
from fxplain.cli import app
from fxplain.errors import InputError, LoadError, ModalityError
from fxplain.explanation.on_photos import OnPhoto, on_photos, which
from fxplain.explanation.originals import Originals, Placement
from fxplain.explanation.pictures import Picture
from fxplain.pipelines.encoding import encode
from fxplain.pipelines.generation_tasks import ImageToText
from fxplain.pipelines.given import gather
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.registry import find_task
from fxplain.pipelines.video import Video, is_one_video, open_video
from fxplain.reports.headline import headline
from tests import small_pretrained
from tests.test_html import data_of
from tests.test_originals import photo


def film(count: int = 8, width: int = 60, height: int = 40) -> list[Image.Image]:
    """A block that moves over a photo from left to right."""
    frames = []
    for i in range(count):
        pixels = np.asarray(photo(width, height)).copy()
        pixels[30:36, i * 6 : i * 6 + 8] = 255
        frames.append(Image.fromarray(pixels))
    return frames


@pytest.fixture
def gif(tmp_path):
    first, *others = film()
    file = tmp_path / "clip.gif"
    first.save(file, save_all=True, append_images=others, duration=250)
    return file


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return fxplain.from_pretrained(small_pretrained.save("videomae", folder))


# ---- what a video is ----------------------------------------------------------------------------


def test_every_form_of_a_video_is_the_same_frames(tmp_path):
    frames = film(4)
    for i, frame in enumerate(frames):
        frame.save(tmp_path / f"{i}.png")
    expected = np.stack([np.asarray(frame) for frame in frames])
    forms = (frames, expected, torch.from_numpy(expected).permute(0, 3, 1, 2), tmp_path)
    for form in forms:
        assert is_one_video(form)
        np.testing.assert_array_equal(open_video(form).frames, expected)


def test_an_animation_is_read_evenly_with_its_length(gif):
    video = open_video(gif, 4)
    assert (video.frames.shape, video.seconds) == ((4, 40, 60, 3), 2.0)
    whole = open_video(gif).frames
    np.testing.assert_array_equal(video.frames, whole[[1, 3, 5, 7]])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros((4, 4, 3)), "no video"),
        ([], "not nothing"),
        (7, "a int"),
        ([np.zeros((4, 4)), np.zeros((5, 4))], "of one size"),
    ],
)
def test_what_is_no_video_is_refused(value, told):
    with pytest.raises(InputError, match=told):
        open_video(value)


def test_a_file_that_is_no_video_is_told(tmp_path):
    (tmp_path / "broken.gif").write_text("no")
    with pytest.raises(LoadError, match="cannot be read as a video"):
        open_video(tmp_path / "broken.gif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoadError, match="no images"):
        open_video(tmp_path / "empty")


def test_several_videos_are_told_from_one():
    array = np.zeros((2, 4, 4, 3), np.uint8)
    assert is_one_video([array[0], array[1]])
    assert not is_one_video([array, array])
    assert not is_one_video(["one.mp4", "two.mp4"])
    assert is_one_video(["0.png", "1.png"])


# ---- a classifier of videos ---------------------------------------------------------------------


def test_a_video_has_a_picture_for_each_frame_and_time(explainer, gif):
    assert explainer.task.name == "video-classification"
    e = explainer(gif)
    assert e.grids["pixel_values"] == (2, 4, 4)  # two frames make one patch
    assert [on.frame_number for on in e.on_photos("pixel_values")] == [0, 1]
    assert [on.photo for on in e.on_photos("pixel_values")] == [0, 2]
    timeline = e.timeline("pixel_values", beyond_identity=True)
    assert timeline.edges.tolist() == [0, 1, 2]
    by_frame = e.beyond_identity()["pixel_values"][0].reshape(2, 16).sum(1)
    torch.testing.assert_close(timeline.relevance[0], by_frame)
    names = [tile["name"] for tile in data_of(e.to_html())["modalities"][0]["tiles"]]
    assert names == ["frame 0 (0.50 s)", "frame 1 (1.50 s)"]  # the middles of two halves
    assert "frame 1" in str(e)
    (most,) = e.top(1)
    frame, place = divmod(most.tokens[0], 16)
    assert most.text == f"{names[frame]}: {place // 4},{place % 4}"


def test_each_video_has_its_own_time(explainer, gif, tmp_path):
    slow = tmp_path / "slow.gif"
    first, *others = film()
    first.save(slow, save_all=True, append_images=others, duration=1000)
    e = explainer([gif, slow])
    with pytest.raises(ModalityError, match=r"different lengths.*sample="):
        e.timeline("pixel_values")
    e.save(tmp_path / "e.safetensors")
    for each in (e, fxplain.load(tmp_path / "e.safetensors")):
        ends = [each.timeline("pixel_values", sample=i).edges[-1] for i in (0, 1)]
        assert ends == [2, 8]


def test_a_video_on_the_command_line(explainer, gif):
    told = CliRunner().invoke(app, ["explain", explainer.loaded.name, "--video", str(gif)])
    assert told.exit_code == 0, told.output
    assert "frame 1" in told.output
    told = CliRunner().invoke(app, ["explain", explainer.loaded.name])
    assert "needs --video" in " ".join(told.output.split())


def test_a_model_without_a_video_processor_refuses_one(tmp_path):
    explainer = fxplain.from_pretrained(small_pretrained.save("vit", tmp_path))
    with pytest.raises(InputError, match="has no video processor"):
        explainer(photo(), video=film())


# ---- several pictures of one text ---------------------------------------------------------------


def test_two_images_of_one_message_are_two_pictures(tmp_path):
    explainer = fxplain.from_pretrained(small_pretrained.save("llava", tmp_path))
    message = {
        "role": "user",
        "content": [
            {"type": "image", "image": photo(60, 60)},
            {"type": "image", "image": photo(90, 60)},
            {"type": "text", "text": "movie"},
        ],
    }
    e = explainer(text=[message])
    assert e.batch_size == 1
    assert [on.photo for on in e.on_photos("pixel_values")] == [0, 1]
    same = explainer(text="movie", image=[photo(60, 60), photo(90, 60)])
    torch.testing.assert_close(same.relevance["pixel_values"], e.relevance["pixel_values"])


def told(*photos, words):
    seen = [{"type": "image", "image": image} for image in photos]
    return [{"role": "user", "content": [*seen, {"type": "text", "text": words}]}]


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    """Of two conversations about two photos each."""
    root = tmp_path_factory.mktemp("models")
    explainer = fxplain.from_pretrained(small_pretrained.save("llava", root))
    photos = [photo(60, 60), photo(90, 60), photo(60, 40), photo(40, 40)]
    second = told(*photos[2:], words="movie was great")
    both = explainer(text=[told(*photos[:2], words="movie"), second])
    return both, explainer(text=second)


def test_a_batch_of_conversations_shows_each_its_own_photos(conversations):
    both, second = conversations
    seen = [[on.photo for on in both.on_photos("pixel_values", i)] for i in (0, 1)]
    assert seen == [[0, 1], [2, 3]]
    assert both.originals.owners == (0, 0, 1, 1)
    own, alone = (e.beyond_identity()["pixel_values"][-1] for e in (both, second))
    torch.testing.assert_close(own, alone, atol=1e-4, rtol=1e-3)


def test_pictures_of_another_sample_are_left_out(conversations, tmp_path):
    both, _ = conversations
    lying = tuple(Placement(photo, (0, 0, 1, 1)) for photo in (0, 1))
    photos = both.originals.photos[:2]
    given = Originals(photos, placed={"pixel_values": [lying, lying]}, owners=(0, 1))
    e = replace(both, originals=given)
    for sample, picture in enumerate(e.pictures("pixel_values")):
        (on,) = e.on_photos("pixel_values", sample)
        assert (on.photo, on.tokens) == (sample, picture.tokens)
        view = data_of(e.to_html())["samples"][sample][-1]
        assert len(view["tiles"]) == 1
        assert tuple(view["places"]) == picture.tokens
    e.save(tmp_path / "e.safetensors")
    assert fxplain.load(tmp_path / "e.safetensors").on_photos("pixel_values", 1) == [on]


def test_a_conversation_without_a_photo_has_no_picture(conversations, tmp_path):
    both, _ = conversations
    lying = tuple(Placement(photo, (0, 0, 1, 1)) for photo in (0, 1))
    given = Originals(
        both.originals.photos[:2], placed={"pixel_values": [lying, lying]}, owners=(0, 0)
    )
    e = replace(both, originals=given)
    e.save(tmp_path / "e.safetensors")
    for each in (e, fxplain.load(tmp_path / "e.safetensors")):
        assert [len(each.pictures("pixel_values", i)) for i in (0, 1)] == [2, 0]
    first, second = (views[-1] for views in data_of(e.to_html())["samples"])
    assert [len(first["tiles"]), len(first["photos"]["urls"])] == [2, 2]
    assert [second["tiles"], second["photos"]["urls"]] == [[], []]
    with pytest.raises(ModalityError, match="sample 1 was given no picture"):
        e.pixels("pixel_values", sample=1)
    count = e.relevance["pixel_values"].shape[1]
    (rest,) = e.units("pixel_values", (2, 2))[1].words
    assert rest.tokens == tuple(range(count))
    assert "frame" not in e.to_text()


def test_videos_of_one_text_have_a_time_each(conversations):
    both, _ = conversations
    lying = tuple(Placement(photo, (0, 0, 1, 1)) for photo in (0, 1))
    given = Originals(both.originals.photos[:2], placed={"pixel_values": [lying] * 2})
    of_two = replace(both, originals=replace(given, films=(0, 1), lengths=(2.0, 8.0)))
    with pytest.raises(ModalityError, match=r"2 videos.*video="):
        of_two.timeline("pixel_values")
    assert [of_two.timeline("pixel_values", video=i).edges[-1] for i in (0, 1)] == [2, 8]
    beside = replace(both, originals=replace(given, films=(-1, 0), lengths=(3.0,)))
    times = beside.timeline("pixel_values")  # a photo and a video: of the video
    assert times.edges.tolist() == [0, 3]
    tokens = list(beside.pictures("pixel_values")[1].tokens)
    torch.testing.assert_close(
        times.relevance[:, 0], beside.relevance["pixel_values"][:, tokens].sum(1)
    )


def test_frames_that_a_model_takes_as_images_are_told_as_frames(conversations, tmp_path):
    both, _ = conversations
    lying = tuple(Placement(photo, (0, 0, 1, 1)) for photo in (0, 1))
    given = Originals(both.originals.photos[:2], films=(0, 0), placed={"pixel_values": [lying] * 2})
    e = replace(both, originals=given)
    e.save(tmp_path / "e.safetensors")
    for each in (e, fxplain.load(tmp_path / "e.safetensors")):
        assert [on.frame_number for on in each.on_photos("pixel_values")] == [0, 1]
        assert re.search(r"on the video, there most on the [a-z ]+ of frame [01]\.", headline(each))
        tiles = data_of(each.to_html())["modalities"][-1]["tiles"]
        assert [tile["name"] for tile in tiles] == ["frame 0", "frame 1"]
        assert "  frame 1\n" in each.to_text()


def test_frames_are_those_of_their_video():
    given = Originals((np.zeros((2, 2, 3), np.uint8),) * 5, films=(-1, 0, 0, 1, 1))
    assert [given.frame_of(i) for i in range(5)] == [None, (0, 0), (0, 1), (1, 0), (1, 1)]
    found = [OnPhoto(i, (0, 0, 1, 1), (1, 1), (i,), (i,), i % 2, film=i // 2) for i in range(4)]
    assert which(found[3], found) == "video 1, frame 1"
    assert which(found[1], found[:2]) == "frame 1"


def test_a_frame_says_when_it_is():
    """In the middle of the stretch that it stands for, as frames are taken."""
    frames = [Picture((1, 1), (i,), i) for i in range(2)]
    lying = [Placement(photo, (0, 0, 1, 1)) for photo in (0, 1)]
    given = Originals((np.zeros((2, 2, 3), np.uint8),) * 2, films=(0, 0), lengths=(2.0,))
    told = on_photos(frames, lying, given)
    assert [which(on, told) for on in told] == ["frame 0 (0.50 s)", "frame 1 (1.50 s)"]


def test_a_model_that_is_listed_for_text_alone_is_shown_images():
    config = hf.Phi4MultimodalConfig(architectures=["Phi4MultimodalForCausalLM"])
    assert find_task(None, config)[0].name == "image-to-text"
    assert find_task(None, hf.GPT2Config(architectures=["GPT2LMHeadModel"]))[0].name == (
        "text-generation"
    )


def test_a_model_that_reads_images_among_the_words_is_asked_without_one(tmp_path):
    explainer = fxplain.from_pretrained(small_pretrained.save("llava", tmp_path))
    assert explainer(text="movie").modalities == ("input_ids",)


class Processor:
    """Stands for one that reads texts, images and videos: it notes what it is given."""

    image_token, video_token, chat_template = "<i>", "<v>", None
    tokenizer, is_fast = None, False

    def __call__(self, **given):
        self.given = given
        return {"pixel_values_videos": torch.zeros(1, 3)}


class Writes(nn.Module):
    def forward(self, pixel_values_videos):
        raise NotImplementedError


def test_a_processor_of_videos_is_given_frames_and_when_they_are():
    processor = Processor()
    loaded = Loaded(Writes(), "a model", processor, processor, processor, video_processor=processor)
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    given = gather(loaded, text="what?", image=photo(), video=Video(frames, 2.0), truncation=False)
    ImageToText().check(loaded, given)
    encoded = ImageToText().prompt(loaded, given)
    assert processor.given["text"] == ["<i><v>what?"]
    (told,) = processor.given["video_metadata"]
    assert (told["fps"], told["frames_indices"]) == (2.0, [0, 1, 2, 3])
    assert processor.given["do_sample_frames"] is False
    assert encoded.seconds == {"pixel_values_videos": 2.0}
    assert len(encoded.originals.photos) == 5  # the image, and four frames


def test_a_video_of_a_chat_message_is_opened():
    class Chat(Processor):
        chat_template = "yes"

        def apply_chat_template(self, messages, **_):
            return "<v>what?"

    processor = Chat()
    loaded = Loaded(Writes(), "a model", processor, processor, processor, video_processor=processor)
    content = [{"type": "video", "video": film(2)}, {"type": "text", "text": "what?"}]
    given = gather(loaded, text=[{"role": "user", "content": content}], truncation=False)
    assert given.text == ["<v>what?"]
    assert given.video[0].frames.shape == (2, 40, 60, 3)
    encode(loaded, given)
    assert len(processor.given["videos"]) == 1
