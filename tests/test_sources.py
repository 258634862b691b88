"""Context attribution: a decoder that copies, made by hand, is asked where its answer is from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.generation import Span
from fxplain.reports import to_text
from tests.small_pretrained import save

WORDS = [
    "<pad>", ".", "?", "paris", "rome", "oslo", "seine", "tiber", "fjord", "lies", "old", "big",
    "near", "it", "is",
]  # fmt: skip
PROMPT = "it is old . oslo fjord . paris seine . it is big . rome tiber . paris"
PLANTED = 2
"""The third sentence: what follows "paris" there is the answer."""


class Copies(nn.Module):
    """Says what followed the word at hand where it stood before: one attention, made by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(torch.eye(len(WORDS)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        x = self.words(input_ids)
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        length = input_ids.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool).tril()[None]
        if attention_mask is not None:
            seen = seen & (attention_mask[:, None] > 0)
        bias = torch.zeros(seen.shape).masked_fill(~seen, -1e9)
        mixed = (12 * x @ before.transpose(1, 2) + bias).softmax(-1) @ x
        return {"logits": 6 * mixed + 0.1 * x}


class Spelling:
    """Words by their number."""

    all_special_ids = (0,)
    pad_token_id = 0

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [WORDS[i] for i in ids]

    def decode(self, ids: list[int], **_: object) -> str:
        return " ".join(WORDS[i] for i in ids)


def generation(prompt: str = PROMPT, answer: str = "seine") -> fxplain.Generation:
    ids = torch.tensor([[WORDS.index(word) for word in prompt.split()]])
    written = torch.tensor([[WORDS.index(word) for word in answer.split()]])
    return fxplain.explain_generation(
        Copies().eval(), {"input_ids": ids}, generated=written, tokenizer=Spelling()
    )


@pytest.fixture(scope="module")
def copied() -> fxplain.Generation:
    return generation()


METHODS = ("sparse_linear", "leave_one_out", "kernel_shap", "generic", "input_x_gradient")


@pytest.mark.parametrize("method", METHODS)
def test_the_passage_that_was_copied_is_found(copied: fxplain.Generation, method: str) -> None:
    found = copied.sources(method=method)
    texts = [source.text for source in found.sources]
    assert len(texts) == 5
    assert found.top(1)[0].text == texts[PLANTED]
    assert found.fall(1) > 1  # without it the answer is far less probable
    assert found.fall(5) >= found.fall(0) == pytest.approx(0, abs=1e-6)


def test_it_is_context_cite(copied: fxplain.Generation) -> None:
    """The score by hand: log p - log(1 - p) of the answer, sources cut out of the prompt."""
    found = copied.sources(method="leave_one_out")
    words = PROMPT.split()
    whole = _log_odds(words)
    for source in found.sources:
        kept = [word for i, word in enumerate(words) if i not in source.tokens]
        assert source.relevance == pytest.approx(whole - _log_odds(kept), abs=1e-4)
    assert found.log_probability == pytest.approx(-torch.tensor(-whole).exp().log1p().item(), 1e-4)
    assert copied.sources(draws=40, seed=3).calls == 40


def _log_odds(words: list[str]) -> float:
    ids = torch.tensor([[WORDS.index(word) for word in words]])
    p = Copies().eval()(ids)["logits"][0, -1].double().softmax(-1)[WORDS.index("seine")]
    return float(p.logit())


def test_what_is_asked_about(copied: fxplain.Generation) -> None:
    inside = copied.sources(within="paris seine . it is big .")
    assert [s.text for s in inside.sources] == ["paris seine .", "it is big ."]
    named = copied.sources(["oslo fjord", "paris seine"], method="kernel_shap")
    assert [s.text for s in named.sources] == ["oslo fjord", "paris seine"]
    masked = copied.sources(removal="attention_mask", method="leave_one_out")
    assert masked.top(1)[0].text == "paris seine ."
    two = generation(answer="seine .")
    first = two.sources(about=Span(0, 1), method="leave_one_out")
    assert first.text == "seine"
    for one, other in zip(
        first.sources, copied.sources(method="leave_one_out").sources, strict=True
    ):
        assert one.relevance == pytest.approx(other.relevance, abs=1e-4)


def test_how_it_looks(copied: fxplain.Generation) -> None:
    said = to_text(copied.sources())
    assert "Sources of 'seine'" in said
    assert "paris seine ." in said
    assert copied.sources().to_dict()["sources"][PLANTED]["text"] == "paris seine ."


def test_refused(copied: fxplain.Generation, tmp_path: Path) -> None:
    for options, said in (
        ({"within": "berlin"}, "nothing of the prompt"),
        ({"units": ["berlin"]}, "no part of the text"),
        ({"method": "guess"}, "unknown method"),
        ({"about": Span(3, 4)}, "3"),
        ({"sample": 4}, "no sample 4"),
        ({"draws": 1}, "draws"),
    ):
        with pytest.raises(fxplain.FxplainError, match=said):
            copied.sources(**options)
    copied.save(tmp_path / "g.safetensors")
    with pytest.raises(fxplain.MethodError, match="loaded"):
        fxplain.Generation.load(tmp_path / "g.safetensors").sources()


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_pretrained_writers(name: str, tmp_path: Path) -> None:
    """A decoder, and an encoder whose decoder writes: in a batch as alone."""
    writer = fxplain.from_pretrained(save(name, tmp_path))
    text, parts = "the movie was great", ["the movie", "was"]
    written = writer.generate(text, generated=[[4, 5, 6]])
    alone = written.sources(parts, method="leave_one_out")
    assert [source.text for source in alone.sources] == parts
    assert any(source.relevance for source in alone.sources)
    both = writer.generate([text, "Ada"], generated=[[4, 5, 6], [7]])
    found = both.sources(parts, sample=0, method="leave_one_out")
    for one, other in zip(alone.sources, found.sources, strict=True):
        assert one.relevance == pytest.approx(other.relevance, rel=1e-2, abs=1e-2)
