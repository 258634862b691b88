"""The command ``fxplain serve``."""

from __future__ import annotations

from typing import Annotated

import torch
import typer

import fxplain
from fxplain.cli.commands import app
from fxplain.cli.options import Debug, Device, Model, Precision, TaskName
from fxplain.cli.terminal import errors_reported, note, progress, quiet
from fxplain.extras import extra

__all__ = ["serve"]

NEEDS = "fxplain serve needs Starlette and uvicorn: pip install 'fxplain[serve]'."


@app.command()
def serve(
    model: Model,
    task: TaskName = None,
    device: Device = None,
    dtype: Precision = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="NAME", help="Where to listen, if not to this machine alone."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen.")] = 8321,
    debug: Debug = False,
) -> None:
    """Explain a model live in a browser: ask, strike words and patches out, silence heads.

    Listens on this machine alone unless --host says otherwise. Never runs code that comes with a
    model.
    """
    with errors_reported(debug):
        uvicorn = extra("uvicorn", NEEDS)
        extra("starlette", NEEDS)
        from fxplain.serving import Desk, create_app
        from fxplain.serving.app import LOCAL

        quiet(debug)
        precision = {"dtype": getattr(torch, dtype)} if dtype else {}
        with progress("loading the model"):
            explainer = fxplain.from_pretrained(model, task, device=device, **precision)
        made = create_app(Desk(explainer), hosts=[*LOCAL, host] if host in LOCAL else ["*"])
        note(f"http://{host}:{port} answers; Ctrl+C ends it")
        uvicorn.run(made, host=host, port=port, log_level="warning", access_log=False)
