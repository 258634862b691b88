"""Train the small T5 that looks up keys, in the order asked, the opposite one or sorted.

The task is in `examples/tasks/lookup.py`. What is reported is about sources drawn from another seed:
there are so many that the model has hardly met one of them in training.

    python -m examples.training.t5_lookup            # train, write the model, check it
    python -m examples.training.t5_lookup --check    # only check what is already there

Training takes about four minutes on one CPU core.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from examples.tasks import lookup
from examples.tasks.lookup import COMMANDS
from examples.training.loop import begin, command_line, fit, print_size
from examples.training.words import word_tokenizer

STEPS = 3500
BATCH_SIZE = 64
PEAK_RATE = 2e-3
CHECK_SEED = "new sources"  # which no training has


def make_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer with one token per word, and ``</s>`` behind the last."""
    return word_tokenizer(
        ("[PAD]", "[UNK]", "</s>", *lookup.vocabulary()),
        template="$A </s>",
        max_length=32,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="</s>",
    )


def make_model(tokenizer: PreTrainedTokenizerBase) -> T5ForConditionalGeneration:
    """An untrained T5, small enough to come with the library."""
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=64,
            d_kv=16,
            d_ff=128,
            num_heads=4,
            num_layers=3,
            num_decoder_layers=3,
            dropout_rate=0.0,
            relative_attention_num_buckets=32,
            relative_attention_max_distance=32,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def train(model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """Train the model in place; every step draws fresh lookups."""
    generator = random.Random(seed)

    def loss_at(_: int) -> Tensor:
        lookups = lookup.draw_lookups(BATCH_SIZE, generator)
        scores = model(**lookup.encode(tokenizer, lookups)).logits
        targets = lookup.encode_targets(tokenizer, lookups)
        return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())

    fit(model, loss_at, STEPS, PEAK_RATE)


@torch.no_grad()
def check(folder: Path) -> None:
    """Print how often a saved model generates the right answer, and how large it is."""
    model, tokenizer = lookup.load_model(folder)
    lookups = lookup.draw_lookups(3000, random.Random(CHECK_SEED))
    inputs = lookup.encode(tokenizer, lookups)
    del inputs["decoder_input_ids"]
    targets = lookup.encode_targets(tokenizer, lookups)
    said = model.generate(**inputs, max_new_tokens=targets.shape[1], do_sample=False)[:, 1:]
    right = (said == targets).all(dim=1)
    print(f"new sources answered right in every word, of {len(lookups)}:")
    for command in COMMANDS:
        asked = [sample.command == command for sample in lookups]
        print(f"  {command:10s} {right[asked].float().mean():6.1%}")
    print(f"  {'total':10s} {right.float().mean():6.1%}")
    print_size(folder)


def main() -> None:
    """Train, save and check the model, or only check it."""
    arguments = begin(command_line(__doc__, lookup.MODEL_FOLDER))
    if not arguments.check:
        tokenizer = make_tokenizer()
        model = make_model(tokenizer)
        train(model, tokenizer, arguments.seed)
        model.save_pretrained(arguments.folder)
        tokenizer.save_pretrained(arguments.folder)
    check(arguments.folder)


if __name__ == "__main__":
    main()
