"""The curves and numbers of an evaluation, drawn."""

import pytest

import fxplain
from tests.evaluated_models import bag, contributions, right

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def found() -> fxplain.Evaluation:
    return bag(contributions(6, 5), methods={"right": right}, metrics=["positive", "insertion"])


def test_axes_for_each_metric_and_a_line_for_each_method(found, tmp_path) -> None:
    figure = found.plot()
    positive, insertion = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "positive ↓  feats",
        "insertion ↑  feats",
    ]
    assert [line.get_label() for line in positive.lines] == ["right", "random"]
    curve = found.curves["right", "positive", "feats"]
    assert positive.lines[0].get_ydata() == pytest.approx(curve.mean)
    assert positive.lines[0].get_xdata() == pytest.approx([100 * x for x in curve.x])
    assert insertion.get_xlabel() == "% of tokens inserted"
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_numbers_have_their_intervals(found) -> None:
    """Behind each curve, and of a metric without one in a row for each method."""
    curves = found.plot("insertion").axes[0]
    row = found.row("right", "insertion")
    bars = [bar.get_segments()[0] for bar in curves.collections if hasattr(bar, "get_segments")]
    assert bars[0][:, 1].tolist() == pytest.approx([row.low, row.high])
    plain = bag(contributions(6, 5), methods={"right": right}, metrics=["sparseness"])
    (ax,) = plain.plot().axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["right", "random"]
    for place, bar in enumerate(b for b in ax.collections if hasattr(b, "get_segments")):
        row = plain.row(["right", "random"][place], "sparseness")
        assert bar.get_segments()[0].tolist() == [
            pytest.approx([end, place]) for end in (row.low, row.high)
        ]
    assert place == 1


def test_in_axes_of_the_users_own(found) -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert found.plot("positive", ax=ax) is ax.get_figure()
    assert len(ax.lines) == 2
    with pytest.raises(fxplain.PlotError, match="2 panels do not fit one axes"):
        found.plot(ax=ax)


def test_no_such_number(found) -> None:
    with pytest.raises(fxplain.PlotError, match="There are: positive of feats, insertion of"):
        found.plot("negative")
