"""The command ``fxplain serve``."""

from __future__ import annotations

from typing import Annotated

import torch
import typer

import fxplain
from fxplain.cli.commands import app
from fxplain.cli.options import Debug, Device, Precision, TaskName
from fxplain.cli.terminal import errors_reported, note, progress, quiet
from fxplain.extras import extra

__all__ = ["serve"]

NEEDS = "fxplain serve needs Starlette and uvicorn: pip install 'fxplain[serve]'."


@app.command()
def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A save_pretrained folder, or a hub id.", show_default=False
        ),
    ],
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
    also_model: Annotated[
        list[str] | None,
        typer.Option(
            "--also-model",
            metavar="MODEL",
            help="Another checkpoint for the same inputs, to compare with. Several: repeat it.",
            show_default=False,
        ),
    ] = None,
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
        names = [model, *(also_model or ())]
        with progress("loading the model"):
            explainer, *others = (
                fxplain.from_pretrained(name, task, device=device, **precision) for name in names
            )
        desk = Desk(explainer, others=dict(zip(names[1:], others, strict=True)))
        made = create_app(desk, hosts=[*LOCAL, host] if host in LOCAL else ["*"])
        note(f"http://{host}:{port} answers; Ctrl+C ends it")
        uvicorn.run(made, host=host, port=port, log_level="warning", access_log=False)
