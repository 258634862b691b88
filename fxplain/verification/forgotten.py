"""The law of what is not claimed: an output is said to be made of every token that it depends on.

The other laws try what the explanation says. A token that no rule follows is in none of its claims, so
that nothing contradicts them; only the model itself, asked for each token, tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fxplain.capture import chance_kept
from fxplain.program import Program
from fxplain.tokens import IDENTITY, AttentionSite, Level, RouteSite, tokens_in, versions_in
from fxplain.verification.claims import canonical_tokens, claimed_tags
from fxplain.verification.law import Law
from fxplain.verification.shares import one_number, reached
from fxplain.verification.sources import Source, births
from fxplain.verification.verification import Fault, LawResult

__all__ = ["FORGOTTEN", "forgotten_tokens"]

FORGOTTEN = "no token is forgotten"


def forgotten_tokens(law: Law) -> LawResult:
    """An output is claimed to be made, in some way, of every input's token that it depends on.

    Where all tokens are claimed nothing has to run. Else the model alone is asked: whether the output
    moves, by more than rounding, when the others are disturbed where they are born, and which of them a
    gradient reaches.
    """
    program, graph = law.program, law.module.graph
    said = [w for w in program.flow.warnings if "mixes tokens without attention" in w]
    if said:
        return LawResult(FORGOTTEN, "not checked", reason=said[0])
    claimed = _claimed(program)
    sources = _sources(program, claimed)
    outputs = graph.find_nodes(op="output")[0].all_input_nodes
    read = [n for n in outputs if claimed_tags(program.flow.tags.get(n, ()))]
    if not read or not sources:
        reason = "no output is made of tokens, or newer ones were made of all"
        return LawResult(FORGOTTEN, "not checked", reason=reason)
    rest = torch.cat([s.tokens[s.tokens >= 0] for s in sources]).unique()
    rest = torch.zeros_like(claimed).scatter_(0, rest, True) & ~claimed
    if not bool(rest.any()):
        return LawResult.of(FORGOTTEN, (), 0)
    law = law.of(sources)
    if not law.moves(read, rest, through_attention=True):
        return LawResult.of(FORGOTTEN, (), 2)
    try:
        rest &= _reaching(law, [outputs.index(node) for node in read])
    except RuntimeError as error:  # what autograd does not know
        return LawResult(FORGOTTEN, "not checked", reason=str(error).partition("\n")[0])
    names = _named(program, rest)
    if names and law.moves(read, rest, through_attention=True):
        detail = f"an output depends on {int(rest.sum())} tokens that nothing is said of"
        return LawResult.of(FORGOTTEN, (Fault("", "", names, detail=detail),), 7)
    return LawResult.of(FORGOTTEN, (), 5)


def _reaching(law: Law, places: Sequence[int]) -> Tensor:
    """The tokens from whose birth a gradient reaches some outputs."""
    size = len(canonical_tokens(law.program))
    with chance_kept(law.inputs.leaves), torch.enable_grad():
        return reached(
            law.module,
            law.values,
            law.sources,
            (),
            lambda values: one_number([values[i] for i in places]),
            size,
        )[IDENTITY]


def _sources(program: Program, claimed: Tensor) -> list[Source]:
    """Where the tokens of the inputs are born, whatever has become of them.

    Not those of which newer ones are made, nor what labels other tokens, says something of every pair
    of them (a distance) or acts on all of them alike. A backbone makes newer ones by the way, too (a
    gate's mean): where others of the input are claimed, it is through these that they act.
    """
    flow, canonical, found = program.flow, canonical_tokens(program), births(program)
    others = flow.conditions.union(*(birth.older for birth in flow.book.births))
    pairs = [flow.book.births[index] for index in flow.pairs]
    of_pairs = (canonical[birth.first : birth.first + birth.count] for birth in pairs)
    done = torch.cat([canonical[:0], *(s.tokens[s.tokens >= 0] for s in found), *of_pairs])
    said = set(_named(program, claimed))
    for birth in flow.book.births:
        node = birth.node
        if birth.kind != "input" or node is None or birth.index in others:
            continue
        if birth.older and birth.root in said:
            continue
        for tag in flow.tags.get(node, ()):
            tokens = canonical[tag.tokens.clamp(min=0)]
            own = (tag.tokens >= 0) & (flow.book.births_of(tag.tokens.clamp(min=0)) == birth.index)
            own &= ~torch.isin(tokens, done)
            if tag.level is Level.TOKEN and bool(own.any()):
                found.append(Source(node, IDENTITY, torch.where(own, tokens, -1)))
    return found


def _claimed(program: Program) -> Tensor:
    """The canonical tokens that some output is said to be made of, through attention and routes."""
    flow, canonical = program.flow, canonical_tokens(program)
    claimed = torch.zeros(len(canonical), dtype=torch.bool)
    tags = [tag for own in flow.outputs for tag in claimed_tags(own)]
    todo = torch.cat([tag.ids[tag.ids >= 0] for tag in tags]).unique() if tags else canonical[:0]
    seen: set[int] = set()
    while len(todo):
        seen.update(todo.tolist())
        claimed[canonical[tokens_in(todo)]] = True
        further = {
            e for v in versions_in(todo).unique().tolist() for e in _made_of(program, todo, v)
        }
        todo = torch.tensor(sorted(further - seen), dtype=torch.int64)
    return claimed


def _made_of(program: Program, entries: Tensor, version: int) -> set[int]:
    """The entries that those of a version heard of by what they have absorbed."""
    flow, canonical = program.flow, canonical_tokens(program)
    tokens = canonical[tokens_in(entries[versions_in(entries) == version])]
    found: set[int] = set()
    for update in flow.versions.of(version):
        site = None if update == IDENTITY else flow.updates[update]
        if isinstance(site, RouteSite):
            found.update(site.old[torch.isin(canonical[site.new], tokens)].tolist())
        elif isinstance(site, AttentionSite):
            asks = torch.isin(canonical[tokens_in(site.rows).clamp(min=0)], tokens)
            asks &= site.rows >= 0
            keys, heard = torch.broadcast_tensors(site.columns, asks.any(-2, keepdim=True))
            found.update(keys[heard & (keys >= 0)].unique().tolist())
    return found


def _named(program: Program, tokens: Tensor) -> tuple[str, ...]:
    """The inputs that some tokens are of."""
    book = program.flow.book
    births = book.births_of(tokens.nonzero().flatten()).unique().tolist()
    return tuple(dict.fromkeys(book.births[index].root for index in births))
