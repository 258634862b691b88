"""The law: what every tag and version claims, tried on the model itself.

A value depends *directly* on an update (an attention node, a route) or a birth if it depends on it
with the outputs of all attention nodes held at their recorded values. Then a row depends directly on a
token's birth exactly if its tag is that token and its version holds `IDENTITY`, and on row t of
attention node k exactly if its tag is t and its version holds k. So births and rows are disturbed, and
every row must move exactly if its tag says so: bit by bit, without any rule of the token analysis.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs, chance_kept, draws, operation_name
from fxplain.program import Program
from fxplain.tokens import IDENTITY, AttentionSite, RouteSite, Tag, Tags, TokenFlow, tokens_in
from fxplain.verification.claims import Claims, canonical_tokens, claimed_tags, mixes_neighbours
from fxplain.verification.judging import Finding, change_of, judge
from fxplain.verification.lockstep import lockstep
from fxplain.verification.sources import Source, sources_of

__all__ = ["Culprit", "Law", "Probe", "probes", "used_values"]


@dataclass(frozen=True, eq=False)
class Probe:
    """One disturbed run: for each source, which of its tokens are disturbed.

    Every token is disturbed at one source at most, so that no source hides behind another one.
    """

    chosen: tuple[tuple[Source, Tensor], ...]
    seed: int

    def claims(self, program: Program) -> Claims:
        """What the tags say about this probe."""
        disturbed: dict[int, Tensor] = {IDENTITY: _nobody(program)}
        for source, tokens in self.chosen:
            disturbed[source.update] = disturbed.get(source.update, _nobody(program)) | tokens
        for site in program.flow.updates:
            if isinstance(site, AttentionSite):
                disturbed.setdefault(site.index, _nobody(program))
        return Claims(program, disturbed)

    def noise(self, sign: float = 1.0) -> dict[fx.Node, Callable[[Tensor], Tensor]]:
        """What each disturbed node's value is replaced by."""
        parts: dict[fx.Node, list[Tensor]] = {}
        for source, tokens in self.chosen:
            here = (source.tokens >= 0) & tokens[source.tokens.clamp(min=0)]
            if bool(here.any()):
                parts.setdefault(source.node, []).append(here)
        return {node: _disturbed(masks, self.seed, sign) for node, masks in parts.items()}


def _nobody(program: Program) -> Tensor:
    return torch.zeros(len(program.flow.book), dtype=torch.bool)


