"""Cost against tokens, as a picture (needs matplotlib)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bars import Results

LABELS = {"floor": "forward and backward", "warm": "fxplain", "classic": "classic recipe"}
FAMILY = "attention stack"


def plot(results: Results, path: Path) -> None:
    """Time and peak memory of the attention-only stack by its length, for the columns measured."""
    from matplotlib.figure import Figure

    cases = [case for name, case in results["cases"].items() if name.startswith(FAMILY)]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for column, label in LABELS.items():
        times = [(c["tokens"], c["seconds"].get(column, {}).get("median")) for c in cases]
        peaks = [(c["tokens"], c["memory"].get(column, {}).get("again")) for c in cases]
        for axes, points, unit in ((time, times, 1), (memory, peaks, 2**20)):
            found = [(tokens, value / unit) for tokens, value in points if value is not None]
            axes.plot(*zip(*found, strict=True) if found else ([], []), marker="o", label=label)
    tokens = [case["tokens"] for case in cases]
    for axes, title in ((time, "seconds"), (memory, "MiB above the model")):
        axes.set(title=title, xlabel="tokens", xscale="log", yscale="log")
        axes.set_xticks(tokens, [f"{n:,}" for n in tokens], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    time.legend()
    figure.suptitle(f"{FAMILY}: 6 layers, 8 heads, width 512")
    figure.savefig(path)
