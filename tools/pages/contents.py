"""The pages: texts in many scripts, models that see, sound, video, long texts, batches, comparisons."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import fxplain
from examples.tasks import lookup
from fxplain.demo import digits
from tests import small_pretrained, zoo
from tools.pages.page import Page

__all__ = ["pages"]

TEXTS = {
    "arabic": "كان الفيلم رائعا جدا، لكن النهاية كانت سيئة.",
    "hebrew": "הסרט היה נהדר, אבל הסוף היה גרוע.",
    "chinese": "这部电影很好看。但是结局很糟糕！",
    "japanese": "この映画はとても面白かった。でも終わりは残念だった。",
    "korean": "영화가 정말 재미있었다. 하지만 결말은 별로였다.",
    "hindi": "फ़िल्म बहुत अच्छी थी, पर अंत बुरा था।",
    "thai": "หนังเรื่องนี้ดีมาก แต่ตอนจบแย่",
    "russian": "Фильм был отличный, но конец — ужасный.",
    "greek": "Η ταινία ήταν υπέροχη, αλλά το τέλος κακό.",  # noqa: RUF001
    "french": "Un CAFÉ naïve, s'il vous plaît — c'était « génial » !",
    "emoji": "so good 😀👍🏽 again,\n\n   but unforgettably slow 🐢\n\tthe end",
}

SEEING = (
    "llava", "llava-next", "vipllava", "paligemma", "gemma3-vision", "idefics2", "idefics3", "smolvlm",
    "mllama", "qwen2-vl", "qwen2-5-vl", "qwen3-vl", "internvl", "aya-vision", "blip-2",
    "florence-2",
)  # fmt: skip
FILMS = ("timesformer", "vivit", "x-clip")

METHODS = ("integrated_gradients", "input_x_gradient", "lrp")


def pages() -> Iterator[Page]:
    """All of them."""
    for script, text in TEXTS.items():
        yield Page(f"text-{script}", lambda text=text: reader()(text), about=text)
    for name in (*SEEING, *FILMS):
        yield Page(f"model-{name}", lambda name=name: of_the_zoo(name))
    yield from _photos()
    yield from _sounds()
    yield from _long_and_many()
    yield from _signed_and_beside()
    yield from _written()


# ---- models and what they are given -------------------------------------------------------------


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fxplain-pages-"))


@cache
def model(name: str, task: str | None = None) -> fxplain.Explainer:
    """A small model of random weights with its processors."""
    return fxplain.from_pretrained(small_pretrained.save(name, _folder()), task)


def tuned(by: float) -> fxplain.Explainer:
    """The tests' classifier, as if it had been trained on: its weights are others."""
    explainer = fxplain.from_pretrained(small_pretrained.save("classifier", _folder()))
    with torch.no_grad():
        for parameter in explainer.model.parameters():
            parameter.add_(by * torch.sin(torch.arange(parameter.numel())).reshape(parameter.shape))
    return explainer


@cache
def reader() -> fxplain.Explainer:
    """A classifier whose tokenizer has pieces of all the texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text for text in TEXTS.values() for _ in range(9)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>")
    torch.manual_seed(0)
    config = hf.GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, num_labels=2, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, initializer_range=0.2, n_positions=1024,
        id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
    )  # fmt: skip
    folder = _folder() / "reader"
    hf.GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return fxplain.from_pretrained(folder)


def of_the_zoo(name: str) -> fxplain.Explanation:
    """What one of the tests' tiny architectures drew on."""
    case = next(case for case in zoo.CASES if case.name == name)
    made, inputs = case.build(None)
    return fxplain.explain(made, inputs)


def photo(width: int = 640, height: int = 400) -> Image.Image:
    """A sky, a sun, a house, and a line of text."""
    down, across = np.mgrid[0:height, 0:width]
    sky = np.stack([120 + 90 * down / height, 170 + 40 * down / height, 235 - 0 * across], -1)
    image = Image.fromarray(sky.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.08, height * 0.1, width * 0.26, height * 0.4), fill=(250, 200, 40))
    draw.rectangle((0, height * 0.8, width, height), fill=(70, 140, 60))
    draw.rectangle((width * 0.55, height * 0.45, width * 0.85, height * 0.85), fill=(170, 80, 60))
    roof = [(width * 0.5, height * 0.45), (width * 0.7, height * 0.2), (width * 0.9, height * 0.45)]
    draw.polygon(roof, fill=(90, 50, 50))
    draw.text((width * 0.3, height * 0.9), f"a house, {width} x {height}", fill="white")
    return image


def film(count: int = 8) -> list[Image.Image]:
    """A ball that rolls over the photo."""
    frames = []
    for i in range(count):
        frame = photo(320, 200)
        x = 20 + 260 * i / count
        ImageDraw.Draw(frame).ellipse((x, 130, x + 30, 160), fill=(220, 30, 120))
        frames.append(frame)
    return frames


