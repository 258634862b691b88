"""Odd things of each kind: models, inputs, tokenizers, target functions, texts, recordings, rows."""

from __future__ import annotations

import io
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import fxplain
from tests.bad_input.door import Door
from tests.bad_input.given import IDS, explainer, text
from tests.bad_input.values import VALUES

__all__ = ["odd_things"]

Made = Mapping[str, Callable[[], Any]]


class SilentError(Exception):
    """An error that fails when it is read."""

    def __str__(self) -> str:
        raise RuntimeError("do not read me")


def _fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a fault of the user's own")


def _model(forward: Callable[..., Any]) -> nn.Module:
    made = type("Odd", (nn.Module,), {"forward": lambda self, input_ids: forward(input_ids)})()
    return made.eval()


def _raising(error: BaseException) -> nn.Module:
    def forward(_: Any) -> Any:
        raise error

    return _model(forward)


def _with_forward(forward: Any) -> nn.Module:
    made = _model(_fails)
    made.forward = forward
    return made


def _in_itself() -> nn.Module:
    made = _model(_fails)
    made._modules["itself"] = made
    return made


def _returning(change: Callable[[torch.Tensor], Any]) -> nn.Module:
    return _model(lambda input_ids: change(text()(input_ids)))


MODELS: Made = {
    "an error that cannot be read": lambda: _raising(SilentError()),
    "ends the process": lambda: _raising(SystemExit(3)),
    "no forward": lambda: _with_forward(None),
    "a forward of C": lambda: _with_forward(torch.relu),
    "holds itself": _in_itself,
    "nothing but its inputs": lambda: nn.Identity().eval(),
    "returns a nested tensor": lambda: _returning(lambda y: torch.nested.nested_tensor(list(y))),
    "returns a sparse tensor": lambda: _returning(torch.Tensor.to_sparse),
    "returns no values": lambda: _returning(lambda y: y.to("meta")),
    "returns what is too deep": lambda: _returning(lambda y: [VALUES["deep"](), y]),
    "returns no class": lambda: _returning(lambda y: y[:, :0]),
    "returns 8 bits": lambda: _returning(lambda y: y.to(torch.float8_e4m3fn)),
    "returns a sum of the batch": lambda: _returning(lambda y: y.sum(0)),
}


class Failing(dict):  # type: ignore[type-arg]
    """A mapping that fails when it is opened."""

    __getitem__ = __iter__ = items = keys = values = get = _fails  # type: ignore[assignment]


def _freed() -> torch.Tensor:
    made = IDS.clone()
    made.untyped_storage().resize_(0)
    return made


INPUTS: Made = {
    "a mapping that fails": lambda: Failing(input_ids=IDS),
    "a mask that fails": lambda: {"input_ids": IDS, "attention_mask": Failing(a=1)},
    "freed memory": lambda: (_freed(),),
    "a masked array": lambda: (np.ma.masked_array(IDS.numpy(), IDS.numpy() > 9),),
    "128 bits": lambda: (IDS.numpy().astype(np.longdouble),),
}

SCORES: Made = {
    "ends the process": lambda: lambda output: sys.exit(1),
    "sparse": lambda: lambda output: output[:, 0].to_sparse(),
    "no values": lambda: lambda output: output[:, 0].to("meta"),
    "fails in its backward": lambda: lambda output: (output.register_hook(_fails), output[:, 0])[1],
    "a million numbers": lambda: lambda output: [0.0] * 10**6,
}


def _tokenizer(**methods: Any) -> Any:
    made = {"convert_ids_to_tokens": lambda self, ids: [str(i) for i in ids], **methods}
    return type("Tokenizer", (), made)()


TOKENIZERS: Made = {
    "a class": lambda: type(_tokenizer()),
    "fails": lambda: _tokenizer(convert_ids_to_tokens=_fails),
    "makes nothing": lambda: _tokenizer(convert_ids_to_tokens=lambda self, ids: None),
    "makes too few": lambda: _tokenizer(convert_ids_to_tokens=lambda self, ids: ["a"]),
    "ids that are texts": lambda: _tokenizer(all_special_ids=["a"]),
    "ids that fail": lambda: _tokenizer(all_special_ids=property(_fails)),
    "a pad that is a text": lambda: _tokenizer(pad_token_id="x"),
}


def _wav(lacking: int) -> bytes:
    sound = np.zeros(800, "<i2").tobytes()
    head = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + head
    chunks += b"data" + struct.pack("<I", len(sound)) + sound[: len(sound) - lacking]
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def _torn() -> Any:
    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, "PNG")
    return Image.open(io.BytesIO(whole.getvalue()[:9000]))


IMAGES: Made = {
    "read no further": _torn,
    "a nested tensor": lambda: torch.nested.nested_tensor([torch.rand(2, 2)]),
    "8 bits of a fraction": lambda: torch.rand(3, 9, 9).to(torch.float8_e4m3fn),
    "a masked array": lambda: np.ma.masked_array(np.ones((9, 9)), np.eye(9)),
}
ROWS: Made = {
    "half a letter": lambda: [{"text": "\ud800"}],
    "an array of one": lambda: np.array("a"),
    "a length that fails": lambda: type("Rows", (list,), {"__len__": _fails})(["a"]),
    "no path": lambda: "",
}


def odd_things() -> Iterator[Door]:
    """Each odd thing where it is given; all are refused."""
    rows = {"text": "text", "on_error": "raise"}
    doors: dict[str, tuple[Callable[[Any], Any], Made]] = {
        "explain(odd model)": (lambda x: fxplain.explain(x, (IDS,)), MODELS),
        "explain(odd inputs)": (lambda x: fxplain.explain(text(), x, 1), INPUTS),
        "explain(target=odd function)": (lambda x: fxplain.explain(text(), (IDS,), x), SCORES),
        "explain(odd tokenizer)": (
            lambda x: fxplain.explain(text(), (IDS,), 1, tokenizer=x), TOKENIZERS,
        ),
        "Explainer(odd image)": (lambda x: explainer("vit")(image=x), IMAGES),
        "Explainer(audio cut off by)": (
            lambda lacking: explainer("wav2vec2")(audio=_wav(lacking)),
            {"2": lambda: 2, "800": lambda: 800},
        ),
        "explain_corpus(odd data)": (
            lambda x: fxplain.explain_corpus(explainer("classifier"), x, tempfile.mkdtemp(), **rows),
            ROWS,
        ),
    }  # fmt: skip
    for name, (call, values) in doors.items():
        yield Door(name, call, values=values)
