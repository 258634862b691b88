"""How a generation looks: for each generated token, what it draws on most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fxplain.errors import ModalityError
from fxplain.explanation.merging import words_within
from fxplain.explanation.shown import cut_out, folded, visible
from fxplain.generation import EARLIER, Generation
from fxplain.reports.explanation_report import method_facts
from fxplain.reports.graph_report import count_nodes, facts_table, warning_lines
from fxplain.reports.shading import percent, printable, signed_percent
from fxplain.written import rounded

__all__ = ["drawn_from", "generation_report", "output_name"]

MOST_SAMPLES = 8
MOST_SOURCES = 4
"""How many samples are shown, and tokens of a modality."""


def generation_report(generation: Generation) -> RenderableType:
    """Model, method and warnings, then each text with a row for each explained token."""
    shown = min(generation.batch_size, MOST_SAMPLES)
    explained = generation.score.replace("_", " ")
    parts: list[RenderableType] = [
        Text.assemble(("Generation of ", "bold"), (generation.graph.model, "bold cyan")),
        *warning_lines(generation.graph.warnings),
        facts_table([
            *method_facts(generation.explanations[0]), ("explained", f"each token's {explained}"),
            ("found", count_nodes(generation.graph)),
        ]),
    ]  # fmt: skip
    for sample in range(shown):
        title = f"sample {sample}: {printable(generation.text[sample])}"
        rule = Rule(Text(title, "bold"), align="left", characters="-", style="dim")
        parts += [Text(), rule, _table(generation, sample)]
    left = generation.batch_size - shown
    if left:
        parts.append(Text(f"\n({left} more samples are not shown; see .matrix)", "dim"))
    return Group(*parts)


def _table(generation: Generation, sample: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("draws on", overflow="fold")
    for target, e in enumerate(generation.explanations):
        if generation.real[sample, target]:
            table.add_row(
                Text(output_name(generation, sample, target)),
                rounded(float(e.scores[sample]), ".4g"),
                Text("\n".join(drawn_from(generation, sample, target)) or "nothing"),
            )
    return table


def output_name(generation: Generation, sample: int, target: int) -> str:
    """A target's place and what it is called."""
    asked = generation.targets[target]
    place = f"{asked} " if isinstance(asked, int) else ""
    return place + printable(generation.names[target][sample])


def drawn_from(generation: Generation, sample: int, target: int) -> Iterator[str]:
    """For each modality, most first: its share of the relevance, and that of its top words or tokens.

    Tokens that the target is read from start from 1, or a share of it, which would drown all
    others: they are left out. What speaks against the target has a minus.
    """
    found = {
        modality: list(_entries(generation, modality, target, sample))
        for modality in generation.modalities
    }
    sums = {name: sum(abs(value) for value, _ in entries) for name, entries in found.items()}
    total = sum(sums.values())
    for name in sorted(found, key=lambda name: -sums[name]):
        if sums[name]:
            most = sorted(found[name], key=lambda entry: -abs(entry[0]))[:MOST_SOURCES]
            told = "  ".join(
                f"{label} {signed_percent(value / total)}" for value, label in most if value
            )
            told = _when(generation, name, target, sample) or told
            yield f"{name} {percent(sums[name] / total)}: {told}"


def _entries(
    generation: Generation, modality: str, target: int, sample: int
) -> Iterator[tuple[float, str]]:
    """Relevance and name of each word of a text that was given, and of each token of what else is."""
    source, places = generation.columns(modality)
    values = dict(zip(places, generation.row(target, sample, modality).tolist(), strict=True))
    read = {places[column] for column in generation.read(target, sample, modality)}
    explanation = generation.explanations[target]
    if modality != EARLIER and explanation.is_text(source):
        pieces = explanation.tokens(source)[sample]
        words = list(words_within(explanation.words_in(source)[sample], values, pieces))
        for word in cut_out(folded(words), read, pieces):
            own = [values[place] for place in word.tokens if place not in read]
            if own:
                yield sum(own), visible(word.text)
        return
    labels = _labels(generation, modality, target, sample)
    for number, (place, label) in enumerate(zip(places, labels, strict=True)):
        if place not in read:
            yield values[place], _label(modality, number, label)


def _when(generation: Generation, name: str, target: int, sample: int) -> str:
    """Of a recording, when most of what the target drew on is heard."""
    explanation = generation.explanations[target]
    if name not in explanation.seconds:
        return ""
    try:
        stretch = explanation.timeline(name, sample=sample).stretch()
    except ModalityError:  # its tokens do not lie in time
        return ""
    return f"{stretch[0]:.2f}-{stretch[1]:.2f} s holds half of it" if stretch else ""


def _labels(generation: Generation, modality: str, target: int, sample: int) -> Sequence[str]:
    """What tokens are called; those of a recording by their time, of pictures by their place."""
    explanation = generation.explanations[target]
    if modality == EARLIER or modality == generation.text_input:
        return generation.labels(modality)[sample]
    return explanation.named_tokens(modality, sample)


def _label(modality: str, number: int, label: str) -> str:
    return f"[{number}] {printable(label)}" if modality == EARLIER else printable(label)