def sound(seconds: float = 1.0) -> np.ndarray:
    """Two tones that fade."""
    time = np.arange(int(16_000 * seconds)) / 16_000
    tone = np.where(time < seconds / 2, 440, 660)
    return (0.4 * np.sin(2 * np.pi * tone * time) * np.exp(-2 * (time % 0.5))).astype(np.float32)


# ---- the pages ----------------------------------------------------------------------------------


def _photos() -> Iterator[Page]:
    def asked(*images: Image.Image) -> fxplain.Explanation:
        content = [{"type": "image", "image": image} for image in images]
        message = {"role": "user", "content": [*content, {"type": "text", "text": "movie"}]}
        return model("llava")(text=[message])

    yield Page("photo-whole", lambda: model("vit")(photo()))
    yield Page("photo-upright", lambda: model("vit")(photo(300, 500)))
    yield Page("photo-small", lambda: model("vit")(photo(48, 32)))
    yield Page("photo-cropped", lambda: model("clip")(image=photo(), text=["a cat", "the dog"]))
    yield Page("photo-boxes", lambda: model("detr")(photo()))
    yield Page("photo-question", lambda: model("vilt")(image=photo(), text="who was great?"))
    yield Page("photo-two-of-a-chat", lambda: asked(photo(), photo(300, 400)))
    yield Page("photo-mask", lambda: model("sam")(photo(), points=(400, 250)))
    yield Page(
        "photo-alike",
        lambda: model("clip", "sentence-similarity")("the cat was great", image=photo()),
    )
    yield Page("photo-batch", lambda: model("vit")([photo(), photo(400, 400), photo(200, 500)]))
    yield Page("video-frames", lambda: model("videomae")(video=film()))


def _sounds() -> Iterator[Page]:
    yield Page("sound-heard", lambda: model("wav2vec2")(sound()))
    yield Page("sound-each", lambda: model("wav2vec2").each(sound(0.5)))
    yield Page("sound-written", lambda: model("whisper").generate(audio=sound(), max_new_tokens=6))


def _long_and_many() -> Iterator[Page]:
    text = " ".join(TEXTS[name] for name in ("french", "russian", "emoji", "greek") * 4)
    yield Page("long-text", lambda: reader()(text))
    several = [*TEXTS.values()] * 4
    yield Page("many-texts", lambda: model("classifier")([t[:20] for t in several]))
    yield Page("tagger", lambda: model("tagger").each("Ada Lovelace lived in London"))
    yield Page(
        "reader", lambda: model("reader").each(text="who lived?", pair="Ada lived in London")
    )
    yield Page(
        "two-texts",
        lambda: model("embedder", "sentence-similarity")("the movie was great", pair="a bad cat"),
    )
    yield Page("graph-alone", lambda: model("bart").inspect("the movie was great"))


def _asked(method: str = "generic", target: Any = None, **options: Any) -> fxplain.Explanation:
    lxmert, tokenizer = digits.load_model()
    sample = digits.load_samples()[2]
    inputs = digits.encode(tokenizer, [sample.question.text], sample.mosaic[None])
    return fxplain.explain(lxmert, inputs, target, method, tokenizer=tokenizer, **options)


def _signed_and_beside() -> Iterator[Page]:
    for name in METHODS:
        yield Page(f"signed-{name.replace('_', '-')}", lambda name=name: _asked(name))
    yield Page("beside-methods", lambda: [_asked(), _asked("lrp")], beside=True)
    yield Page("beside-targets", lambda: [_asked(target="yes"), _asked(target="no")], beside=True)
    yield Page(
        "beside-texts",
        lambda: [reader()(TEXTS["arabic"]), reader()(TEXTS["chinese"])],
        beside=True,
    )
    yield Page(
        "beside-photos", lambda: [model("vit")(photo()), model("vit")(photo(300, 500))], beside=True
    )
    text = "the movie was great"
    yield Page(
        "beside-checkpoints",
        lambda: [tuned(0.0)(text), tuned(0.2)(text)],
        beside=True,
    )
    yield Page("flow", lambda: _asked(method="generic").flow())
    yield Page("switch-methods", lambda: [_asked(), _asked("rollout"), _asked("lrp")])


def _written() -> Iterator[Page]:
    t5, tokenizer = lookup.load_model()
    inputs = lookup.encode(tokenizer, lookup.draw_lookups(1, random.Random(0)))
    del inputs["decoder_input_ids"]
    yield Page(
        "written-lookup", lambda: fxplain.explain_generation(t5, inputs, 8, tokenizer=tokenizer)
    )
    yield Page("written-gpt2", lambda: model("gpt2").generate("the movie", max_new_tokens=8))
    yield Page(
        "written-caption", lambda: model("captioner").generate(image=photo(), max_new_tokens=5)
    )

    def chat() -> Any:
        content = [{"type": "image", "image": photo()}, {"type": "text", "text": "movie"}]
        return [{"role": "user", "content": content}]

    yield Page(
        "activation-maps",
        lambda: model("llava").generate(text=chat(), max_new_tokens=4).activation_maps(),
    )
