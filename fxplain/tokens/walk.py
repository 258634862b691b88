"""The walk over the captured graph that follows every token through it, operation by operation."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from fxplain.capture import Capture, ModelInputs, module_path
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.flow import TokenFlow
from fxplain.tokens.op_table import kind_of, rule_for
from fxplain.tokens.sampling import weighs_samples
from fxplain.tokens.updates import AttentionSite, RejectedSoftmax

__all__ = ["follow_tokens", "walked"]


def follow_tokens(
    capture: Capture, model: nn.Module, inputs: ModelInputs, *, keep_tags: bool = False
) -> TokenFlow:
    """Follow every token of `inputs` through the captured graph.

    Requires a functional graph. Does not change the graph and, unless an index depends on
    activations (token pruning, routing), runs no layer of the model. With `keep_tags` the result
    holds the tags of every node.
    """
    labels: frozenset[fx.Node] = frozenset()
    shared: frozenset[fx.Node] = frozenset()
    while True:
        analysis = Analysis(capture, model, inputs, kind_of, labels, shared)
        flow, joiner = walked(analysis), analysis.joiner
        if joiner.found_labels <= labels and joiner.found_shared <= shared:
            break
        labels, shared = labels | joiner.found_labels, shared | joiner.found_shared
    if keep_tags:
        flow.tags = analysis.all_tags()
    return flow


def walked(analysis: Analysis) -> TokenFlow:
    """The flow of one walk."""
    output: fx.Node | None = None
    for node in analysis.capture.graph.nodes:
        analysis.note_origins(node)
        if node.op == "call_function" and analysis.carries_tokens(node):
            analysis.note(node, rule_for(node)(analysis, node))
        elif node.op == "output":
            output = node
    assert output is not None
    returned: Any = output.args[0]
    results = [n for n in returned if isinstance(n, fx.Node)]
    sites = [u for u in analysis.updates if isinstance(u, AttentionSite)]
    return TokenFlow(
        analysis.book,
        analysis.versions,
        analysis.updates,
        _rejected(analysis, {site.softmax for site in sites}),
        [analysis.tags(node) for node in results],
        [analysis.shape(node) for node in results],
        list(analysis.warnings),
        analysis.values.read,
        {site.softmax: analysis.shape(site.softmax) for site in sites},
        context=tuple(analysis.joiner.context),
        seen=analysis.seen(),
        arguments=analysis.elements.arguments,
    )


def _rejected(analysis: Analysis, used: set[fx.Node]) -> list[RejectedSoftmax]:
    """The softmaxes that no attention site uses, and why they are none."""
    rejected = []
    for node, reason in analysis.softmaxes.items():
        if node in used:
            continue
        if weighs_samples(node):
            reason = "weights over sampled points, not over tokens"
        reason = reason or "its weights are never contracted against tokens"
        rejected.append(RejectedSoftmax(node.name, module_path(node), reason))
    return rejected
