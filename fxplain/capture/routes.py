"""The routes to a capture, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fxplain.capture.captured import Capture
from fxplain.capture.export import capture_by_export
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.record import capture_by_recording
from fxplain.capture.transformers_export import capture_by_transformers, is_transformers_model

__all__ = ["routes_for"]

Route = Callable[[], Capture]


def routes_for(model: nn.Module, inputs: ModelInputs) -> list[tuple[str, Route]]:
    """Export with free axes, export with fixed ones, the transformers exporter, the recorder."""
    routes: list[tuple[str, Route]] = [
        ("export", lambda: capture_by_export(model, inputs, dynamic=True)),
        ("export with fixed shapes", lambda: capture_by_export(model, inputs, dynamic=False)),
    ]
    if is_transformers_model(model):
        routes.append(("transformers exporter", lambda: capture_by_transformers(model, inputs)))
    routes.append(("recorder", lambda: capture_by_recording(model, inputs)))
    return routes
