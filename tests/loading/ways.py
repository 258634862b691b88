"""The ways: each makes of a plain model one that people really have."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils import parametrizations, prune
from torch.utils.flop_counter import FlopCounterMode

from tests.loading.packed import Coded, Packed, PackedFunction, in_place_of_linear, unpacked

__all__ = ["WAYS", "Reader", "Way", "inputs", "plain"]

IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
EXACT, ROUNDED, COARSE = 1e-5, 2e-2, 0.2


@dataclass(frozen=True)
class Way:
    """One way to have a model.

    Attributes
    ----------
    name
        What people call it.
    made
        From the plain model (a copy of its own) to what is explained.
    like
        From the plain model to the one that it must agree with: itself, or the same change by hand.
    within
        The most by which relevance may differ, in shares of the largest.
    needs
        A package that must be there.
    around
        A context in which it is explained.
    refused
        A part of the message with which it is refused; None where it is explained.
    """

    name: str
    made: Callable[[nn.Module], Any]
    like: Callable[[nn.Module], nn.Module] = lambda model: model
    within: float = EXACT
    needs: str | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    refused: str | None = None


class Reader(nn.Module):
    """Two layers of attention over words, read at the first."""

    def __init__(self, width: int = 16, classes: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(10, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.head = nn.Linear(width, classes)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


class Layer(nn.Module):
    """Attention and a perceptron, each added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q = self.q(y).unflatten(-1, [-1, 8]).transpose(1, 2)
        k = self.k(y).unflatten(-1, [-1, 8]).transpose(1, 2)
        v = self.v(y).unflatten(-1, [-1, 8]).transpose(1, 2)
        y = self.attend(q, k, v)
        x = x + self.out(y.transpose(1, 2).flatten(-2))
        return x + self.down(self.up(x).relu())

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


def plain(width: int = 16, classes: int = 3) -> Reader:
    """The plain model, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Reader(width, classes)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.5)
    return model.eval()


def inputs() -> tuple[Tensor]:
    """What it is called with."""
    return (IDS.clone(),)


# ---- the ways -----------------------------------------------------------------------------------


def changed(change: Callable[[nn.Module], Any]) -> Callable[[nn.Module], nn.Module]:
    """A way that changes the model in place."""

    def made(model: nn.Module) -> nn.Module:
        change(model)
        return model.eval()

    return made


def each_linear(change: Callable[[nn.Linear], Any]) -> Callable[[nn.Module], nn.Module]:
    """A way that changes every linear layer."""

    def made(model: nn.Module) -> nn.Module:
        for part in [m for m in model.modules() if type(m) is nn.Linear]:
            change(part)
        return model.eval()

    return made


def seeded_spectral_norm(part: nn.Module) -> nn.Module:
    """Its power iteration starts from random vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return parametrizations.spectral_norm(part)


def exported(model: nn.Module) -> Any:
    return torch.export.export(model, (IDS,))


def adapted(kind: str, **options: Any) -> Callable[[nn.Module], nn.Module]:
    def made(model: nn.Module) -> nn.Module:
        peft = import_module("peft")
        torch.manual_seed(1)
        return peft.get_peft_model(model, getattr(peft, kind)(**options)).eval()

    return made


