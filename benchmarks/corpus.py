"""What a corpus costs, beside the best floor: a forward and a backward in sorted batches.

``python -m benchmarks.corpus`` prints, for the ways that people would write by hand and for
`fxplain.explain_corpus`, the time of all texts and its ratio to the floor. Ways in this process are
measured by its CPU time, in turn, round by round, after a first run that captured the model, and a
ratio is the median of the rounds'; those with workers by the clock, from nothing to the last file.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import fxplain
from fxplain.explanation import replays

WORDS = [f"w{i}" for i in range(2000)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    torch.set_num_threads(1)
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = saved(Path(name) / "model", options.layers, options.features)
        texts = made_texts(options.texts)
        explainer = fxplain.from_pretrained(folder)
        ways = {
            f"forward + backward, sorted, {size} tokens": lambda size=size: _floor(
                explainer, texts, size
            )
            for size in options.batch_tokens
        }
        floors = list(ways)
        for size in options.batch_tokens:
            ways |= _ours(explainer, texts, size)
        if options.by_hand:
            ways |= _by_hand(explainer, texts)
        console.print(f"{len(texts)} texts, {options.layers} layers of {options.features} features")
        if options.recorded:
            replays.FIRST = 1
        seconds = _measured(ways, options.runs)
        best = [min(times) for times in zip(*(seconds[way] for way in floors), strict=True)]
        for way, times in seconds.items():
            _tell(console, way, times, best)
        for workers in options.workers:
            clock = _clock(folder, texts, Path(name) / f"out-{workers}", workers)
            _tell(console, f"explain_corpus, {workers} workers, from nothing", [clock], best[:1])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=240)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--by-hand", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="each form of call is recorded before, as it soon is where a corpus is long",
    )
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    return parser.parse_args(arguments)


def saved(folder: Path, layers: int, features: int) -> Path:
    """A BERT with random weights and a tokenizer of whole words."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **names)
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=features,
        intermediate_size=4 * features,
        num_hidden_layers=layers,
        num_attention_heads=max(1, features // 32),
        num_labels=4,
    )
    hf.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def made_texts(count: int) -> list[str]:
    """Texts of 5 to 256 tokens, half of them below 27, as docstrings are."""
    chance = random.Random(0)
    lengths = [min(254, max(3, round(chance.lognormvariate(3.2, 0.9)))) for _ in range(count)]
    return [" ".join(chance.choices(WORDS, k=length)) for length in lengths]


def _ours(explainer: Any, texts: list[str], tokens: int) -> dict[str, Callable[[], Any]]:
    def of(method: str) -> Callable[[], Any]:
        corpus = fxplain.CorpusExplainer(explainer, batch_tokens=tokens, method=method)
        return lambda: corpus({"text": texts})

    return {
        f"CorpusExplainer, {tokens} tokens, {method}": of(method) for method in ("generic", "auto")
    }


def _by_hand(explainer: Any, texts: list[str]) -> dict[str, Callable[[], Any]]:
    ordered = sorted(texts, key=len)

    def in_batches(given: list[str]) -> None:
        for start in range(0, len(given), 32):
            explainer(given[start : start + 32])

    return {
        "by hand, one by one": lambda: [explainer(text) for text in texts],
        "by hand, batches of 32 as they come": lambda: in_batches(texts),
        "by hand, batches of 32, sorted": lambda: in_batches(ordered),
    }


def _floor(explainer: Any, texts: list[str], tokens: int) -> None:
    model, tokenizer = explainer.model, explainer.loaded.tokenizer
    for part in _sorted_parts(texts, tokens):
        inputs = tokenizer(part, padding=True, return_tensors="pt")
        embedded = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        mask = inputs["attention_mask"]
        logits = model(inputs_embeds=embedded, attention_mask=mask).logits
        torch.autograd.grad(logits.max(1).values.sum(), embedded)


def _sorted_parts(texts: list[str], tokens: int) -> Iterator[list[str]]:
    ordered = sorted(texts, key=lambda text: -text.count(" "))
    while ordered:
        size = max(1, tokens // (ordered[0].count(" ") + 3))
        yield ordered[:size]
        ordered = ordered[size:]


def _measured(ways: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """The times of each way, round by round, after one that captures."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for call in ways.values():
        call()
    for _ in range(runs):
        for way, call in ways.items():
            start = time.process_time()
            call()
            times[way].append(time.process_time() - start)
    return times


def _clock(folder: Path, texts: list[str], out: Path, workers: int) -> float:
    start = time.perf_counter()
    rows = max(1, len(texts) // max(1, workers))
    fxplain.explain_corpus(str(folder), texts, out, workers=workers, shard_rows=rows)
    return time.perf_counter() - start


def _tell(console: Console, way: str, times: Sequence[float], best: Sequence[float]) -> None:
    ratio = statistics.median(mine / floor for mine, floor in zip(times, best, strict=True))
    seconds = statistics.median(times)
    console.print(f"{seconds:8.2f} s  {ratio:6.2f} x the best floor  {way}", highlight=False)


if __name__ == "__main__":
    main()
