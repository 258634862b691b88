"""Dependence: what tags claim of a call's results, against what moves when a token is disturbed.

Nothing here uses a rule of the operation table. A tag's entry names a token and what it has absorbed:
a birth, an attention node's output, routes. Taken back to the values that hold the tokens before the
call, that is a set of rows. Each row is disturbed by itself, with all attention outputs held, and the
result's elements must move exactly where an entry names the row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.tokens import (
    IDENTITY,
    AttentionSite,
    Level,
    Mixing,
    RouteSite,
    Tag,
    TokenFlow,
    follow_tokens,
    operation,
    tokens_in,
    versions_in,
)
from tests.op_table.setting import Setting, Source, computed

__all__ = ["Finding", "Trial", "faults_of"]

Key = tuple[int, int]
"""An update (`IDENTITY` for births) and a canonical token."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Finding:
    """What one call's tags say that is not so.

    `kind` is "leak" (a row moves and is not claimed), "ghost" (one is claimed and does not move),
    "share" (shares that do not sum to 1) or "shape".
    """

    kind: str
    operation: str
    detail: str


@dataclass(frozen=True)
class Trial:
    """What came of a call: findings, the analysis's own warnings, and the operations called."""

    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    called: frozenset[str]


@dataclass(frozen=True, eq=False)
class _Row:
    """One row of a source: a token, as the value holds it."""

    source: Source
    mask: Tensor
    keys: frozenset[Key]
    sample: int


def faults_of(
    call: Callable[[Setting], Any],
    stage: str,
    *,
    batch: int = 2,
    strengths: Sequence[float] = (3.0,),
) -> Trial:
    """Try a call: what its tags claim, against what moves by disturbances of some strengths."""
    setting = Setting(stage, batch)
    captured, model, inputs, results = setting.finish(call(setting))
    flow = follow_tokens(captured, model, inputs, keep_tags=True)
    claims = _Claims(flow)
    rows = [row for source in setting.sources for row in _rows(source, flow, claims)]
    found = _shares(flow)
    held = {source.node for source in setting.sources if source.attention}
    if any(_is_of_some(flow, node) for node in results):
        strengths = (1e-4,)  # which leaves the choice as it is
    moved = [[_moved(captured.graph, held, row, each) for each in strengths] for row in rows]
    for node, tags in zip(results, flow.outputs, strict=True):
        here = [
            _differs(node.meta["val"], [run[node] for run in runs if node in run]) for runs in moved
        ]
        found += _judged(node, tags, rows, here, claims)
    called = frozenset(operation(n) for n in captured.graph.nodes if n.op == "call_function")
    return Trial(tuple(dict.fromkeys(found)), tuple(flow.warnings), called)


def _is_of_some(flow: TokenFlow, node: fx.Node) -> bool:
    """Whether each element of an extreme is said to be one token's: the picked one's, no other's."""
    made = node.all_input_nodes[0] if "getitem" in operation(node) else node
    if operation(made).removeprefix("aten.") not in _PICKS:
        return False
    assert flow.tags is not None
    tokens = [
        {t for tag in flow.tags.get(n, ()) for t in flow.book.find(tag.tokens).unique().tolist()}
        for n in (node, made.all_input_nodes[0])
    ]
    return bool(tokens[0]) and tokens[0] <= tokens[1]


_PICKS = ("max", "amax", "min", "amin", "median", "nanmedian", "kthvalue", "mode")


def _moved(graph: fx.Graph, held: set[fx.Node], row: _Row, strength: float) -> dict[fx.Node, Any]:
    """The values that may not be what they were once a row is disturbed, attention outputs held.

    Integers stay what they were, and with them what they choose; so do random draws.
    """
    noise = torch.randn(row.mask.shape, generator=torch.Generator().manual_seed(1))
    start = row.source.node
    plain = start.meta["val"]
    other: dict[fx.Node, Any] = {start: torch.where(row.mask, plain + strength * noise, plain)}

    def value(n: fx.Node) -> Any:
        return other.get(n, n.meta["val"])

    for node in graph.nodes:
        if node.op != "call_function" or node in held or node in other:
            continue
        if any(n in other for n in node.all_input_nodes) and _is_content(node.meta["val"]):
            other[node] = computed(node, value)
    return other


