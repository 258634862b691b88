"""The door: `intervene`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any

import torch
from torch import nn

from fxplain.arguments import FUNCTION, YES_NO, Form, checked, optional, shown, whole
from fxplain.capture import as_module, model_tried, on_all_processes
from fxplain.errors import InputError, NoAttentionError
from fxplain.explanation.detection import BatchAxis, no_attention, program_of
from fxplain.explanation.labels import check_tokenizer, token_labels
from fxplain.explanation.resolving import resolve_target
from fxplain.explanation.undifferentiable import causes_named
from fxplain.interventions.attribution import estimated_effects
from fxplain.interventions.choice import Chooser
from fxplain.interventions.cut import Cut
from fxplain.interventions.edits import Edits
from fxplain.interventions.effects import Effects
from fxplain.interventions.masks import Masking
from fxplain.interventions.replacements import Given, check_sizes, replacements
from fxplain.interventions.running import Progress, outputs_of_cuts
from fxplain.interventions.sites import sites_of

__all__ = ["Inputs", "given_of", "intervene"]

Inputs = Any
Cuts = Cut | Sequence[Cut] | Mapping[str, Cut]

_ARE_CUTS = Form(
    "a Cut, a list of cuts, or cuts by name",
    lambda value: isinstance(value, (Cut, list, tuple, Mapping)),
)


@on_all_processes
@checked(
    cuts=_ARE_CUTS,
    estimate=YES_NO,
    batch=optional(whole(1)),
    outputs=YES_NO,
    progress=optional(FUNCTION),
)
def intervene(
    model: nn.Module,
    inputs: Inputs,
    cuts: Cuts,
    target: Any = None,
    *,
    output: str | None = None,
    reference: Inputs | None = None,
    tokenizer: Any = None,
    batch_axis: BatchAxis = None,
    estimate: bool = False,
    batch: int | None = None,
    outputs: bool = False,
    progress: Progress | None = None,
) -> Effects:
    """Cut heads, attention edges, tokens or residual additions of a model, and score what it says then.

    A cut is a rewriting of the captured graph: the model is not changed, no hook is set, and no
    gradient is needed. Many cuts run at once. The target is chosen from the uncut output, so that its
    score is of the same class under every cut.

    Parameters
    ----------
    model
        Any module, in eval mode.
    inputs
        A mapping of argument names (a processor's output as it is) or a tuple of positional
        arguments.
    cuts
        What is cut: a `Cut`, a list of them, each by itself, or a mapping from names. ``a + b`` cuts
        two things at once.
    target, output
        What is scored, as `fxplain.explain` takes it.
    reference
        Other inputs, from which values are put in the place of cut ones (``to="reference"``: patching,
        resampling), or whose mean is (``to="mean"``). For patching they have the inputs' sizes.
    tokenizer
        Anything with ``convert_ids_to_tokens``, so that cuts may name words.
    batch_axis
        As `fxplain.explain` takes it.
    estimate
        Attribution patching: all effects to first order, from one forward and one backward in place of
        a run for each cut. What is cut far from where the gradient holds (a whole layer to zero) may
        come out otherwise.
    batch
        How many cuts run at once, where not as many as memory is likely to hold.
    outputs
        Keep the model's output under every cut.
    progress
        Called with how many cuts are done, and how many there are.

    Returns
    -------
    Effects
        ``.scores`` and ``.effects`` (cuts, batch), ``.baseline`` (batch,); print it.

    Raises
    ------
    InputError
        When a cut names what is not there, touches nothing, or cannot be made in this model.
    FxplainError
        Every error that is the caller's to solve, each with its own subclass and message.

    Examples
    --------
    >>> import fxplain, torch
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> score = lambda output: output[:, 0].square().sum(-1)
    >>> found = fxplain.intervene(
    ...     model, (torch.randn(3, 4, 8),), [fxplain.Cut.heads(0, head) for head in (0, 1)], score
    ... )
    >>> found.effects.shape
    torch.Size([2, 3])
    """
    check_tokenizer(tokenizer)
    named = _named(cuts)
    if estimate and outputs:
        raise InputError("estimate=True makes no outputs: leave outputs=True out, or estimate=.")
    model = as_module(model)
    with torch.inference_mode(False), model_tried(model, inputs):
        given = given_of(model, inputs, batch_axis)
        modalities = given.sites.program.modalities
        labels = {m.name: token_labels(m, given.inputs, tokenizer) for m in modalities}
        masking = Masking(Chooser(given.sites, labels))
        masks = [masking.of(cut) for cut in named.values()]
        with torch.no_grad(), given.capture.own_chance(given.inputs.leaves):
            before = given.run(Edits())
        resolved = resolve_target(
            target, output, model, given.inputs, given.capture, given.sites.program, before
        )
    other = None
    if reference is not None:
        other = _reference(model, reference, batch_axis)
        if any(source == "reference" for own in masks for _, source in own):
            check_sizes(given.inputs, other.inputs)
    with torch.inference_mode(False):
        values = replacements(dict.fromkeys(key for own in masks for key in own), given, other)
        scores, kept = [], []
        if estimate and masks:
            with causes_named(given.capture):
                effects = estimated_effects(given, masks, values, resolved)
            scores = list(resolved.scores + effects)
        else:
            for after in outputs_of_cuts(given, masks, values, batch, progress):
                scores.append(resolved.value(after))
                if outputs:
                    kept.append(given.capture.output.rebuild([x.detach() for x in after]))
    return Effects(
        model=type(model).__name__,
        cuts=tuple(named.values()),
        names=tuple(named),
        target=resolved.description,
        baseline=resolved.scores,
        scores=torch.stack(scores)
        if scores
        else resolved.scores.new_zeros(0, len(resolved.scores)),
        output=given.capture.output.rebuild([x.detach() for x in before]),
        outputs=tuple(kept) if outputs else None,
        estimated=estimate,
    )


def given_of(model: nn.Module, inputs: Inputs, batch_axis: BatchAxis = None) -> Given:
    """A batch of inputs with what can be cut in its capture.

    Warns where the model was recorded: under a cut it might take branches that these inputs did not.

    Raises
    ------
    NoAttentionError
        When the model has no attention over tokens.
    """
    bound, captured, program = program_of(model, inputs, batch_axis)
    if not program.nodes:
        raise NoAttentionError(no_attention(model, program))
    if captured.route == "recorded":
        warnings.warn(
            f"{type(model).__name__} branches on data and was recorded on these inputs: cuts run the "
            f"branches that these inputs took, also where a cut would make the model take others",
            stacklevel=3,
        )
    return Given(captured, model, bound, sites_of(captured, model, bound, program))


def _reference(model: nn.Module, reference: Inputs, batch_axis: BatchAxis) -> Given:
    with torch.inference_mode(False), model_tried(model, reference):
        return given_of(model, reference, batch_axis)


def _named(cuts: Cuts) -> dict[str, Cut]:
    """Cuts by name; those of one name are numbered.

    Raises
    ------
    InputError
        When something among them is no cut.
    """
    if isinstance(cuts, Mapping):
        pairs = [(str(name), cut) for name, cut in cuts.items()]
    else:
        several: list[Any] = [cuts] if isinstance(cuts, Cut) else list(cuts)
        pairs = [(str(cut) if isinstance(cut, Cut) else "", cut) for cut in several]
    named: dict[str, Cut] = {}
    for name, cut in pairs:
        if not isinstance(cut, Cut):
            raise InputError(
                f"cuts must hold only cuts, as Cut.heads(...) makes them, not {shown(cut)}."
            )
        free = chain([name], (f"{name}#{number}" for number in count(2)))
        named[next(each for each in free if each not in named)] = cut
    return named
