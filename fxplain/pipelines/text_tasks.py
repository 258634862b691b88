"""The tasks that read text and answer about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import InputError, TargetError
from fxplain.explanation import Word
from fxplain.explanation.vocabulary import word_id
from fxplain.pipelines.encoding import Encoded
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.task import Classification, Goal, Run, Task, each_entry, per_sample

__all__ = ["FillMask", "QuestionAnswering", "TextClassification", "TokenClassification"]


class TextClassification(Classification):
    """A class for a text, or for a pair of them."""

    name = "text-classification"
    about = "the predicted class"
    auto = ("AutoModelForSequenceClassification",)
    needs = ("text",)
    may = ("pair",)


class TokenClassification(Task):
    """A class for each word: entities, parts of speech."""

    name = "token-classification"
    about = "the predicted class of each word that is not of the usual one, or of word="
    auto = ("AutoModelForTokenClassification",)
    needs = ("text",)
    options = frozenset({"word"})

    OUTSIDE = "O"
    """What taggers of entities call a word that is none."""

    def goal(self, run: Run, target: Any, word: str | None = None, **_: Any) -> Goal:
        """The word asked for, or the one that the model is surest to be of no usual class."""
        samples = range(run.encoded.batch_size)
        found = []
        for sample, wanted in zip(samples, per_sample(target, len(samples)), strict=False):
            if isinstance(wanted, tuple):
                found.append((_word_at(run, sample, wanted[0]), wanted))
                continue
            words = self._asked(run, sample, word) if word else self._entities(run, sample)
            if not words:
                raise TargetError(
                    f"every word of the text is predicted to be {self._usual(run, sample)!r}: say "
                    f"which word= to explain."
                )
            found.append(self._index(run, sample, words[0], wanted))
        return Goal([index for _, index in found], names=self._names(run, found))

    def goals(self, run: Run, target: Any, word: str | None = None, **_: Any) -> list[Goal]:
        """Each word of no usual class in reading order, or each place of the word asked for."""
        words = self._asked(run, 0, word) if word else self._entities(run, 0)
        found = [self._index(run, 0, w, target) for w in sorted(words, key=lambda w: w.tokens)]
        return [Goal([index], names=self._names(run, [(w, index)])) for w, index in found]

    def _asked(self, run: Run, sample: int, word: str) -> list[Word]:
        words = run.encoded.words["input_ids"][sample]
        found = [w for w in words if w.text == word]
        if not found:
            raise TargetError(
                f"there is no word {word!r} in the text; its words: "
                f"{', '.join(repr(w.text) for w in words)}."
            )
        return found

    def _entities(self, run: Run, sample: int) -> list[Word]:
        """The words that are predicted to be of another class than the usual one, the surest first."""
        usual = self._usual(run, sample)
        found = [(sure, w) for w, label, sure in self._predicted(run, sample) if label != usual]
        return [w for _, w in sorted(found, key=lambda pair: -pair[0])]

    def _usual(self, run: Run, sample: int) -> str:
        """The class of words that are nothing in particular: O, or else the majority's."""
        labels = Counter(label for _, label, _ in self._predicted(run, sample))
        known = {run.label(number) for number in range(run.output.logits.shape[-1])}
        if self.OUTSIDE in known or not labels:
            return self.OUTSIDE
        return labels.most_common(1)[0][0]

    def _predicted(self, run: Run, sample: int) -> list[tuple[Word, str, float]]:
        """Each word with its class and how sure that is, as its first piece tells."""
        sure = run.output.logits[sample].softmax(-1)
        ordinary = run.is_ordinary(sample)
        return [
            (word, run.label(int(sure[place].argmax())), float(sure[place].max()))
            for word in run.encoded.words["input_ids"][sample]
            if ordinary[place := word.tokens[0]]
        ]

    def _index(
        self, run: Run, sample: int, word: Word, target: Any
    ) -> tuple[Word, tuple[int, Any]]:
        """A word's class is read at its first piece."""
        place = word.tokens[0]
        if target is None:
            target = int(run.output.logits[sample, place].argmax())
        return word, (place, target)

    def _names(self, run: Run, found: Sequence[tuple[Word, Any]]) -> tuple[str, ...]:
        def label(target: Any) -> str:
            return run.label(target) if isinstance(target, int) else str(target)

        return tuple(f"{word.text}: {label(index[-1])}" for word, index in found)


def _word_at(run: Run, sample: int, place: int) -> Word:
    words = run.encoded.words["input_ids"][sample]
    return next((w for w in words if place in w.tokens), Word(str(place), (place,)))


