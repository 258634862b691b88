"""What a warm call still loses beside the model's own work: ``python -m benchmarks.warm [NAME ...]``.

Tiny models, where nothing but Python and small operations cost; ratios of process time, of calls that
take turns in one process. The floor is one forward and one backward to the embeddings.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fxplain
from benchmarks.measure import Peak
from fxplain.explanation import replays

Call = Callable[[], object]
Row = tuple[str, str, str]

_WAITING = frozenset({
    "_local_scalar_dense", "equal", "is_nonzero", "item", "masked_select", "nonzero", "_unique2",
    "unique_consecutive", "unique_dim",
})  # fmt: skip
"""ATen operations whose answer the processor has to wait for."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    unknown = set(options.names) - FIGURES.keys()
    if unknown:
        parser.error(
            f"no such figure: {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}"
        )
    torch.set_num_threads(1)
    table = Table("figure", "measured", "bar", title="a warm call")
    for name in options.names or FIGURES:
        for row in FIGURES[name](options.rounds):
            table.add_row(*row)
    Console(width=120).print(table)


def waits(rounds: int) -> list[Row]:
    del rounds
    model, inputs, _ = encoder(12, 1)
    _warm(lambda: fxplain.explain(model, inputs, target=1))
    with Waits() as seen:
        fxplain.explain(model, inputs, target=1)
    return [("operations that wait for a device, 12 layers", str(seen.count), "4")]


def batches(rounds: int) -> list[Row]:
    rows = []
    for layers, batch, bar in ((12, 1, "1.5"), (4, 32, "1.8"), (4, 256, "1.8")):
        model, inputs, floor = encoder(layers, batch)
        with _as_first():
            found = ratio(lambda: fxplain.explain(model, inputs, target=1), floor, rounds)  # noqa: B023
        rows.append((f"tiny {layers}-layer model, batch {batch}, x floor", found, bar))
        why_not = fxplain.prepare(model, inputs, 1)
        found = ratio(lambda: fxplain.explain(model, inputs, target=1), floor, rounds)  # noqa: B023
        rows.append(("the same, replayed", why_not or found, "1.3" if layers == 12 else bar))
    return rows


def targets(rounds: int) -> list[Row]:
    model, inputs, _ = encoder(4, 1, tokens=64, classes=100)
    one, many = (
        lambda: fxplain.explain(model, inputs, target=1),
        lambda: fxplain.explain(model, inputs, targets=range(100)),
    )
    with _as_first():
        found = ratio(many, one, min(rounds, 5))
    return [("100 targets / 1", found, "25")]


def causal(rounds: int) -> list[Row]:
    del rounds
    rows = []
    small, inputs, _ = decoder(2, 32, 16)
    fxplain.explain(small, inputs, target=1)  # what a process imports once is no part of a call
    for tokens, bar in ((8192, "forward + 80 MiB"), (16384, "1.15 x floor")):
        model, inputs, floor = decoder(2, 32, tokens)
        calls = (
            torch.no_grad()(lambda: model(**inputs)),  # noqa: B023
            floor,
            lambda: fxplain.explain(model, inputs, target=1),  # noqa: B023
        )
        calls[0]()
        peak = Peak("cpu")
        found = [peak.of(call) / 2**20 for call in (*calls, calls[-1])]
        rows.append((
            f"causal, {tokens:,} tokens: forward, floor, first call, warm",
            ", ".join(f"{each:.0f}" for each in found) + " MiB",
            bar,
        ))  # fmt: skip
    return rows


def mutual(rounds: int) -> list[Row]:
    """Two modalities that attend to each other: equation 10 looks back at self-relevancies."""
    del rounds
    small, inputs, _ = two_towers(8)
    fxplain.explain(small, inputs, target=1)
    model, inputs, floor = two_towers(2048)
    calls = (floor, lambda: fxplain.explain(model, inputs, target=1))
    floor()
    peak = Peak("cpu")
    of_floor, first, warm = (peak.of(call) / 2**20 for call in (*calls, calls[-1]))
    return [
        (
            "LXMERT, 3 co-attention layers, 2,048 words and boxes: floor, first call, warm",
            f"{of_floor:.0f}, {first:.0f}, {warm:.0f} MiB",
            "1.3 x floor",
        )
    ]


def lrp(rounds: int) -> list[Row]:
    model, inputs, floor = decoder(8, 256, 256)
    found = ratio(lambda: fxplain.explain(model, inputs, target=1, method="lrp"), floor, rounds)
    return [("lrp, Llama-like 8 x 256, 256 tokens, x floor", found, "2.5")]