def _disturbed(masks: Sequence[Tensor], seed: int, sign: float) -> Callable[[Tensor], Tensor]:
    def disturb(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        generator = torch.Generator().manual_seed(seed)
        scale = value.abs().float().nan_to_num(0, 0, 0).mean() + 0.1
        noise = torch.randn(value.shape, generator=generator).to(value.device) * scale * sign
        for mask in masks:
            value = torch.where(mask.to(value.device), value + noise.to(value.dtype), value)
        return value

    return disturb


def probes(program: Program, sources: Sequence[Source], count: int, seed: int) -> Iterator[Probe]:
    """Disturb each token at a source of its own choice, or not at all.

    Nearly half of the tokens stay as they are; of the rest half is disturbed where it was born. Joint
    sources are disturbed together.
    """
    generator = torch.Generator().manual_seed(seed)
    size = len(program.flow.book)
    joint = [source.joint for source in sources]
    group = [joint.index(True) if own else i for i, own in enumerate(joint)]
    holds = torch.zeros(len(sources), size, dtype=torch.bool)
    for i, source in zip(group, sources, strict=True):
        holds[i, source.tokens[source.tokens >= 0]] = True
    at_birth = torch.tensor([source.update == IDENTITY for source in sources], dtype=torch.bool)
    for number in range(count):
        luck = torch.rand(len(sources), size, generator=generator)
        drawn = torch.rand(size, generator=generator)
        first = holds & at_birth.unsqueeze(1) & (drawn < 0.3)
        allowed = torch.where(first.any(0), first, holds)
        choice = torch.where(allowed, luck, -1).argmax(0)
        active = allowed.any(0) & (drawn < 0.55)
        chosen = [(s, active & (choice == i)) for i, s in zip(group, sources, strict=True)]
        yield Probe(tuple((s, t) for s, t in chosen if bool(t.any())), seed + number)


def used_values(flow: TokenFlow, outputs: Sequence[fx.Node]) -> dict[fx.Node, str]:
    """Where claims are used: queries, keys, values and scores of sites, routes, and the outputs."""
    used: dict[fx.Node, str] = {}
    for site in flow.updates:
        if isinstance(site, AttentionSite):
            if site.form == "fused":
                operands = [n for n in site.node.args[:3] if isinstance(n, fx.Node)]
            else:
                operands = [site.values, *_scores(site)]
            used.update(dict.fromkeys(operands, f"read by {operation_name(site.node)}"))
        elif isinstance(site, RouteSite):
            used[site.node] = "made by a route"
    used.update(dict.fromkeys(outputs, "an output"))
    return used


def _pooled_values(flow: TokenFlow) -> dict[fx.Node, list[RouteSite]]:
    """The values that routes are made of, and which."""
    found: dict[fx.Node, list[RouteSite]] = {}
    for site in flow.updates:
        if isinstance(site, RouteSite):
            for node in site.node.all_input_nodes:
                found.setdefault(node, []).append(site)
    return found


def _scores(site: AttentionSite) -> list[fx.Node]:
    """What the weights of a site that is not fused are made of, before they are normalised.

    Where a softmax is written out (an exponential, a maximum that is subtracted, a sum), these are
    the products of queries and keys before that.
    """
    node = site.softmax
    if "softmax" in operation_name(node):
        return node.all_input_nodes[:1]
    while node.op == "call_function" and node.all_input_nodes:
        if operation_name(node) in ("matmul", "bmm", "baddbmm", "mm"):
            return [node]
        node = node.all_input_nodes[0]
    return []


def _chosen(node: fx.Node, finding: Finding) -> Finding:
    """A finding without rows that a condition took from elsewhere: a choice is a factor of 0."""
    if operation_name(node) not in ("where", "masked_fill") or not len(finding.credited):
        return finding
    still = torch.cat([finding.still, finding.credited])
    return replace(finding, ghosts=0, credited=finding.credited[:0], still=still)


def _finer(node: fx.Node, tags: Sequence[Tag], finding: Finding, claims: Claims) -> Finding:
    """A finding without tokens of several rows that are mixed with their neighbours there.

    The rows of one token are followed together (pixels finer than its grid, frames made of it): what
    one of them hears of the next token, its other ones hand on in the picture and not in the model.
    """
    if not len(finding.credited) or not mixes_neighbours(node):
        return finding
    tokens = torch.cat([claims.tokens_of(tag).flatten() for tag in tags])
    found, rows = tokens.unique(return_counts=True)
    finer = torch.isin(finding.credited, found[rows > 1])
    credited = finding.credited[~finer]
    still = torch.cat([finding.still, finding.credited[finer]])
    ghosts = finding.ghosts if len(credited) else 0
    return replace(finding, ghosts=ghosts, credited=credited, still=still)


def own_maxima(graph: fx.Graph) -> set[fx.Node]:
    """Maxima that are only taken off what they are the maximum of.

    Softmax does so to stay within the range of floats, and models do it beforehand. It changes no
    weight, so that nothing depends on the maximum: it is held.
    """
    return {
        node
        for node in graph.nodes
        if operation_name(node) in ("max", "amax")
        and node.all_input_nodes
        and _only_taken_off(node, node.all_input_nodes[0])
    }


def picks_of(program: Program) -> set[fx.Node]:
    """Maxima and the like of which it is claimed that each is one of the values that they are of.

    Which one it is was read from the run: it is held, as the order of a sort is.
    """
    tags, found, canonical = program.flow.tags, set[fx.Node](), canonical_tokens(program)
    for node in tags:
        made = node.args[0] if node.target is operator.getitem and node.args[1] == 0 else node
        if isinstance(made, fx.Node) and operation_name(made) in _PICKS:
            own, of = (_tokens_of(canonical, tags, n) for n in (node, made.all_input_nodes[0]))
            if own and own <= of:
                found.add(made)
    return found


def _tokens_of(canonical: Tensor, tags: Mapping[fx.Node, Tags], node: fx.Node) -> set[int]:
    real = [tag.tokens[tag.tokens >= 0] for tag in tags.get(node, ())]
    return {token for tokens in real for token in canonical[tokens].unique().tolist()}


_PICKS = ("max", "amax", "min", "amin", "median", "nanmedian", "kthvalue", "mode")


def made_of_weights(flow: TokenFlow) -> set[fx.Node]:
    """What attention weights make of a learned table: it carries no token, and is held as they are."""
    nothing = {i for i in range(len(flow.versions)) if not flow.versions.of(i)}
    return {
        node
        for node, tags in flow.tags.items()
        if tags and all(tag.version in nothing for tag in tags)
        and any(t.softmax for n in node.all_input_nodes for t in flow.tags.get(n, ()))
    }  # fmt: skip


def sums_of_softmaxes(flow: TokenFlow) -> set[fx.Node]:
    """The logarithms of sums that attentions' softmaxes divide by, where a model computes them, too.

    Parts of the keys that are attended to apart are weighed by them, as by one softmax over all: they
    are held as the weights are.
    """
    return {
        user
        for site in flow.updates
        if isinstance(site, AttentionSite) and "softmax" in operation_name(site.softmax)
        for user in site.softmax.all_input_nodes[0].users
        if operation_name(user) == "logsumexp" and _same_axis(user, site.softmax)
    }


def _same_axis(sum_: fx.Node, softmax: fx.Node) -> bool:
    value = softmax.meta.get("val")
    own, other = sum_.args[1], softmax.args[1]
    own = own[0] if isinstance(own, (list, tuple)) and len(own) == 1 else own
    if not isinstance(value, Tensor) or not isinstance(own, int) or not isinstance(other, int):
        return False
    return own % value.dim() == other % value.dim()


def _only_taken_off(node: fx.Node, whole: fx.Node) -> bool:
    """Whether a value, however it is laid out, is only subtracted from another one."""
    for user in node.users:
        if operation_name(user) == "sub":
            if user.args[0] is not whole:
                return False
        elif (
            user.target is not operator.getitem and operation_name(user) not in _LAID_OUT
        ) or not _only_taken_off(user, whole):
            return False
    return bool(node.users)


_LAID_OUT = ("unsqueeze", "view", "reshape", "expand", "detach", "alias")


@dataclass
class Culprit:
    """The first operation whose result contradicts its tags, and what it does further down.

    Attributes
    ----------
    node
        The operation.
    leaks, ghosts
        Rows of its result that move and should not, and that should and do not.
    tokens
        Canonical tokens of these rows.
    touched
        The used values behind it that break the law.
    """

    node: fx.Node
    leaks: int = 0
    ghosts: int = 0
    tokens: set[int] = field(default_factory=set)
    touched: set[fx.Node] = field(default_factory=set)


class Law:
    """The law for one model and one input.

    Parameters
    ----------
    captured, model, inputs, program
        What runs, and what is claimed of it; the program's flow has to hold its tags.
    """

    def __init__(
        self, captured: Capture, model: nn.Module, inputs: ModelInputs, program: Program
    ) -> None:
        self.program, self.module, self.inputs = program, captured.graph_module, inputs
        self.values = captured.bind(model, inputs)
        flow = program.flow
        self.sites = {u.output for u in flow.updates if isinstance(u, AttentionSite)}
        self.frozen = self.sites | {n for n in captured.graph.nodes if draws(n)}
        self.frozen |= own_maxima(captured.graph) | made_of_weights(flow) | sums_of_softmaxes(flow)
        self.picks = picks_of(program)
        output = next(n for n in captured.graph.nodes if n.op == "output")
        self.used = used_values(flow, output.all_input_nodes)
        self.order = {node: i for i, node in enumerate(captured.graph.nodes)}
        self.sources = sources_of(program)
        self.anew = {s.node: s.tokens >= 0 for s in self.sources if s.anew}
        self.pooled = _pooled_values(flow)
        self.shares_of_nothing = False
        """Whether some route was seen to give a share to rows that are 0 whatever their token is."""
        self.runs = 0.0
        self._reach: dict[fx.Node, set[fx.Node]] = {}

    def probe(self, chosen: Sequence[tuple[Source, Tensor]]) -> Probe:
        """A probe that disturbs some tokens of some sources."""
        return Probe(tuple(chosen), 0)

    def of(self, sources: Sequence[Source]) -> Law:
        """The same law, tried at other sources."""
        other = copy(self)
        other.sources = list(sources)
        return other

    def check(self, count: int, seed: int = 0) -> list[Culprit]:
        """Try `count` probes; the culprits of what breaks, in graph order."""
        found: dict[fx.Node, Culprit] = {}
        for probe in probes(self.program, self.sources, count, seed):
            claims = probe.claims(self.program)
            found_now, _ = self._judged(probe, claims, {*self.used, *self.pooled}, 1.0)
            self.shares_of_nothing |= self._shares_of_nothing(found_now)
            suspects = {node: finding for node, finding in found_now.items() if node in self.used}
            if any(suspects.values()):
                self._culprits(probe, claims, suspects, found)
        return sorted(found.values(), key=lambda culprit: self.order[culprit.node])

    def moves(
        self, outputs: Collection[fx.Node], tokens: Tensor, *, through_attention: bool = False
    ) -> bool:
        """Whether an output moves when some tokens are disturbed at all their sources, and strongly.

        By more than rounding: of what is added and taken off again nothing else is left.

        With `through_attention`, nothing is held but random draws.
        """
        probe = self.probe([(source, tokens) for source in self.sources])
        moved: list[bool] = []

        def compare(node: fx.Node, plain: Any, other: Any) -> None:
            if node in outputs and isinstance(plain, Tensor) and isinstance(other, Tensor):
                moved.append(bool((change_of(plain, other, range(plain.dim())) > 1).any()))

        with torch.no_grad(), chance_kept(self.inputs.leaves):
            lockstep(
                self.module,
                self.values,
                frozen={n for n in self.frozen if draws(n)} if through_attention else self.frozen,
                anew={} if through_attention else self.anew,
                noise=probe.noise(10.0),
                compare=compare,
                picks=() if through_attention else self.picks,
            )
        return any(moved)

    def _judged(
        self, probe: Probe, claims: Claims, where: Any, sign: float
    ) -> tuple[dict[fx.Node, Finding], set[fx.Node]]:
        """The findings at some nodes (at all if None) of two runs, and which nodes were reached."""
        findings: dict[fx.Node, Finding] = {}
        reached: set[fx.Node] = set()
        tags = self.program.flow.tags

        def compare(node: fx.Node, plain: Any, other: Any) -> None:
            reached.add(node)
            if (where is not None and node not in where) or node in self.sites:
                return
            own = claimed_tags(tags.get(node, ()))
            if any(tag.softmax is not None for tag in own):
                return  # weights on their way to values: what they carry is the node's
            finding = judge(own, plain, other, claims)
            if finding is not None and len(finding.credited):
                reaching = self._reaching(node, probe).claims(self.program)
                again = judge(own, plain, other, reaching)
                assert again is not None
                finding = replace(finding, ghosts=again.ghosts, credited=again.credited)
            if finding is not None:
                findings[node] = _finer(node, own, _chosen(node, finding), claims)

        with torch.no_grad(), chance_kept(self.inputs.leaves):
            own = lockstep(
                self.module,
                self.values,
                frozen=self.frozen,
                anew=self.anew,
                noise=probe.noise(sign),
                compare=compare,
                picks=self.picks,
            )
        calls = sum(node.op == "call_function" for node in self.module.graph.nodes)
        self.runs += 1 + own / max(calls, 1)
        return findings, reached

    def _shares_of_nothing(self, findings: Mapping[fx.Node, Finding]) -> bool:
        """Whether a route gives a share to rows that are 0 whatever their token is."""
        canonical = canonical_tokens(self.program)
        return any(
            bool(torch.isin(canonical[tokens_in(site.old[site.weights != 0])], finding.still).any())
            for node, finding in findings.items()
            for site in self.pooled.get(node, ())
        )

    def _reaching(self, node: fx.Node, probe: Probe) -> Probe:
        """A probe without what is disturbed where no way leads to the node.

        A token with several births (keys and values that are embedded apart) is in all of them.
        """
        return replace(
            probe,
            chosen=tuple(
                (source, tokens)
                for source, tokens in probe.chosen
                if source.node is node or node in self._behind(source.node)
            ),
        )

    def _behind(self, node: fx.Node) -> set[fx.Node]:
        """What a value reaches while attention outputs are held."""
        if node not in self._reach:
            found, todo = set[fx.Node](), [node]
            while todo:
                further = [n for n in todo.pop().users if n not in found and n not in self.frozen]
                found.update(further)
                todo += further
            self._reach[node] = found
        return self._reach[node]

    def _broken(
        self, findings: Mapping[fx.Node, Finding]
    ) -> dict[fx.Node, tuple[int, int, Tensor]]:
        """Leaks, ghosts and their tokens of nodes that are not excused by what comes before them."""
        excused = torch.zeros_like(canonical_tokens(self.program), dtype=torch.bool)
        broken: dict[fx.Node, tuple[int, int, Tensor]] = {}
        for node, finding in findings.items():
            excused[finding.still] = True
            excused[finding.faint] = True
            credited = finding.credited[~excused[finding.credited]]
            ghosts = finding.ghosts if len(credited) else 0
            if finding.leaks or ghosts:
                broken[node] = (finding.leaks, ghosts, torch.cat([finding.leaked, credited]))
        return broken

    def _culprits(
        self,
        probe: Probe,
        claims: Claims,
        suspects: dict[fx.Node, Finding],
        found: dict[fx.Node, Culprit],
    ) -> None:
        """Judge all values, once more and with other noise, and find where it begins."""
        everywhere, reached = self._judged(probe, claims, None, -1.7)
        broken = self._broken(everywhere)
        if any(ghosts for _, ghosts, _ in broken.values()):  # units that are off may wake up
            strongly, _ = self._judged(probe, claims, None, 10.0)
            again = self._broken(strongly)
            broken = {
                node: (leaks, min(ghosts, again[node][1] if node in again else 0), tokens)
                for node, (leaks, ghosts, tokens) in broken.items()
                if leaks or (node in again and again[node][1])
            }
        behind: dict[fx.Node, fx.Node] = {}
        for node in self.module.graph.nodes:
            if node not in reached or node in self.sites:
                continue
            before = [behind[n] for n in node.all_input_nodes if n in behind]
            if node in broken or before:
                behind[node] = before[0] if before else node
        for node, suspect in suspects.items():
            if not suspect or node not in broken:
                continue
            cause = behind[node]
            leaks, ghosts, tokens = broken[cause]
            culprit = found.setdefault(cause, Culprit(cause))
            culprit.leaks, culprit.ghosts = culprit.leaks + leaks, culprit.ghosts + ghosts
            culprit.tokens.update(tokens.tolist())
            culprit.touched.add(node)
