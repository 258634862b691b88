"""The same explanation on a CUDA device, in every floating type."""

import pytest
import torch

import fxplain
from tests.test_oracle import BY_NAME

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

NAMES = ["bert", "vit", "lxmert", "bart", "detr", "clip", "llama", "swin", "whisper", "t5"]


def on(device: str, name: str, dtype: torch.dtype) -> fxplain.Explanation:
    case = BY_NAME[name]
    model, inputs = case.make(case.implementations[-1], torch.float32)
    model = model.to(device, dtype)
    inputs = {
        k: v.to(device, dtype) if v.is_floating_point() and k != "attention_mask" else v.to(device)
        for k, v in inputs.items()
    }
    return fxplain.explain(model, inputs, target=case.target, output=case.output)


@pytest.mark.parametrize("name", NAMES)
def test_cuda_agrees_with_cpu(name: str) -> None:
    cpu, cuda = on("cpu", name, torch.float64), on("cuda", name, torch.float64)
    for modality, relevance in cpu.relevance.items():
        found = cuda.relevance[modality]
        assert found.device.type == "cuda"
        largest = relevance.abs().max().item()
        torch.testing.assert_close(found.cpu(), relevance, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bert", "llama", "lxmert"])
def test_half_precision_is_finite_and_close(name: str, dtype: torch.dtype) -> None:
    exact, found = on("cuda", name, torch.float64), on("cuda", name, dtype)
    for modality, relevance in exact.relevance.items():
        values = found.relevance[modality].double()
        assert values.isfinite().all()
        assert found.relevance[modality].dtype is torch.float32
        similar = torch.cosine_similarity(values.flatten(), relevance.flatten(), 0)
        assert similar > 0.95


def test_inputs_on_another_device_are_named() -> None:
    case = BY_NAME["bert"]
    model, inputs = case.make(case.implementations[-1], torch.float32)
    with pytest.raises(fxplain.InputError, match=r"input_ids.*cpu"):
        fxplain.explain(model.cuda(), inputs)