def _is_content(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dtype.is_floating_point or value.dtype.is_complex
    return isinstance(value, (tuple, list)) and any(map(_is_content, value))


def _differs(plain: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Which elements are not what they were in one of some runs, but for rounding."""
    result = torch.zeros(plain.shape, dtype=torch.bool)
    for other in others if _is_content(plain) else ():
        size = plain.abs().nan_to_num(0, 0, 0)
        change = (plain - other).abs().nan_to_num(0, 1, 1)
        result |= change > _ROUNDING * (size.amax() if size.numel() else 0)
    return result


def _rows(source: Source, flow: TokenFlow, claims: _Claims) -> list[_Row]:
    """The rows of a source, and how tags speak of each."""
    if source.learned:
        return claims.learned_rows(source)
    (tag,) = flow.tags[source.node]
    made = []
    for entry in tag.ids.unique().tolist():
        mask = (tag.ids == entry).expand(source.node.meta["val"].shape)
        ids = torch.tensor([entry])
        token = int(flow.book.find(tokens_in(ids)))
        update = IDENTITY
        if source.attention:
            version = flow.versions.of(int(versions_in(ids)))
            update = next((u for u in version if u != IDENTITY), IDENTITY)
        sample = int(flow.book.samples(torch.tensor(token)))
        made.append(_Row(source, mask, frozenset({(update, token)}), sample))
    return made


class _Claims:
    """What packed entries claim: the updates that they are of, each with its token."""

    def __init__(self, flow: TokenFlow) -> None:
        self.flow = flow
        self._of_entry: dict[int, frozenset[Key]] = {}
        self._routes: dict[int, dict[int, set[int]]] = {}

    def of(self, entry: int) -> frozenset[Key]:
        """The births and attention rows that an entry is made of."""
        if entry < 0:
            return frozenset()
        if entry not in self._of_entry:
            self._of_entry[entry] = frozenset()  # what is made of itself starts with nothing
            self._of_entry[entry] = frozenset(self._followed(entry))
        return self._of_entry[entry]

    def factor(self, entry: int) -> float:
        """What is left of an entry's row by what scaled it."""
        ids = torch.tensor([entry])
        tokens = self.flow.book.find(tokens_in(ids))
        return float(self.flow.versions.factor(int(versions_in(ids)), tokens))

    def born(self, entry: int) -> bool:
        """Whether an entry is of a token that may be born here: not of one that a route once made."""
        token = int(self.flow.book.find(tokens_in(torch.tensor([entry]))))
        made = (
            self.flow.book.births[int(self.flow.book.births_of(torch.tensor(token)))].kind
            == "route"
        )
        return not made or any(update != IDENTITY for update, _ in self.of(entry))

    def _followed(self, entry: int) -> set[Key]:
        flow, ids = self.flow, torch.tensor([entry])
        token = int(flow.book.find(tokens_in(ids)))
        found: set[Key] = set()
        for update in flow.versions.of(int(versions_in(ids))):
            site = None if update == IDENTITY else flow.updates[update]
            if isinstance(site, (RouteSite, Mixing)):
                for old in self._made_of(update).get(token, ()):
                    found |= self.of(old)
            else:
                found.add((update, token))
        return found

    def _made_of(self, update: int) -> dict[int, set[int]]:
        """What each token of a route is made of, where it has a share."""
        if update not in self._routes:
            site = self.flow.updates[update]
            route = site.weighed() if isinstance(site, Mixing) else site
            assert isinstance(route, RouteSite)
            made: dict[int, set[int]] = defaultdict(set)
            new = self.flow.book.find(route.new).tolist()
            for token, old, share in zip(
                new, route.old.tolist(), route.weights.tolist(), strict=True
            ):
                if share:
                    made[token].add(old)
            self._routes[update] = made
        return self._routes[update]

    def learned_rows(self, source: Source) -> list[_Row]:
        """The rows of a parameter: every copy of a row's token is the row."""
        book, value = self.flow.book, source.node.meta["val"]
        births = [b for b in book.births if b.kind == "parameter" and b.root == source.node.name]
        count = max(value[..., 0].numel(), 1)
        keys: dict[int, set[Key]] = defaultdict(set)
        for birth in births:
            for token in range(birth.first, birth.first + birth.count):
                row = (token - birth.first) // (birth.count // count)
                keys[row].add((IDENTITY, int(book.find(torch.tensor(token)))))
        made = []
        for row, names in keys.items():
            mask = torch.zeros(count, dtype=torch.bool)
            mask[row] = True
            mask = mask.reshape(value.shape[:-1]).unsqueeze(-1).expand(value.shape)
            made.append(_Row(source, mask, frozenset(names), -1))
        return made


def _shares(flow: TokenFlow) -> list[Finding]:
    """Routes whose shares do not sum to 1 for each token, or are negative."""
    found = []
    for site in flow.updates:
        route = site.weighed() if isinstance(site, Mixing) else site
        if isinstance(route, AttentionSite):
            continue
        new, place = flow.book.find(route.new).unique(return_inverse=True)
        total = torch.zeros(len(new), dtype=torch.float64).index_add_(0, place, route.weights)
        times = total.round().clamp(min=1)  # a token that stands in several rows (heads)
        if not torch.allclose(total, times):
            found.append(
                Finding("share", str(route.node.target), f"shares sum to {total.tolist()}")
            )
    return found


def _judged(
    node: fx.Node, tags: tuple[Tag, ...], rows: list[_Row], moved: list[Tensor], claims: _Claims
) -> list[Finding]:
    value = node.meta["val"]
    name = str(node.target)
    if not value.dtype.is_floating_point and not value.dtype.is_complex:
        return []
    own = [tag for tag in tags if tag.level >= Level.PARAMETER_TOKEN]
    for tag in own:
        if tag.ids.dim() != value.dim() or any(
            n not in (1, size) for n, size in zip(tag.ids.shape, value.shape, strict=True)
        ):
            return [Finding("shape", name, f"{tuple(tag.ids.shape)} of {tuple(value.shape)}")]
    entries = sorted({e for tag in own for e in tag.ids.unique().tolist() if e >= 0})
    known = {key for row in rows for key in row.keys}
    foreign = {e for e in entries if claims.of(e) and not claims.of(e) & known and claims.born(e)}
    samples = {e: _sample(claims, e) for e in foreign}
    wanted = []
    for row in rows:
        here = [e for e in entries if claims.of(e) & row.keys]
        here += [e for e in foreign if samples[e] in (-1, row.sample)]
        wanted.append(torch.tensor(here, dtype=torch.int64))
    found: list[Finding] = []
    leaks: list[str] = []
    unnamed = any(tag.level is Level.PARAMETER for tag in tags)  # not in a sequence of tokens yet
    for row, there, told in zip(rows, wanted, moved, strict=True):
        if row.source.learned and unnamed:
            continue
        claimed = torch.zeros((), dtype=torch.bool)
        for tag in own:
            claimed = claimed | torch.isin(tag.ids, there)
        leak = told & ~claimed
        if bool(leak.any()):
            leaks.append(f"{int(leak.sum())} elements {_named(row)}")
    if leaks:
        found.append(Finding("leak", name, f"{len(leaks)} rows, the first: {leaks[0]}"))
    for tag in own:
        rest = [x for x in range(value.dim()) if tag.ids.shape[x] == 1]
        by_row = [m.any(rest, keepdim=True) if rest else m for m in moved]
        for entry in tag.ids.unique().tolist():
            if entry < 0 or claims.factor(entry) == 0 or entry in foreign:
                continue
            here = tag.ids == entry
            for key in claims.of(entry):
                felt_by = [m for row, m in zip(rows, by_row, strict=True) if key in row.keys]
                if felt_by and not bool(torch.stack(felt_by).any(0)[here].any()):
                    found.append(Finding("ghost", name, f"entry {entry} claims {key}"))
    return found


def _sample(claims: _Claims, entry: int) -> int:
    book = claims.flow.book
    return int(book.samples(book.find(tokens_in(torch.tensor([entry])))))


def _named(row: _Row) -> str:
    return f"of {row.source.node.name} at {row.mask.any(-1).nonzero().tolist()[:4]}"
