"""Capture through `transformers.exporters`, whose patches make more of its own models exportable."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fxplain.capture.captured import Capture, OutputLayout, StateSlot
from fxplain.capture.export import capture_from_program, quiet_export
from fxplain.capture.inputs import ModelInputs
from fxplain.errors import CaptureError

__all__ = ["capture_by_transformers", "is_transformers_model"]


def is_transformers_model(model: nn.Module) -> bool:
    """Whether `model` is one that the installed `transformers` exports (not imported to find out)."""
    modeling = sys.modules.get("transformers.modeling_utils")
    if modeling is None or not isinstance(model, modeling.PreTrainedModel):
        return False
    return importlib.util.find_spec("transformers.exporters") is not None  # from version 5 on


def capture_by_transformers(model: nn.Module, inputs: ModelInputs) -> Capture:
    """Export with `transformers.exporters.exporter_dynamo.DynamoExporter`, shapes fixed.

    The exporter may compute further inputs from the given ones (image grids, chunk lengths); these
    become constants, and the capture then holds for the same input values only.
    """
    exporters: Any = importlib.import_module("transformers.exporters.exporter_dynamo")
    if inputs.args:
        raise CaptureError("the transformers exporter takes keyword arguments only")
    sample = dict(inputs.kwargs)
    with quiet_export(), torch.no_grad():
        config = exporters.DynamoConfig(dynamic=False)
        exported = exporters.DynamoExporter().export(model, sample, config)
        program = getattr(exported, "program", exported)  # older releases return it bare
        given = {id(leaf): name for leaf, name in zip(inputs.leaves, inputs.names, strict=True)}
        prepared = [leaf for leaf in pytree.tree_leaves(sample) if isinstance(leaf, Tensor)]
        names = tuple(given.get(id(leaf), f"prepared_{i}") for i, leaf in enumerate(prepared))
        every = ModelInputs((), sample, names, tuple(prepared), "", inputs.batch_size)
        bare = OutputLayout(None, ())
        capture = capture_from_program(program, every, bare, route="transformers", prefix="")
        capture.output = _without_caches(program, capture.graph_module)
    found = [slot.name for slot in capture.inputs.values() if slot.name in inputs.names]
    if found != list(inputs.names):
        raise CaptureError(f"the exporter replaced some of {sorted(inputs.names)}")
    extra = {k: s for k, s in capture.inputs.items() if s.name not in inputs.names}
    if extra:
        tensors = dict(zip(names, prepared, strict=True))
        for placeholder, slot in extra.items():
            capture.state[placeholder] = StateSlot("constant", slot.name, tensors[slot.name])
            del capture.inputs[placeholder]
        capture.only_for = tuple(leaf.detach().clone() for leaf in inputs.leaves)
    return capture


def _without_caches(
    program: torch.export.ExportedProgram, module: torch.fx.GraphModule
) -> OutputLayout:
    """The layout of the output; what the exporter flattened of caches leaves the graph."""
    before = next(n for n in program.graph.nodes if n.op == "output")
    specs = program.graph_signature.output_specs
    values = [
        node.meta["val"] if isinstance(node, torch.fx.Node) else node
        for node, spec in zip(before.args[0], specs, strict=True)
        if spec.kind.name == "USER_OUTPUT"
    ]
    out_spec = program.call_spec.out_spec
    assert out_spec is not None
    layout, kept = OutputLayout.of(pytree.tree_unflatten(values, out_spec))
    identities = set(map(id, kept))
    tensors = [value for value in values if isinstance(value, Tensor)]
    output = next(n for n in module.graph.nodes if n.op == "output")
    output.args = (
        tuple(
            node
            for node, value in zip(output.args[0], tensors, strict=True)
            if id(value) in identities
        ),
    )
    module.graph.eliminate_dead_code()
    module.recompile()
    return layout