class QuestionAnswering(Task):
    """An answer that is a span of a context: the question is text=, the context pair=."""

    name = "question-answering"
    about = "the answer span: its start and its end together, or each"
    auto = ("AutoModelForQuestionAnswering",)
    needs = ("text", "pair")
    returns = ("start_logits", "end_logits")

    LONGEST = 30
    """In tokens: a longer answer is none."""

    def goal(self, run: Run, target: Any, **_: Any) -> Goal:
        """The sum of the answer's start and end, what models rank answers by."""
        spans = self._spans(run, target)

        def answer_span(output: Any) -> list[Tensor]:
            return [
                output.start_logits[i, start] + output.end_logits[i, end]
                for i, (start, end) in enumerate(spans)
            ]

        return Goal(answer_span, names=self._names(run, spans, ""))

    def goals(self, run: Run, target: Any, **_: Any) -> list[Goal]:
        """Where the answer starts, and where it ends."""
        spans = self._spans(run, target)
        return [
            Goal(
                [start for start, _ in spans], "start_logits", self._names(run, spans, "start of ")
            ),
            Goal([end for _, end in spans], "end_logits", self._names(run, spans, "end of ")),
        ]

    def _spans(self, run: Run, target: Any) -> list[tuple[int, int]]:
        wanted = per_sample(target, run.encoded.batch_size)
        return [
            self._best(run, sample) if target is None else self._said(run, sample, target)
            for sample, target in enumerate(wanted)
        ]

    def _best(self, run: Run, sample: int) -> tuple[int, int]:
        """The most likely span of the context."""
        start, end = run.output.start_logits[sample], run.output.end_logits[sample]
        inside = run.is_ordinary(sample)
        if run.encoded.pieces is not None:
            sequences = run.encoded.pieces.sequence_ids(sample)
            inside &= inside.new_tensor([sequence == 1 for sequence in sequences])
        scores = (start[:, None] + end[None]).masked_fill(
            ~(inside[:, None] & inside), -float("inf")
        )
        allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(self.LONGEST - 1)
        best = int(scores.masked_fill(~allowed, -float("inf")).argmax())
        return best // len(start), best % len(start)

    def _said(self, run: Run, sample: int, answer: Any) -> tuple[int, int]:
        if isinstance(answer, tuple):
            return self._placed(run, answer)
        context = run.given.pair[sample]
        answer = answer.strip() if isinstance(answer, str) else answer
        if not answer or not isinstance(answer, str) or answer not in context:
            raise TargetError(
                f"{answer!r} is no target: give a part of the context, or (start, end) as places of "
                f"tokens."
            )
        pieces = run.encoded.pieces
        if pieces is None:
            raise TargetError(
                "this tokenizer does not tell where its pieces stand in the text: give (start, end) "
                "as places of tokens."
            )
        at = context.index(answer)
        ends = (at, at + len(answer) - 1)
        start, end = (pieces.char_to_token(sample, c, sequence_index=1) for c in ends)
        return start, end

    def _placed(self, run: Run, answer: tuple[Any, ...]) -> tuple[int, int]:
        count = run.encoded.inputs["input_ids"].shape[1]
        whole = all(isinstance(place, int) and not isinstance(place, bool) for place in answer)
        if len(answer) != 2 or not whole or not 0 <= answer[0] <= answer[1] < count:
            raise TargetError(
                f"{answer!r} is no target: (start, end) are the first and the last token of an "
                f"answer, of 0 to {count - 1}."
            )
        return answer[0], answer[1]

    def _names(self, run: Run, spans: Sequence[tuple[int, int]], part: str) -> tuple[str, ...]:
        return tuple(f"{part}{self._text(run, i, span)!r}" for i, span in enumerate(spans))

    def _text(self, run: Run, sample: int, span: tuple[int, int]) -> str:
        """The answer as it was written, where the tokenizer knows the places of its pieces."""
        places = range(span[0], span[1] + 1)
        pieces = run.encoded.pieces
        if pieces is not None and all(pieces.token_to_sequence(sample, i) == 1 for i in places):
            ends = [pieces.token_to_chars(sample, i) for i in (places[0], places[-1])]
            return str(run.given.pair[sample][ends[0].start : ends[1].end]).strip()
        ids = run.encoded.inputs["input_ids"][sample, span[0] : span[1] + 1]
        return str(run.loaded.tokenizer.decode(ids)).strip()


class FillMask(Task):
    """The word that a mask stands for."""

    name = "fill-mask"
    about = "the word that is predicted for each mask"
    auto = ("AutoModelForMaskedLM",)
    needs = ("text",)

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """The text has to have a mask."""
        encoded = super().encode(loaded, given)
        mask = loaded.tokenizer.mask_token
        for text, ids in zip(given.text, encoded.inputs["input_ids"], strict=True):
            if loaded.tokenizer.mask_token_id not in ids.tolist():
                raise InputError(f"there is no mask in {text!r}: write {mask} for a word.")
        return encoded

    def goal(self, run: Run, target: Any, **_: Any) -> Goal:
        """The first mask of each text."""
        wanted = per_sample(target, run.encoded.batch_size)
        return Goal([
            self._index(run, sample, next(self._masks(run, sample)), entry)
            for sample, entry in enumerate(wanted)
        ])  # fmt: skip

    def goals(self, run: Run, target: Any, **_: Any) -> list[Goal]:
        """Each mask of a text."""
        return [Goal([self._index(run, 0, place, target)]) for place in self._masks(run, 0)]

    def _masks(self, run: Run, sample: int) -> Iterator[int]:
        ids = run.encoded.inputs["input_ids"][sample]
        yield from (ids == run.loaded.tokenizer.mask_token_id).nonzero().flatten().tolist()

    def _index(self, run: Run, sample: int, place: int, target: Any) -> Any:
        def index(entry: Any) -> tuple[int, ...]:
            if isinstance(entry, tuple):
                return entry
            if entry is None:
                return place, int(run.output.logits[sample, place].argmax())
            return place, word_id(run.loaded.tokenizer, entry)

        return each_entry(target, index)
