"""The tasks whose answer is text that the model writes, a token at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import TargetError
from fxplain.explanation.vocabulary import word_id
from fxplain.pipelines.encoding import Encoded, encode, start_decoder
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.task import Goal, Run, Task, each_entry, per_sample, writes

__all__ = [
    "Generation",
    "ImageToText",
    "SequenceToSequence",
    "SpeechRecognition",
    "TextGeneration",
    "VisualQuestionAnswering",
]


class Generation(Task):
    """Base class: the next token is explained, which is a decoder's first."""

    writes = True

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """A decoder of its own is given what it starts with."""
        return start_decoder(loaded, self.prompt(loaded, given))

    def goal(self, run: Run, target: Any, **_: Any) -> Goal:
        """The word asked for as the next one, or the predicted one."""
        words = each_entry(target, lambda entry: word_id(run.loaded.tokenizer, entry))
        return Goal(words, "logits")


class TextGeneration(Generation):
    """What comes after a text."""

    name = "text-generation"
    about = "the predicted next token"
    auto = ("AutoModelForCausalLM",)
    needs = ("text",)


class SequenceToSequence(Generation):
    """A text made of a text: a translation, a summary."""

    name = "text2text-generation"
    about = "the predicted first token"
    auto = ("AutoModelForSeq2SeqLM",)
    needs = ("text",)


class ImageToText(Generation):
    """A caption, or an answer to what is asked about an image: text= is the prompt."""

    name = "image-to-text"
    about = "the predicted first token"
    auto = ("AutoModelForImageTextToText",)
    needs = ("image",)
    may = ("text",)
    sees_videos = True

    def _is_given(self, kind: str, loaded: Loaded, given: Given) -> bool:
        """A model that reads images among the words may be asked without one."""
        among_words = isinstance(getattr(loaded.processor, "image_token", None), str)
        asked = kind == "image" and among_words and bool(given.text)
        return asked or super()._is_given(kind, loaded, given)

    def prompt(self, loaded: Loaded, given: Given) -> Encoded:
        """The text says where the image is, for models that read it among the words."""
        return super().prompt(loaded, _prompted(loaded, given))


def _prompted(loaded: Loaded, given: Given) -> Given:
    """Prompts in the form that a chat model was trained on, or with the bare mark of an image."""
    marks = {kind: getattr(loaded.processor, f"{kind}_token", None) for kind in ("image", "video")}
    seen = {kind: len(getattr(given, kind)) for kind in marks}
    known = [mark for kind, mark in marks.items() if isinstance(mark, str) and seen[kind]]
    if not known:
        return given
    if any(mark in text for mark in known for text in given.text):
        told = {k: [t.count(str(m)) for t in given.text] for k, m in marks.items() if seen[k]}
        right = {k: counts for k, counts in told.items() if sum(counts) == seen[k]}
        return replace(given, seen={**right, **given.seen})
    texts = given.text or [""] * max(seen.values())
    each = {kind: -(-count // len(texts)) for kind, count in seen.items()}  # of one text, all
    if getattr(loaded.processor, "chat_template", None):
        pictures = [{"type": kind} for kind, count in each.items() for _ in range(count)]
        chats = [
            [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]
            for text in texts
        ]
        prompts = loaded.processor.apply_chat_template(chats, add_generation_prompt=True)
    else:
        bare = "".join(str(marks[kind]) * count for kind, count in each.items())
        prompts = [f"{bare}{text}" for text in texts]
    of_each = {kind: [each[kind]] * len(texts) for kind, count in seen.items() if count}
    return replace(given, text=list(prompts), seen=of_each)


class VisualQuestionAnswering(Task):
    """An answer to a question about an image, chosen among classes or written: text= asks it."""

    name = "visual-question-answering"
    about = "the predicted answer, or its first token where it is written"
    # some models that see are only listed with those that answer by a span
    auto = (
        "AutoModelForVisualQuestionAnswering",
        "AutoModelForQuestionAnswering",
        "AutoModelForImageTextToText",
    )
    needs = ("image", "text")
    sees_videos = True

    _writing = ImageToText()

    def answers_in_text(self, loaded: Loaded) -> bool:
        """Whether the answer is written rather than chosen."""
        return writes(loaded.model)

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """The question is a prompt where the answer is written."""
        if writes(loaded.model):
            return self._writing.encode(loaded, given)
        return super().encode(loaded, given)

    def prompt(self, loaded: Loaded, given: Given) -> Encoded:
        """The question, where the answer is written."""
        return self._writing.prompt(loaded, given)

    def goal(self, run: Run, target: Any, **options: Any) -> Goal:
        """The answer asked for, or the predicted one."""
        if writes(run.loaded.model):
            return self._writing.goal(run, target, **options)
        return super().goal(run, target, **options)


class SpeechRecognition(Generation):
    """What is said in a recording."""

    name = "automatic-speech-recognition"
    about = (
        "each token of a transcript (CTC), or its predicted first token; each word that is written"
    )
    auto = ("AutoModelForCTC", "AutoModelForSpeechSeq2Seq")
    needs = ("audio",)
    by_word = True

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """Only a model that writes has a decoder to start."""
        return super().encode(loaded, given) if writes(loaded.model) else encode(loaded, given)

    def goal(self, run: Run, target: Any, **options: Any) -> Goal:
        """The next token; of a model that labels frames (CTC), the first that it hears."""
        if writes(run.loaded.model):
            return super().goal(run, target, **options)
        wanted = per_sample(target, run.encoded.batch_size)
        heard = [self._heard(run, i, entry) for i, entry in enumerate(wanted)]
        if not all(heard):
            raise TargetError("nothing is heard in the recording: say which target= to explain.")
        return Goal([indices[0] for indices in heard], "logits")

    def goals(self, run: Run, target: Any, **options: Any) -> list[Goal]:
        """Each token that is heard."""
        if writes(run.loaded.model):
            return super().goals(run, target, **options)
        return [Goal([index], "logits") for index in self._heard(run, 0, target)]

    def _heard(self, run: Run, sample: int, target: Any) -> list[Any]:
        """(frame, token) of each token of the transcript, or of the frame where one is likeliest."""
        if isinstance(target, tuple):
            return [target]
        logits: Tensor = run.output.logits[sample]
        if target is not None:
            number = word_id(run.loaded.tokenizer, target)
            return [(int(logits[:, number].argmax()), number)]
        best = logits.argmax(-1)
        blank = run.loaded.tokenizer.pad_token_id
        starts = torch.ones_like(best, dtype=torch.bool)
        starts[1:] = best[1:] != best[:-1]  # a token that goes on over frames is heard once
        heard = (starts & (best != blank)).nonzero().flatten().tolist()
        return [(frame, int(best[frame])) for frame in heard]
