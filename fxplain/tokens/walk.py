"""The walk over the captured graph that follows every token through it, operation by operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs, module_path, operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.copies import spelled_out, with_copies
from fxplain.tokens.flow import TokenFlow
from fxplain.tokens.idle import without_idle_routes
from fxplain.tokens.known import Known
from fxplain.tokens.op_table import kind_of, rule_for
from fxplain.tokens.places import places_apart, repeated_places
from fxplain.tokens.sampling import weighs_samples
from fxplain.tokens.standing import standing_constants, standing_tokens
from fxplain.tokens.tag import Level, Tag, Tags, tokens_in
from fxplain.tokens.updates import AttentionSite, Mixing, RejectedSoftmax, Update

__all__ = ["follow_tokens", "walked"]


def follow_tokens(
    capture: Capture, model: nn.Module, inputs: ModelInputs, *, keep_tags: bool = False
) -> TokenFlow:
    """Follow every token of `inputs` through the captured graph.

    Requires a functional graph. Does not change the graph and, unless an index depends on
    activations (token pruning, routing), runs no layer of the model. With `keep_tags` the result
    holds the tags of every node.
    """
    known = Known()
    while True:
        analysis = Analysis(capture, model, inputs, kind_of, known)
        flow = walked(analysis)
        more = known | found(analysis)
        if more == known:
            break
        known = more
    if keep_tags:
        flow.tags = analysis.all_tags()
    return flow


def found(analysis: Analysis) -> Known:
    """What a walk has found that the next one must know from the start."""
    return Known(
        frozenset(analysis.conditions.found_labels),
        frozenset(analysis.learned.found_shared),
        frozenset(analysis.fields.found_apart),
        repeated_places(analysis),
        standing_constants(analysis),
    )


def walked(analysis: Analysis) -> TokenFlow:
    """The flow of one walk."""
    output: fx.Node | None = None
    for node in analysis.capture.graph.nodes:
        analysis.note_origins(node)
        if node.op == "call_function" and analysis.carries_tokens(node):
            made = _fitting(analysis, node, rule_for(node)(analysis, node))
            if node in analysis.known.repeating:
                made = places_apart(analysis, node, made)
            if node in analysis.known.standing:
                made = standing_tokens(analysis, node)
            analysis.note(node, spelled_out(analysis, node, made))
        elif isinstance(node.meta.get("val"), torch.SymFloat) and node.users:
            _note_number(analysis, node)
        elif node.op == "output":
            output = node
    assert output is not None
    with_copies(analysis)
    returned: Any = output.args[0]
    results = [n for n in returned if isinstance(n, fx.Node)]
    sites = [u for u in analysis.updates if isinstance(u, AttentionSite)]
    outputs = [_without_prototypes(analysis, _touched(analysis.tags(node))) for node in results]
    return TokenFlow(
        analysis.book,
        analysis.versions,
        without_idle_routes(analysis, outputs),
        _rejected(analysis, {site.softmax for site in sites}),
        outputs,
        [analysis.shape(node) for node in results],
        list(analysis.warnings),
        analysis.values.read,
        {site.softmax: analysis.shape(site.softmax) for site in sites},
        context=tuple(analysis.conditions.context),
        conditions=frozenset(analysis.conditions.births),
        pairs=frozenset(analysis.conditions.pairs),
        seen=analysis.seen(),
        arguments=analysis.elements.arguments,
    )


def _fitting(a: Analysis, node: fx.Node, made: Tagged) -> Tagged:
    """What a rule made of a node; what does not lie as its values do is dropped, and that is said."""
    if isinstance(made, list):
        return made
    shape = tuple(a.shape(node)) if made else ()
    kept = tuple(tag for tag in made if _fits(tuple(tag.ids.shape), shape))
    if len(kept) < len(made):
        a.warn_of_mixing(node)
    return kept


def _fits(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(own) == len(shape) and all(
        size in (1, whole) for size, whole in zip(own, shape, strict=True)
    )


def _note_number(a: Analysis, node: fx.Node) -> None:
    """Warn of a number that is taken out of tokens (``.item()``): none goes with it."""
    if any(
        a.is_lost(n) or any(tag.level > Level.RAW_INPUT for tag in a.tags(n))
        for n in node.all_input_nodes
    ):
        a.warn(
            f"{node.target} in {module_path(node) or 'the model'} makes a number of what tokens say: "
            f"what is computed with it does not hear of them"
        )


def _touched(tags: Tags) -> Tags:
    """Without inputs that no weight has touched: a statistic that is returned is no token's."""
    return tuple(tag for tag in tags if tag.level is not Level.RAW_INPUT)


def _without_prototypes(a: Analysis, tags: Tags) -> Tags:
    """Without learned vectors that the output is compared with, a class's each: they are weights.

    They are no tokens unless attention or a route had a part in them.
    """
    learned = [tag for tag in tags if _all_learned(a, tag)]
    if not learned or len(learned) == len(tags):
        return tags
    updated = [t for update in a.updates for t in _tokens_of(update)]
    known = a.book.find(torch.cat(updated)) if updated else torch.empty(0, dtype=torch.int64)
    return tuple(
        tag for tag in tags
        if tag not in learned or bool(torch.isin(a.book.find(tag.tokens), known[known >= 0]).any())
    )  # fmt: skip


def _all_learned(a: Analysis, tag: Tag) -> bool:
    tokens = a.book.find(tag.tokens)
    births = a.book.births_united(tokens[tokens >= 0])
    return bool(births) and all(a.book.births[i].learned for i in births)


def _tokens_of(update: Update) -> list[Tensor]:
    if isinstance(update, AttentionSite):
        return [tokens_in(update.rows).flatten(), tokens_in(update.columns).flatten()]
    old = update.old if isinstance(update, Mixing) else tokens_in(update.old)
    return [update.new.flatten(), old.flatten()]


def _rejected(analysis: Analysis, used: set[fx.Node]) -> list[RejectedSoftmax]:
    """The softmaxes that no attention site uses, and why they are none."""
    rejected = []
    for node, reason in analysis.softmaxes.items():
        if node in used:
            continue
        if weighs_samples(node):
            reason = "weights over sampled points, not over tokens"
        reason = reason or "its weights are never contracted against tokens"
        if _over_samples(analysis, node):
            analysis.warn(
                f"softmax in {module_path(node) or 'the model'} normalises over the samples of the "
                f"batch: what is read of one depends on those beside it"
            )
        rejected.append(RejectedSoftmax(node.name, module_path(node), reason))
    return rejected


def _over_samples(a: Analysis, node: fx.Node) -> bool:
    """Whether a softmax runs along tokens of several samples."""
    source, dim = node.all_input_nodes[0], arguments(node).get("dim")
    if "softmax" not in operation_name(node) or not isinstance(dim, int) or not a.shape(source):
        return False
    axis = dim % len(a.shape(source))
    for tag in a.tags(source):
        if tag.varies(axis):
            samples = a.book.samples(a.book.find(tag.tokens))
            low = torch.where(samples < 0, samples.amax(axis, keepdim=True), samples).amin(axis)
            if bool((low < samples.amax(axis)).any()):
                return True
    return False
