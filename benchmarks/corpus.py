"""What a corpus costs, beside the best floor: a forward and a backward in sorted batches.

``python -m benchmarks.corpus`` prints, for the ways that people would write by hand and for
`fxplain.explain_corpus`, the time of all texts and its ratio to the best floor. Ways in this process
are measured by its CPU time after a first run that captured the model, side by side: the one that is
farthest behind makes the next call, so that what else the machine does slows all of them alike. A
ratio is the median of the rounds'. Ways with workers are measured by the clock, from nothing to the
last file. ``--page docs/cost.md`` writes the table into a page.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import fxplain
from fxplain.explanation import replays

WORDS = [f"w{i}" for i in range(2000)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]

FLOOR, BY_HAND = "forward and backward", "by hand"
NEVER = 1 << 62
BEGIN, END = "<!-- begin: benchmarks.corpus -->", "<!-- end: benchmarks.corpus -->"

Way = Callable[[], Iterator[int]]
"""All texts in calls of the model, each of which tells how many texts it was for."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = saved(Path(name) / "model", options.layers, options.features)
        texts = made_texts(options.texts)
        print(f"{len(texts)} texts, {options.layers} layers of {options.features} features")
        ways = _ways(folder, texts, options)
        seconds = _measured(ways, options.runs)
        floors = [seconds[way] for way in ways if way.startswith(FLOOR)]
        best = [min(times) for times in zip(*floors, strict=True)]
        rows = [_row(way, times, best) for way, times in seconds.items()]
        for workers in options.workers:
            clock = _clock(folder, texts, Path(name) / f"out-{workers}", workers)
            one = min(best)
            rows.append(_row(f"`explain_corpus`, {workers} workers, by the clock", [clock], [one]))
    print("\n".join(f"{took:8.2f} s  {ratio:>20}  {way}" for way, took, ratio in rows))
    if options.page:
        _write(options.page, rows, options)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=480)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[1024])
    parser.add_argument("--floor-tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--by-hand", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--page", type=Path, help="a Markdown file with the table's two marks")
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


def _ways(folder: Path, texts: list[str], options: argparse.Namespace) -> dict[str, Way]:
    """By name, what makes its way through all texts; one that is replayed has a model of its own."""
    plain, recorded = (fxplain.from_pretrained(folder) for _ in range(2))
    ways = {
        f"{FLOOR}, sorted, {size} tokens": partial(_floor, plain, texts, size)
        for size in options.floor_tokens
    }
    for size in options.batch_tokens:
        for method in ("generic", "auto"):
            name = f"`CorpusExplainer`, {size} tokens, `{method}`"
            ways[f"{name}, calls as they are made"] = _ours(plain, texts, size, method, NEVER)
            ways[f"{name}, replayed"] = _ours(recorded, texts, size, method, 1)
    return {**ways, **(_by_hand(plain, texts) if options.by_hand else {})}


def _ours(explainer: Any, texts: list[str], tokens: int, method: str, first: int) -> Way:
    """``first``: the call of a form that is recorded."""
    corpus = fxplain.CorpusExplainer(explainer, batch_tokens=tokens, method=method)

    def way() -> Iterator[int]:
        steps = corpus.steps({"text": texts})
        while True:
            replays.FIRST = first
            if next(steps, None) is None:
                return
            yield 1

    return way


def _by_hand(explainer: Any, texts: list[str]) -> dict[str, Way]:
    ordered = sorted(texts, key=len)

    def in_batches(given: list[str], size: int) -> Iterator[int]:
        for start in range(0, len(given), size):
            replays.FIRST = NEVER
            explainer(given[start : start + size])
            yield size

    return {
        f"{BY_HAND}, batches of 32, sorted": partial(in_batches, ordered, 32),
        f"{BY_HAND}, batches of 32 as they come": partial(in_batches, texts, 32),
        f"{BY_HAND}, one by one": partial(in_batches, texts, 1),
    }


def _floor(explainer: Any, texts: list[str], tokens: int) -> Iterator[int]:
    model, tokenizer = explainer.model, explainer.loaded.tokenizer
    for part in _sorted_parts(texts, tokens):
        inputs = tokenizer(part, padding=True, return_tensors="pt")
        embedded = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        mask = inputs["attention_mask"]
        logits = model(inputs_embeds=embedded, attention_mask=mask).logits
        torch.autograd.grad(logits.max(1).values.sum(), embedded)
        yield len(part)


def _sorted_parts(texts: list[str], tokens: int) -> Iterator[list[str]]:
    ordered = sorted(texts, key=lambda text: -text.count(" "))
    while ordered:
        size = max(1, tokens // (ordered[0].count(" ") + 3))
        yield ordered[:size]
        ordered = ordered[size:]


def _measured(ways: Mapping[str, Way], runs: int) -> dict[str, list[float]]:
    """The times of each way, round by round, after one that captures; by hand, of one round."""
    quick = {name: way for name, way in ways.items() if not name.startswith(BY_HAND)}
    _round(ways)
    rounds = [_round(ways), *(_round(quick) for _ in range(runs - 1))]
    return {way: [one[way] for one in rounds if way in one] for way in ways}


def _round(ways: Mapping[str, Way]) -> dict[str, float]:
    """The time of each way through all texts, a call of one beside a call of another."""
    under_way = {name: way() for name, way in ways.items()}
    done, times = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
    while under_way:
        behind = min(under_way, key=lambda name: done[name])
        start = time.process_time()
        step = next(under_way[behind], None)
        times[behind] += time.process_time() - start
        done[behind] += step or 0
        if step is None:
            del under_way[behind]
    return times


def _clock(folder: Path, texts: list[str], out: Path, workers: int) -> float:
    start = time.perf_counter()
    rows = max(1, len(texts) // max(1, workers))
    fxplain.explain_corpus(str(folder), texts, out, workers=workers, shard_rows=rows)
    return time.perf_counter() - start


def _row(way: str, times: Sequence[float], best: Sequence[float]) -> tuple[str, float, str]:
    ratios = sorted(mine / floor for mine, floor in zip(times, best, strict=False))
    spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(ratios) > 1 else ""
    return way, statistics.median(times), f"{statistics.median(ratios):.2f}{spread}"


def _write(page: Path, rows: Sequence[tuple[str, float, str]], options: argparse.Namespace) -> None:
    """The table between its marks in a page."""
    before, _, after = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = after.partition(END)
    if not end:
        raise SystemExit(f"{page} has no {BEGIN} ... {END}")
    said = (
        f"{options.texts} texts of 5 to 256 tokens, half of them below 27; a BERT of {options.layers} "
        f"layers of {options.features} features; {options.runs} rounds, one thread, torch "
        f"{torch.__version__.partition('+')[0]}; the median, in brackets the lowest and highest."
    )
    lines = [f"| {way} | {ratio} |" for way, _, ratio in rows]
    table = "\n".join(["| way | x the best floor (1.15 asked) |", "|---|---|", *lines])
    page.write_text(f"{before}{BEGIN}\n{said}\n\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
