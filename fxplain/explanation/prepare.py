"""The door `prepare`: calls of one form are replayed from the next one on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import as_module, model_tried, on_all_processes
from fxplain.errors import MethodError
from fxplain.explanation.call import Call
from fxplain.explanation.question import Question
from fxplain.explanation.replays import form_of, never
from fxplain.methods import UnitMethod, resolve_method

__all__ = ["prepare"]


@on_all_processes
def prepare(
    model: nn.Module,
    inputs: Mapping[str, Any] | Sequence[Any] | Tensor,
    target: Any = None,
    method: str = "generic",
    **options: Any,
) -> str:
    """Make `fxplain.explain` ready for a form of call: what comes then is replayed.

    The model is captured and checked, and one explanation is recorded as the operations that it is made
    of. Calls with inputs of the same sizes and the same method then make these again, and run neither
    autograd nor the rules; the numbers are the same, and a change of the model is noticed as without.
    The eighth call of a form does that by itself where attention is small (up to four million weights),
    so that nothing has to be prepared.

    Parameters
    ----------
    model, inputs, target, method
        As `fxplain.explain` takes them. Targets of later calls may be others, as long as they are read
        from the same tokens.
    **options
        As `fxplain.explain` takes them, those of the method among them.

    Returns
    -------
    str
        Why calls of this form are not replayed; empty where they are.

    Raises
    ------
    FxplainError
        As `fxplain.explain` does.

    Examples
    --------
    >>> import fxplain, torch
    >>> layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 8), layer, torch.nn.Linear(8, 2))
    >>> fxplain.prepare(model.eval(), (torch.tensor([[1, 2, 3]]),), (0, 1))
    ''
    >>> fxplain.prepare(model, (torch.tensor([[1, 2, 3]]),), (0, 1), method="lrp")
    'lrp does more than one forward and one backward'
    """
    own = {name: options.pop(name) for name in _OF_EXPLAIN if name in options}
    chosen, every = resolve_method(method, options)
    if isinstance(chosen, UnitMethod):
        raise MethodError(
            f"{method!r} runs the model without parts of its inputs, and nothing of that is replayed; "
            f"there is nothing to prepare."
        )
    question = Question(as_module(model), inputs, chosen, every, options, **own).checked()
    with torch.inference_mode(False), model_tried(question.model, inputs):
        question = question.settled()
        call = Call(question)
        if why := never(question, call.captured):
            return why
        form = form_of(question, call.captured, call.program, large=True)
        if form is None:
            return "an option of the method is no plain value"
        if not form.found:
            form.why_not = ""
            form.recorded(call, target)
        return form.why_not


_OF_EXPLAIN = (
    "output", "tokenizer", "engine", "batch_axis", "verify", "strict", "recheck", "recompute",
)  # fmt: skip
