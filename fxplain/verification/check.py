"""The check of a program: the law of tags and versions, and that of shares, lightly or in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from fxplain.capture import Capture, ModelInputs, chance_kept, module_path
from fxplain.program import Program
from fxplain.tokens import RouteSite, TokenFlow, tokens_in
from fxplain.verification.claims import canonical_tokens
from fxplain.verification.forgotten import forgotten_tokens
from fxplain.verification.law import Law
from fxplain.verification.shares import (
    Ancestry,
    attention_sites,
    parts_are_taken_off,
    reached,
    read_rows,
    weighed,
)
from fxplain.verification.verification import Fault, LawResult

__all__ = ["LEVELS", "check_program"]

LEVELS = ("off", "light", "full")
_PROBES = {"light": 1, "full": 8}
TAGS = "tags and versions"
SHARES = "shares of pooled tokens"


def check_program(
    captured: Capture, model: nn.Module, inputs: ModelInputs, program: Program, level: str
) -> list[LawResult]:
    """Try on the model what its program claims.

    Requires a program whose flow holds its tags. What the analysis warned of itself is no fault.

    Parameters
    ----------
    captured, model, inputs, program
        What runs, and what is claimed of it.
    level
        "light" (one disturbed run; more only where it shows something odd) or "full".
    """
    law = Law(captured, model, inputs, program)
    if not law.sources:
        return [
            *(LawResult(name, "not checked", reason="no tokens") for name in (TAGS, SHARES)),
            forgotten_tokens(law),
        ]
    faults = [
        Fault(
            str(culprit.node.target),
            module_path(culprit.node),
            modality_names(program, culprit.tokens),
            culprit.leaks,
            culprit.ghosts,
        )
        for culprit in law.check(_PROBES[level])
    ]
    if level == "full":
        faults = [*_tokens_that_became_one(program), *faults]
    told = tuple(f for f in faults if not _announced(program.flow, f))
    tags = LawResult.of(TAGS, told, law.runs)
    return [tags, _pooled(law, captured, level), forgotten_tokens(law)]


def _pooled(law: Law, captured: Capture, level: str) -> LawResult:
    """The law of shares, tried in full or where something is odd."""
    if level == "full" or law.shares_of_nothing or parts_are_taken_off(law.program):
        return _shares(law, captured)
    if not law.pooled:
        return LawResult(SHARES, "not checked", reason="no output is pooled from tokens")
    return LawResult(SHARES, "holds")


def _tokens_that_became_one(program: Program) -> list[Fault]:
    """Two tokens of one birth, which are neighbours, are never one and the same token."""
    canonical, found = canonical_tokens(program), []
    for birth in program.flow.book.births:
        own = canonical[birth.first : birth.first + birth.count]
        distinct = len(own.unique())
        names = modality_names(program, own.unique().tolist())
        if birth.kind == "input" and distinct < birth.count and names and birth.node is not None:
            detail = f"its {birth.count} tokens are taken for {distinct}"
            found.append(
                Fault(str(birth.node.target), module_path(birth.node), names, detail=detail)
            )
    return found


def modality_names(program: Program, tokens: Iterable[int]) -> tuple[str, ...]:
    """The modalities of some canonical tokens; what routes made of them are theirs too."""
    entries = torch.tensor([t for t in tokens if t >= 0], dtype=torch.int64)
    todo, seen = entries, set()
    canonical = canonical_tokens(program)
    while len(todo):
        seen.update(todo.tolist())
        older = [todo[:0]]
        for site in program.flow.updates:
            if isinstance(site, RouteSite):
                made = torch.isin(canonical[site.new], todo)
                older.append(canonical[tokens_in(site.old[made])].unique())
        found = set(torch.cat(older).tolist())
        todo = torch.tensor(sorted(found - seen), dtype=torch.int64)
    known = torch.tensor(sorted(seen), dtype=torch.int64)
    return tuple(m.name for m in program.modalities if bool(torch.isin(m.every, known).any()))


def _announced(flow: TokenFlow, fault: Fault) -> bool:
    """Whether the analysis said itself that a module mixes tokens in a way that it cannot follow."""
    place = f" in {fault.module or 'the model'} mixes tokens without attention"
    return any(place in warning for warning in flow.warnings)


def _shares(law: Law, captured: Capture) -> LawResult:
    """Whether every token with a share in what an output is pooled from is read at all."""
    program = law.program
    canonical = canonical_tokens(program)
    faults: list[Fault] = []
    runs, pooled = 0.0, 0
    output = next(n for n in captured.graph.nodes if n.op == "output")
    for node in dict.fromkeys(output.all_input_nodes):
        read = read_rows(program, node)
        if read is None:
            continue
        pooled += 1
        entries, chosen = read
        with chance_kept(law.inputs.leaves), torch.enable_grad():
            found = reached(
                law.module,
                law.values,
                law.sources,
                attention_sites(program),
                partial(_of_output, output.all_input_nodes.index(node), chosen),
                len(canonical),
            )
        runs += 3  # a backward is as long as two forwards
        ancestry = Ancestry(program, entries)
        none = torch.zeros(len(canonical), dtype=torch.bool)
        credited, read_at_all = none, none
        for update, tokens in ancestry.claimed.items():
            credited = credited | (tokens if update in found else none)
            read_at_all = read_at_all | (tokens & found.get(update, none))
        ghosts = credited & ~read_at_all & _disturbable(law)
        if bool(ghosts.any()):
            runs += 2
            if not law.moves([node], ghosts):  # a maximum's gradient is 0 though it is read
                faults.append(_fault(program, ancestry, node, ghosts))
    if not pooled:
        return LawResult(SHARES, "not checked", reason="no output is pooled from tokens")
    return LawResult.of(SHARES, tuple(faults), runs)


def _disturbable(law: Law) -> torch.Tensor:
    """The tokens that some source holds."""
    held = torch.zeros(len(law.program.flow.book), dtype=torch.bool)
    for source in law.sources:
        held[source.tokens[source.tokens >= 0]] = True
    return held


def _of_output(place: int, chosen: torch.Tensor, outputs: Sequence[Any]) -> torch.Tensor:
    return weighed(outputs[place], chosen)


def _fault(program: Program, ancestry: Ancestry, output: fx.Node, ghosts: torch.Tensor) -> Fault:
    """The first route that gives a share to tokens that nothing reads."""
    canonical = canonical_tokens(program)
    names = modality_names(program, ghosts.nonzero().flatten().tolist())
    count = int(ghosts.sum())
    for site in ancestry.routes:
        given = ghosts[canonical[tokens_in(site.old)]] & (site.weights != 0)
        if bool(given.any()):
            return Fault(str(site.node.target), module_path(site.node), names, ghosts=count)
    return Fault(str(output.target), module_path(output), names, ghosts=count)
