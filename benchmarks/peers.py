"""fxplain beside its peers on the same models: ``python -m benchmarks.peers [--only NAME]``.

Each method runs in a process of its own, in turns with the floor: one forward and one backward to the
embeddings. Time is process time of one thread, as a ratio to the floor; memory is the peak above the
loaded model. A peer that is not installed, or fails, says why. The peers' versions are those of
``benchmarks/peers-requirements.txt``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import fxplain
from benchmarks.columns import STEPS, floor, integrated_gradients, recipe
from benchmarks.measure import Peak
from benchmarks.models import bert
from benchmarks.warm import decoder, floor_of

Call = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=MODELS, help="one model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measured(*options.one, options.rounds)))
        return
    table = Table("model", "method", "x floor, time", "peak memory", title="beside peers")
    for model in [options.only] if options.only else MODELS:
        for method in MODELS[model]:
            table.add_row(model, method, *_row(model, method, options.rounds))
    console = Console(width=130)
    console.print(table)
    names = ("fxplain", "torch", "transformers", "captum", "inseq", "lxt")
    console.print(", ".join(f"{name} {_version(name)}" for name in names))


def _row(model: str, method: str, rounds: int) -> tuple[str, str]:
    command = [sys.executable, "-m", "benchmarks.peers", "--one", model, method]
    run = subprocess.run([*command, "--rounds", str(rounds)], capture_output=True, text=True)
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["no word"]
        return "-", lines[-1][:70]
    found = json.loads(run.stdout.splitlines()[-1])
    low, middle, high = found["ratio"]
    return f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{found['peak'] / 2**20:.0f} MiB"


def measured(model: str, method: str, rounds: int) -> dict[str, Any]:
    """The ratios of one method's time to the floor's, and its peak of memory."""
    torch.set_num_threads(1)
    below, call = MODELS[model][method]()
    below()
    peak = Peak("cpu")
    call()  # what is done once
    most = peak.of(call)
    ratios = sorted(_process_time(call) / _process_time(below) for _ in range(rounds))
    return {"ratio": (ratios[0], statistics.median(ratios), ratios[-1]), "peak": most}


def _process_time(call: Call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


# ---- an encoder ---------------------------------------------------------------------------------


def _bert(column: Callable[[Any], Call]) -> Callable[[], tuple[Call, Call]]:
    def make() -> tuple[Call, Call]:
        workload = bert(128, tiny=False)
        return floor(workload), column(workload)

    return make


def _explain(**options: Any) -> Callable[[Any], Call]:
    return lambda workload: (
        lambda: fxplain.explain(workload.model, workload.inputs, target=workload.target, **options)
    )


# ---- decoders -----------------------------------------------------------------------------------


def _causal(
    make_model: Callable[[], tuple[nn.Module, dict[str, Tensor], Call]],
    method: Callable[[nn.Module, dict[str, Tensor]], Call],
) -> Callable[[], tuple[Call, Call]]:
    def make() -> tuple[Call, Call]:
        model, inputs, below = make_model()
        return below, method(model, inputs)

    return make


def _ours(**options: Any) -> Callable[[nn.Module, dict[str, Tensor]], Call]:
    return lambda model, inputs: lambda: fxplain.explain(model, inputs, target=1, **options)


def _gpt2() -> tuple[nn.Module, dict[str, Tensor], Call]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=1000,
        n_embd=256,
        n_layer=6,
        n_head=8,
        n_positions=256,
        bos_token_id=3,
        eos_token_id=2,
    )
    model = GPT2LMHeadModel(config).eval()
    inputs = {"input_ids": torch.randint(5, 999, (1, 100))}
    return model, inputs, floor_of(model, inputs, lambda logits: logits[:, -1, 1].sum())


def _llama() -> tuple[nn.Module, dict[str, Tensor], Call]:
    return decoder(8, 256, 256)


def _inseq(method: str) -> Callable[[nn.Module, dict[str, Tensor]], Call]:
    """Inseq on the last of 100 words, of a tokenizer that knows the model's words by number."""

    def make(model: nn.Module, inputs: dict[str, Tensor]) -> Call:
        import inseq
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {f"w{i}": i for i in range(1000)}
        spelled = Tokenizer(models.WordLevel(words, unk_token="w0"))
        spelled.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=spelled, unk_token="w0", pad_token="w1", eos_token="w2", bos_token="w3"
        )
        text = " ".join(f"w{i}" for i in inputs["input_ids"][0].tolist())
        if method == "attention":
            model.set_attn_implementation("eager")  # it reads the weights that the model returns
        attributed = inseq.load_model(model, method, tokenizer=tokenizer)
        return lambda: attributed.attribute(text, f"{text} w7", show_progress=False)

    return make


def _lxt(model: nn.Module, inputs: dict[str, Tensor]) -> Call:
    """LXT's efficient AttnLRP: a gradient of a model whose modules it has patched."""
    from lxt.efficient import monkey_patch
    from transformers.models.llama import modeling_llama

    monkey_patch(modeling_llama)

    def call() -> Tensor:
        embedded = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        score = model(inputs_embeds=embedded, use_cache=False).logits[:, -1, 1].sum()
        return (torch.autograd.grad(score, embedded)[0] * embedded).sum(-1)

    return call


MODELS: dict[str, dict[str, Callable[[], tuple[Call, Call]]]] = {
    "BERT-base, 128 tokens": {
        "fxplain, generic": _bert(_explain()),
        "fxplain, input x gradient, corrected": _bert(
            _explain(method="input_x_gradient", gradients="corrected")
        ),
        "fxplain, lrp": _bert(_explain(method="lrp")),
        "the classic recipe": _bert(recipe),
        f"captum, integrated gradients, {STEPS} steps": _bert(integrated_gradients),
    },
    "GPT-2-like 6 x 256, 100 tokens": {
        "fxplain, generic": _causal(_gpt2, _ours()),
        "inseq, saliency": _causal(_gpt2, _inseq("saliency")),
        "inseq, attention": _causal(_gpt2, _inseq("attention")),
    },
    "Llama-like 8 x 256, 256 tokens": {
        "fxplain, generic": _causal(_llama, _ours()),
        "fxplain, lrp": _causal(_llama, _ours(method="lrp")),
        "LXT, efficient AttnLRP": _causal(_llama, _lxt),
    },
}

if __name__ == "__main__":
    main()
