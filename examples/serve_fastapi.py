"""A web service: which words and which parts of a picture an answer draws on, as JSON.

Run it with ``uvicorn examples.serve_fastapi:app``.
"""

from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import fxplain
from fxplain.demo import digits

app = FastAPI(title="fxplain")
model, tokenizer = digits.load_model()
samples = digits.load_samples()


def explained(question: str, picture: int) -> fxplain.Explanation:
    """One explanation; any number of threads may ask at once."""
    mosaic = samples[picture % len(samples)].mosaic
    inputs = digits.encode(tokenizer, [question], torch.stack([mosaic]))
    return fxplain.explain(model, inputs, tokenizer=tokenizer)


explained("warm up", 0)  # the model is captured once, before the first request


@app.exception_handler(fxplain.FxplainError)
def refused(_: Request, error: fxplain.FxplainError) -> JSONResponse:
    """What is wrong with a question (one that is too long) is told to who asked it."""
    return JSONResponse({"error": str(error)}, status_code=422)


@app.get("/explain")
def explain(question: str, picture: int = 0) -> dict[str, Any]:
    """A plain function, so that FastAPI runs it in a thread of its pool."""
    return explained(question, picture).to_dict()
