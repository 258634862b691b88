"""A transformer compiled from a program, so that what causes its answer is known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

__all__ = ["LETTERS", "after_the_same", "asked_after_the_same"]

LETTERS = "abcdefghijklmnop"


def after_the_same() -> nn.Module:
    """Phi-3 that writes the letter that came after the last one's earlier occurrence.

    One head fetches each letter's forerunner, another looks for the place whose forerunner is the
    last letter, and copies the letter there. Nothing is trained: torchwright computes the weights.
    """
    from torchwright import compile_hf_bundle
    from torchwright.graph import RopeConfig
    from torchwright.ops.attention_ops import attend_argmax_dot, attend_to_offset
    from torchwright.ops.inout_nodes import create_onehot_embedding

    rotary = RopeConfig(d_head=32, max_positions=64)
    letter = create_onehot_embedding([*LETTERS])
    before = attend_to_offset(rotary, letter, -1)
    answer = attend_argmax_dot(rotary, letter, before, letter)
    with tempfile.TemporaryDirectory() as folder:
        compile_hf_bundle(
            answer, letter, f"{folder}/made", d=128, d_head=32, max_seq_len=64,
            bos_token=None, eos_token=None, add_bos_token=False, write_tokenizer=False,
        )  # fmt: skip
        return AutoModelForCausalLM.from_pretrained(f"{folder}/made").eval()


def asked_after_the_same(
    count: int, length: int = 12, seed: int = 0
) -> Iterator[tuple[Tensor, int]]:
    """(1, length + 1) letters as ids, of which the last stood there before, and the answer's place."""
    drawing = torch.Generator().manual_seed(seed)
    for _ in range(count):
        ids = torch.randperm(len(LETTERS), generator=drawing)[:length]
        same = int(torch.randint(length - 2, (), generator=drawing))
        yield torch.cat([ids, ids[same : same + 1]])[None], same + 1
