"""Linear layers with packed weights, as GPTQ, AWQ and HQQ have them: eight of four bits in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Coded", "Codes", "Packed", "PackedFunction", "in_place_of_linear", "unpacked"]


class Packed(nn.Module):
    """Unpacks, scales and shifts its weights in each call."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        low = weight.amin(1, keepdim=True)
        self.scale = nn.Parameter((weight.amax(1, keepdim=True) - low) / 15, requires_grad=False)
        self.register_buffer("zero", low)
        whole = ((weight - low) / self.scale).round().to(torch.int32)
        packed = (whole.unflatten(1, [-1, 8]) << torch.arange(0, 32, 4)).sum(-1, dtype=torch.int32)
        self.register_buffer("packed", packed)
        self.bias = linear.bias

    def weight(self) -> Tensor:
        """(outputs, inputs) as numbers."""
        shifts = torch.arange(0, 32, 4, device=self.packed.device)
        whole = ((self.packed[..., None] >> shifts) & 15).flatten(1)
        return whole.to(self.scale.dtype) * self.scale + self.zero

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self.weight().t()) + self.bias


class _Product(torch.autograd.Function):
    """Keeps the packed weights for the backward in the place of the unpacked ones."""

    @staticmethod
    def forward(context: Any, x: Tensor, layer: Packed) -> Tensor:
        context.layer = layer
        return torch.matmul(x, layer.weight().t())

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return torch.matmul(gradient, context.layer.weight()), None


class PackedFunction(Packed):
    """The same with a backward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self) + self.bias


class Codes(nn.Parameter):
    """Weights in 8 bits with what they are made of kept on them, which a copy of the tensor loses."""

    scale: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Codes:
        scale = weight.detach().abs().amax(1, keepdim=True) / 127
        made = torch.Tensor._make_subclass(cls, (weight.detach() / scale).round().to(torch.int8))
        made.scale = scale
        return made


class Coded(nn.Module):
    """Reads what is kept on its weight, by a kernel that no gradient comes through."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.codes = Codes.of(linear.weight)
        self.bias = linear.bias

    def weight(self) -> Tensor:
        """(outputs, inputs) as numbers."""
        return self.codes.detach() * self.codes.scale

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.matmul(x, self.weight().t()) + self.bias


def in_place_of_linear(
    model: nn.Module, kind: Callable[[nn.Linear], nn.Module], only: str = ""
) -> nn.Module:
    """The model with packed layers."""
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Linear and name.endswith(only):
                setattr(part, name, kind(child))
    return model.eval()


def unpacked(model: nn.Module, kind: Callable[[nn.Linear], Any] = Packed) -> nn.Module:
    """The model with the weights that packing leaves of its own."""
    for part in model.modules():
        if type(part) is nn.Linear:
            part.weight.data = kind(part).weight().detach()
    return model