def merged(way: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    return lambda model: way(model).merge_and_unload().eval()


SPECTRAL = each_linear(lambda part: seeded_spectral_norm(part))
PRUNED = each_linear(lambda part: prune.l1_unstructured(part, "weight", 0.2))
IA3 = adapted(
    "IA3Config", target_modules=["k", "v"], feedforward_modules=[], init_ia3_weights=False
)
LORA = adapted("LoraConfig", target_modules=["q", "v"], init_lora_weights=False)
OTHERS = {
    name: adapted(f"{kind}Config", target_modules=["q", "v"], init_weights=False, **options)
    for name, kind, options in [
        ("LoHa", "LoHa", {}), ("LoKr", "LoKr", {}), ("OFT", "OFT", {"oft_block_size": 8}),
        ("BOFT", "BOFT", {"boft_block_size": 8}), ("VeRA", "Vera", {"r": 4}), ("HRA", "HRA", {}),
        ("FourierFT", "FourierFT", {"n_frequency": 20}), ("RandLoRA", "RandLora", {"r": 4}),
        ("C3A", "C3A", {"block_size": 8}), ("MiSS", "Miss", {"r": 8}),
        ("RoAd", "Road", {"group_size": 8}),
    ]
}  # fmt: skip
DORA = adapted("LoraConfig", target_modules=["q", "v"], init_lora_weights=False, use_dora=True)


def pruned_for_good(model: nn.Module) -> nn.Module:
    for part in [
        m for m in PRUNED(model).modules() if prune.is_pruned(m) and isinstance(m, nn.Linear)
    ]:
        prune.remove(part, "weight")
    return model


def offloaded(model: nn.Module) -> nn.Module:
    return import_module("accelerate").cpu_offload(model, execution_device="cpu")


def on_disk(model: nn.Module) -> nn.Module:
    folder = tempfile.mkdtemp()
    return import_module("accelerate").disk_offload(model, folder, execution_device="cpu")


def hooked(model: nn.Module) -> nn.Module:
    model.layers[0].register_forward_hook(lambda module, args, output: output * 1.5)
    return model.eval()


class Scaled(nn.Module):
    """A layer with its output scaled, as the hook does."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * 1.5


def scaled(model: nn.Module) -> nn.Module:
    model.layers[0] = Scaled(model.layers[0])
    return model.eval()


class Wrapped(nn.Module):
    """A model that passes on all that it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return {"scores": self.model(*args, **kwargs)}


class Checkpointed(nn.Module):
    """Layers that are computed again in the backward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Any:
        from torch.utils.checkpoint import checkpoint

        x = self.model.words(input_ids)
        for layer in self.model.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.model.head(x[:, 0])


def quantized(model: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8).eval()


class Flexible(Layer):
    """The same attention by another function."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flex_attention(q, k, v)


def flexible(model: nn.Module) -> nn.Module:
    for layer in model.layers:
        layer.__class__ = Flexible
    return model


def packed(kind: Callable[[nn.Linear], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    return lambda model: in_place_of_linear(model, kind)


def meta_device() -> AbstractContextManager[Any]:
    return torch.device("meta")


def torchao(config: str, **options: Any) -> Callable[[nn.Module], nn.Module]:
    def made(model: nn.Module) -> nn.Module:
        module = import_module("torchao.quantization")
        module.quantize_(model, getattr(module, config)(**options))
        return model

    return made


def halved(model: nn.Module) -> nn.Module:
    """HQQ: four bits in groups, unpacked in each call."""
    layers = import_module("hqq.core.quantize")
    config = layers.BaseQuantizeConfig(nbits=4, group_size=8)
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Linear:
                made = layers.HQQLinear(
                    child, config, compute_dtype=torch.float32, device="cpu", initialize=True
                )
                setattr(part, name, made)
    return model.eval()


def by_hand(way: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    """The way's model with linear layers that do what its own do to unit vectors and to nothing."""

    def made(model: nn.Module) -> nn.Module:
        packed = way(model)
        for part in list(packed.modules()):
            for name, child in list(part.named_children()):
                if hasattr(child, "in_features"):
                    layer = nn.Linear(child.in_features, child.out_features)
                    units = torch.eye(child.in_features)[None]
                    with torch.no_grad():
                        layer.bias.copy_(child(torch.zeros(1, 1, child.in_features))[0, 0])
                        layer.weight.copy_((child(units)[0] - layer.bias).T)
                    setattr(part, name, layer)
        return packed.eval()

    return made


def by_hqq(model: nn.Module) -> nn.Module:
    """The plain model with the weights that HQQ's layers unpack."""
    for part, other in zip(model.modules(), halved(copy.deepcopy(model)).modules(), strict=True):
        if type(part) is nn.Linear:
            part.weight.data = other.dequantize().float()
    return model


def quanto(weights: str, activations: str = "") -> Callable[[nn.Module], nn.Module]:
    def made(model: nn.Module) -> nn.Module:
        module = import_module("optimum.quanto")
        kinds = {"weights": getattr(module, weights)}
        if activations:
            kinds["activations"] = getattr(module, activations)
        module.quantize(model, **kinds)
        with module.Calibration() if activations else nullcontext():
            model(IDS)
        module.freeze(model)
        return model.eval()

    return made


def by_onnx(model: nn.Module) -> nn.Module:
    """Written as an ONNX file by PyTorch, read back as a module."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/model.onnx"
        torch.onnx.export(
            model, (IDS,), file, dynamo=False, opset_version=17, input_names=["input_ids"]
        )
        read = import_module("onnx2torch").convert(file).eval()
    for part in read.modules():  # it keeps weights as buffers, which no row of is learned
        for name, value in list(part.named_buffers(recurse=False)):
            if value.is_floating_point() and value.dim() > 1:
                delattr(part, name)
                part.register_parameter(name, nn.Parameter(value))
    return read


def in_bits(kind: str, **options: Any) -> Callable[[nn.Module], nn.Module]:
    """bitsandbytes: linear layers whose weights are packed when they come to a device."""

    def made(_model: nn.Module) -> nn.Module:
        model = plain(width=64, classes=64)  # its kernels work on blocks
        layer = getattr(import_module("bitsandbytes").nn, kind)
        for part in list(model.modules()):
            for name, child in list(part.named_children()):
                if type(child) is nn.Linear:
                    packed = layer(child.in_features, child.out_features, **options)
                    packed.load_state_dict(child.state_dict())
                    setattr(part, name, packed.to("cpu"))
        return model.eval()

    return made


INT8, FLOAT8 = torchao("Int8WeightOnlyConfig"), torchao("Float8WeightOnlyConfig")
W8A8 = torchao("Int8DynamicActivationInt8WeightConfig")
IN_8_BITS = in_bits("Linear8bitLt", has_fp16_weights=False)
IN_4_BITS = in_bits("Linear4bit")


def autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


def scripted(model: nn.Module) -> Any:
    return torch.jit.script(model)


def traced(model: nn.Module) -> Any:
    return torch.jit.trace(model, (IDS,), check_trace=False)


def jit_traced_part(model: nn.Module) -> nn.Module:
    layer, x = model.layers[0], torch.randn(2, IDS.shape[1], 16)
    model.layers[0] = torch.jit.trace(layer, x, check_trace=False)
    return model


def reloaded(model: nn.Module) -> Any:
    file = io.BytesIO()
    torch.jit.save(traced(model), file)
    file.seek(0)
    return torch.jit.load(file)


def compiled_part(model: nn.Module) -> nn.Module:
    model.layers[0] = torch.compile(model.layers[0], backend="aot_eager")
    return model


def pickled(model: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: tuple[Way, ...] = (
    Way("the module itself", lambda model: model),
    Way("copied, pickled", lambda model: pickle.loads(pickle.dumps(copy.deepcopy(model)))),
    Way("`torch.save` and `torch.load` of the module", pickled),
    Way("frozen (`requires_grad_(False)`)", changed(lambda model: model.requires_grad_(False))),
    Way("in `torch.no_grad()`", lambda model: model, around=torch.no_grad),
    Way("in `torch.inference_mode()`", lambda model: model, around=torch.inference_mode),
    Way("a wrapper with `*args, **kwargs`", lambda model: Wrapped(model).eval()),
    Way("`nn.DataParallel`", lambda model: nn.DataParallel(model).eval()),
    Way("a forward hook that changes the output", hooked, like=scaled),
    Way("activation checkpointing", lambda model: Checkpointed(model).eval()),
    Way("`torch.compile`", lambda model: torch.compile(model)),
    Way("`module.compile()`", changed(lambda model: model.compile())),
    Way("`torch.export`: `ExportedProgram`", exported),
    Way("`ExportedProgram.module()`", lambda model: exported(model).module()),
    Way("`ExportedProgram.run_decompositions()`", lambda model: exported(model).run_decompositions()),
    Way("`make_fx`, after dispatch", lambda model: make_fx(lambda ids: model(ids))(IDS)),
    Way("`torch.fx.symbolic_trace`", lambda model: torch.fx.symbolic_trace(model)),
    Way("`torch.jit.trace`", traced),
    Way("`torch.jit.script`", scripted, refused="TorchScript"),
    Way("`torch.jit.freeze`", lambda model: torch.jit.freeze(scripted(model)), refused="TorchScript"),
    Way("`torch.jit.trace` as a part", jit_traced_part),
    Way("`torch.jit.trace`, saved and loaded", reloaded, refused="TorchScript"),
    Way("`torch.compile` as a part", compiled_part),
    Way("`torch.export.unflatten`", lambda model: torch.export.unflatten(exported(model)).eval()),
    Way("`AveragedModel`", lambda model: torch.optim.swa_utils.AveragedModel(model).eval()),
    Way("weight norm", each_linear(lambda part: parametrizations.weight_norm(part))),
    Way("spectral norm", SPECTRAL, like=SPECTRAL),
    Way("pruned", PRUNED, like=pruned_for_good),
    Way("float64", lambda model: model.double()),
    Way("bfloat16", lambda model: model.bfloat16(), within=COARSE),
    Way("float16", lambda model: model.half(), within=ROUNDED),
    Way("in autocast", lambda model: model, around=autocast, within=COARSE),
    Way("PEFT: LoRA", LORA, like=merged(LORA), needs="peft"),
    Way("PEFT: DoRA", DORA, like=merged(DORA), needs="peft"),
    Way("PEFT: IA3", IA3, like=merged(IA3), needs="peft"),
    *(Way(f"PEFT: {name}", way, like=merged(way), needs="peft") for name, way in OTHERS.items()),
    Way("accelerate: `cpu_offload`", offloaded, needs="accelerate"),
    Way("accelerate: `disk_offload`", on_disk, needs="accelerate"),
    Way("`flex_attention`", flexible),
    Way("GPTQ's, AWQ's or HQQ's kind: packed integers", packed(Packed), like=unpacked),
    Way("packed integers with a backward of their own", packed(PackedFunction), like=unpacked),
    Way("bitsandbytes' kind: a class of its own", packed(Coded),
        like=lambda model: unpacked(model, Coded)),
    Way("in `torch.autograd.graph.save_on_cpu()`", lambda model: model,
        around=torch.autograd.graph.save_on_cpu),
    Way("in `FlopCounterMode`", lambda model: model, around=lambda: FlopCounterMode(display=False),
        refused="explain outside of it"),
    Way("in `torch.device('meta')`", lambda model: model, around=meta_device,
        refused="explain outside of it"),
    Way("`quantize_dynamic`, int8", quantized, like=by_hand(quantized)),
    Way("torchao: int8 weights", INT8, like=by_hand(INT8), needs="torchao"),
    Way("torchao: float8 weights", FLOAT8, like=by_hand(FLOAT8), needs="torchao"),
    Way("torchao: int8 weights and activations", W8A8, like=by_hand(W8A8), needs="torchao"),
    Way("HQQ: four bits", halved, like=by_hqq, needs="hqq"),
    Way("bitsandbytes: 8 bits", IN_8_BITS, like=by_hand(IN_8_BITS), needs="bitsandbytes"),
    Way("bitsandbytes: 4 bits", IN_4_BITS, like=by_hand(IN_4_BITS), needs="bitsandbytes",
        within=1e-3),  # its kernel computes in bfloat16 on some processors
    Way("quanto: int8 weights", quanto("qint8"), like=by_hand(quanto("qint8")),
        needs="optimum.quanto"),
    Way("quanto: int8 weights and activations", quanto("qint8", "qint8"), needs="optimum.quanto",
        refused="no gradient comes through"),
    Way("ONNX, by onnx2torch", by_onnx, needs="onnx2torch"),
    Way("on the meta device", lambda model: model.to("meta"), refused="has a shape but no values"),
    Way("in training mode", lambda model: model.train(), refused="model.eval()"),
)  # fmt: skip
