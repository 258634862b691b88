"""Swin: attention within (shifted) windows, patch merging between stages, mean pooling."""

import numpy as np
import torch
from torch import nn
from transformers import SwinConfig, SwinForImageClassification

from tests.architectures.case import (
    Case,
    Expected,
    Inputs,
    Maps,
    Node,
    draw,
    per_sample,
    randomise,
    ready,
)
from tests.oracle import Oracle

BATCH = 2
WINDOW = 3


def window_tokens(side: int, shift: int) -> np.ndarray:
    """Each window's tokens, (windows, WINDOW²), on a grid rolled by ``shift`` up and left."""
    grid = np.arange(side * side).reshape(side, side)
    windows = []
    for top in range(0, side, WINDOW):
        for left in range(0, side, WINDOW):
            windows.append(
                [
                    grid[(top + i + shift) % side, (left + j + shift) % side]
                    for i in range(WINDOW)
                    for j in range(WINDOW)
                ]
            )
    return np.array(windows)


def embed_windows(maps: np.ndarray, side: int, shift: int) -> np.ndarray:
    """One sample's window maps (windows, k, k) in the matrix of all tokens, zero across windows."""
    full = np.zeros((side * side, side * side))
    for tokens, window in zip(window_tokens(side, shift), maps, strict=True):
        full[np.ix_(tokens, tokens)] = window
    return full


def merging(side: int) -> np.ndarray:
    """Each new token is the mean of a 2 x 2 block of old ones."""
    half = side // 2
    weights = np.zeros((half * half, side * side))
    for row in range(side):
        for column in range(side):
            weights[(row // 2) * half + column // 2, row * side + column] = 1 / 4
    return weights


def swin(seed: int = 21) -> Case:
    target = [5, 2]
    modality, side, depths = "pixel_values", 12, (2, 2)

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = SwinConfig(
            image_size=48,
            patch_size=4,
            embed_dim=16,
            depths=list(depths),
            num_heads=[2, 4],
            window_size=WINDOW,
            mlp_ratio=2.0,
            num_labels=6,
            attn_implementation=attn_implementation,
        )
        _, normal = draw(seed)
        inputs = {"pixel_values": normal(BATCH, 3, 48, 48)}
        return ready(randomise(SwinForImageClassification(config), seed), inputs, dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        paths = [
            [f"swin.encoder.layers.{stage}.blocks.{block}.attention" for block in range(depth)]
            for stage, depth in enumerate(depths)
        ]
        maps = Maps(
            model,
            inputs,
            lambda output: per_sample(output.logits, target),
            [path for stage in paths for path in stage],
        )
        relevance = []
        for b in range(BATCH):
            oracle = Oracle({modality: side * side})
            for stage, blocks in enumerate(paths):
                width = side // 2**stage
                for block, path in enumerate(blocks):
                    of_sample = maps(path).reshape(BATCH, -1, WINDOW**2, WINDOW**2)[b]
                    shift = WINDOW // 2 if block % 2 else 0
                    oracle.self_attention(modality, embed_windows(of_sample, width, shift))
                if stage < len(paths) - 1:
                    oracle.route(modality, merging(width))
            tokens = len(oracle.R[modality, modality])
            oracle.route(modality, np.full((1, tokens), 1 / tokens))  # mean pooling
            relevance.append(oracle.R[modality, modality][0])
        start = np.full((BATCH, side * side), 1 / side**2)
        return Expected({modality: np.stack(relevance)}, {}, {modality: start})

    window = WINDOW**2
    nodes = [
        *[Node("self", (modality,), (modality,), 2, window, window)] * 2,
        *[Node("self", (modality,), (modality,), 4, window, window)] * 2,
    ]
    return Case("swin", make, oracle, target, nodes)


CASES = [swin()]