def saving(rounds: int) -> list[Row]:
    model, inputs, _ = decoder(2, 32, 4096)
    explained = fxplain.explain(model, inputs, target=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.json"
        found = ratio(
            lambda: explained.save(path),
            lambda: fxplain.explain(model, inputs, target=1),
            min(rounds, 5),
        )
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    whole = ratio(
        lambda: fxplain.explain(model, inputs, target=1).matrix("input_ids", "input_ids"),
        lambda: fxplain.explain(model, inputs, target=1),
        3,
    )
    return [
        ("save at 4,096 tokens / explain", f"{found}, {size / 2**20:.2f} MiB", "1, 2 MiB"),
        ("matrix() at 4,096 tokens / explain", whole, "3"),
    ]


def cold(rounds: int) -> list[Row]:
    del rounds
    model, inputs, _ = encoder(60, 1)
    start = time.process_time()
    fxplain.inspect(model, inputs)
    whole = time.process_time() - start
    bound = fxplain.capture.bind_inputs(model, inputs)
    fresh, _, _ = encoder(60, 1)
    start = time.process_time()
    captured = fxplain.capture.capture(fresh, bound)
    alone = time.process_time() - start
    del captured
    return [
        ("inspect, 60 layers, first call", f"{whole:.1f} s", "10 s"),
        ("beyond the capture / the capture", f"{(whole - alone) / alone:.2f}", "0.33"),
    ]


FIGURES: Mapping[str, Callable[[int], list[Row]]] = {
    "waits": waits,
    "batches": batches,
    "targets": targets,
    "causal": causal,
    "mutual": mutual,
    "lrp": lrp,
    "saving": saving,
    "cold": cold,
}


class Waits(TorchDispatchMode):
    """Counts operations whose answer is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).split(".")[1] in _WAITING
        return func(*args, **(kwargs or {}))


@contextmanager
def _as_first() -> Iterator[None]:
    """Calls that come again and again are made as the first ones, and not replayed."""
    before = replays.FIRST
    replays.FIRST = sys.maxsize
    try:
        yield
    finally:
        replays.FIRST = before


def ratio(above: Call, below: Call, rounds: int) -> str:
    """Median, lowest and highest of the rounds' ratios of process time."""
    _warm(above)
    _warm(below)
    found = []
    for _ in range(rounds):
        found.append(_process_time(above) / _process_time(below))
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _warm(call: Call) -> None:
    for _ in range(2):
        call()


def _process_time(call: Call) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def encoder(
    layers: int, batch: int, *, tokens: int = 16, classes: int = 2
) -> tuple[nn.Module, dict[str, Tensor], Call]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=64, num_labels=classes,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    ids = torch.randint(5, 999, (batch, tokens))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return model, inputs, floor_of(model, inputs, lambda logits: logits[:, 1].sum())


def decoder(layers: int, width: int, tokens: int) -> tuple[nn.Module, dict[str, Tensor], Call]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=width, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=2 * width, max_position_embeddings=tokens,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    inputs = {"input_ids": torch.randint(5, 999, (1, tokens))}
    return model, inputs, floor_of(model, inputs, lambda logits: logits[:, -1, 1].sum())


def two_towers(tokens: int) -> tuple[nn.Module, dict[str, Tensor], Call]:
    from transformers import LxmertConfig, LxmertForQuestionAnswering

    torch.manual_seed(0)
    config = LxmertConfig(
        vocab_size=1000, hidden_size=32, num_attention_heads=2, intermediate_size=64, l_layers=1,
        r_layers=1, x_layers=3, num_qa_labels=7, visual_feat_dim=8, max_position_embeddings=tokens,
    )  # fmt: skip
    model = LxmertForQuestionAnswering(config).eval()
    boxes = {"visual_feats": torch.randn(1, tokens, 8), "visual_pos": torch.rand(1, tokens, 4)}
    inputs = {"input_ids": torch.randint(5, 999, (1, tokens)), **boxes}

    def call() -> tuple[Tensor, ...]:
        words = model.lxmert.embeddings.word_embeddings(inputs["input_ids"])
        sources = (words.detach().requires_grad_(), boxes["visual_feats"].clone().requires_grad_())
        given = {"visual_feats": sources[1], "visual_pos": boxes["visual_pos"]}
        score = model(inputs_embeds=sources[0], **given).question_answering_score
        return torch.autograd.grad(score[0, 1], sources)

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model, inputs, call


def floor_of(
    model: nn.Module, inputs: Mapping[str, Tensor], score: Callable[[Tensor], Tensor]
) -> Call:
    """One forward and one backward to the embeddings, parameters frozen."""

    def call() -> Tensor:
        ids = inputs["input_ids"]
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        others = {name: value for name, value in inputs.items() if name != "input_ids"}
        logits = model(inputs_embeds=embedded, **others).logits
        return torch.autograd.grad(score(logits), embedded)[0]

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return call


if __name__ == "__main__":
    main()
