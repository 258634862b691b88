"""What is summed up of a corpus: shares by hand, intervals that cover, what to look at, drift."""

from dataclasses import replace

import pytest

pytest.importorskip("pyarrow")

import numpy as np

from fxplain.corpora import compare, drivers, joined, summarise
from fxplain.corpora.shares import SharedRow, _region, shared_rows, shares_of
from fxplain.errors import InputError
from tests.made_corpora import failed, row, write


def test_shares_are_means_over_rows_where_a_word_occurs(tmp_path):
    corpus = write(
        tmp_path / "a",
        [
            row("1", "Great movie", [3.0, 1.0]),
            row("2", "great cat", [1.0, 1.0]),
            row("3", "bad movie", [1.0, 3.0], "bad"),
            failed("4", "", "InputError: the text is empty."),
        ],
    )
    found = {(d.target_name, d.feature): d for d in drivers(shared_rows(corpus), minimum=1)}
    assert {key: d.share for key, d in found.items()} == pytest.approx(
        {
            ("good", "great"): (0.75 + 0.5) / 2,
            ("good", "movie"): 0.25,
            ("good", "cat"): 0.5,
            ("bad", "bad"): 0.25,
            ("bad", "movie"): 0.75,
        }
    )
    great = found["good", "great"]
    assert great.count == 2
    assert great.examples == ("1", "2")
    assert 0.5 <= great.low <= great.share <= great.high <= 0.75
    by_place = drivers(shared_rows(corpus, "position"), minimum=2)
    assert {d.feature: d.share for d in by_place if d.target_name == "good"} == pytest.approx(
        {"1": 0.625, "2": 0.375}
    )
    assert not drivers(shared_rows(corpus), minimum=3)
    with pytest.raises(InputError, match="by='sentence' must be one of"):
        list(shared_rows(corpus, "sentence"))


def test_signs_are_kept_and_shares_are_of_sizes(tmp_path):
    corpus = write(tmp_path / "a", [row("1", "not good", [-3.0, 1.0]), row("2", "x y", [0.0, 0.0])])
    shares = [dict(shared.shares) for shared in shared_rows(corpus)]
    assert shares == [{"not": -0.75, "good": 0.25}, {"x": 0.0, "y": 0.0}]


def test_intervals_cover_the_mean_as_often_as_they_say():
    chance = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        rows = [
            SharedRow({"target_name": "a", "id": str(i)}, {"word": share})
            for i, share in enumerate(chance.beta(2, 5, 40))
        ]
        (found,) = drivers(rows, minimum=1)
        covered += found.low <= 2 / 7 <= found.high
    assert 87 <= covered <= 99


def test_the_summary_tells_what_to_look_at(tmp_path):
    rows = [row(str(i), f"a fine cat number{i}", [1, 1, 1, 1], label="good") for i in range(6)]
    rows[2] |= {"label": "bad", "probability": 0.99}
    rows[3] |= {"label": "Bad", "probability": 0.55}
    rows[4] |= {"label": "Good ", "probability": 0.51}
    rows += [row(f"l{i}", "good cat", [4, 1], label="good") for i in range(5)]
    rows[-1] |= {"label": "bad"}
    rows += [failed("e", "", "InputError: the text is empty."), failed("f", "x", "LoadError: torn")]
    found = summarise(write(tmp_path / "a", rows, 4), minimum=4, listed=3)
    assert (found.rows, found.errors) == (13, {"InputError": 1, "LoadError": 1})
    assert found.warnings == []
    (good,) = found.classes
    assert (good.name, good.rows, good.wrong) == ("good", 11, 3)
    assert found.wrong == ["2", "l4", "3"]
    assert found.unsure[:2] == ["4", "3"]
    assert found.duplicates == [(("l0", "l1", "l2", "l3", "l4"), 2)]
    (leak,) = found.leaks
    assert (leak.label, leak.rows) == ("good", 4)
    assert leak.share == pytest.approx(0.8)


def test_regions_of_pictures_are_ninths(tmp_path):
    grid = {
        "modality": ["pixel_values"] * 17,
        "grids": '{"pixel_values": [4, 4]}',
        "tokens": ["CLS", *(f"{i}" for i in range(16))],
        "starts": [None] * 17,
        "ends": [None] * 17,
        "special": [True] + [False] * 16,
    }
    relevance = [9.0] + [1.0] * 16
    relevance[1] = 5.0  # the first patch
    picture = row("1", "a.png", [1], **grid) | {"relevance": relevance}
    corpus = write(tmp_path / "a", [picture, failed("2", "", "LoadError: torn")])
    (shared, none) = shared_rows(corpus, "region")
    # 4 rows and columns lie in thirds of 2, 1 and 1
    assert shared.shares == pytest.approx(
        {
            **{"top left": 8 / 20, "top": 2 / 20, "top right": 2 / 20},
            **{"left": 2 / 20, "middle": 1 / 20, "right": 1 / 20},
            **{"bottom left": 2 / 20, "bottom": 1 / 20, "bottom right": 1 / 20},
        }
    )
    assert not none.shares


@pytest.mark.parametrize(
    ("grid", "place", "said"),
    [
        ((3, 3), 8, "bottom right"),
        ((2, 3, 3), 9, "top left"),  # the second frame
        ((3, 3, 1, 1), 9, "top left"),  # the second level
        ((6, 6, 3, 3), 36 + 4, "middle"),
        ((3, 3), 9, None),
    ],
)
def test_grids_of_frames_and_levels(grid, place, said):
    assert _region(grid, place) == said


def test_columns_of_the_data_share_a_row(tmp_path):
    both = row("1", "a cat\nthe dog", [1, 2, 3, 4])
    shown = {**both, "modality": ["input_ids"] * 5}
    columns = {"text": "premise", "pair": "hypothesis"}
    found = shares_of(shown, "column", columns)
    assert found == pytest.approx({"premise": 0.3, "hypothesis": 0.7})
    pixels = {
        "modality": ["input_ids"] * 3 + ["pixel_values"] * 2,
        "starts": [None, 0, 2, None, None],
    }
    found = shares_of({**shown, **pixels}, "column", {"text": "question", "image": "photo"})
    assert found == pytest.approx({"question": 0.3, "photo": 0.7})


def test_rows_without_relevance_are_said(tmp_path):
    rows = [row(str(i), "a b", [0, i]) for i in range(3)] + [row("c", "a b", [0, 0], "bad")]
    corpus = write(tmp_path / "a", rows)
    found = summarise(corpus, minimum=1)
    assert [d.target_name for d in found.drivers] == ["good"] * 2 + ["bad"] * 2  # by their rows
    (said,) = found.warnings
    assert said.startswith("in 2 rows all shares are 0")
    assert said.endswith("good 1 of 3, bad 1 of 1")
    assert summarise(corpus, by="region").warnings == []


def test_labels_that_the_model_calls_otherwise_are_said(tmp_path):
    rows = [row(str(i), "a b", [1, 2], label="positive") for i in range(2)]
    (said,) = summarise(write(tmp_path / "a", rows)).warnings
    assert said.endswith("labels are such as 'positive', classes such as 'good'")


def test_several_targets_of_a_row_are_no_duplicates_and_one_row_to_look_at(tmp_path):
    sure = {"good": 0.9, "bad": 0.1}
    of = {t: {"predicted": "good", "label": "bad", "probability": sure[t]} for t in sure}
    rows = [row(name, "a cat", [1, 1], target, **of[target]) for name in "ab" for target in of]
    rows += [row("c", "a dog", [1, 1], target, **of[target]) for target in of]
    found = summarise(write(tmp_path / "a", rows), minimum=1)
    assert found.duplicates == [(("a", "b"), 1)]
    assert found.wrong == found.unsure == ["a", "b", "c"]


def test_each_target_of_a_row_is_compared_with_itself(tmp_path):
    shares = {"good": [1, 2, 3], "bad": [3, 2, 1]}
    first = [row("a", "a b c", shares[name], name) for name in ("good", "bad")]
    second = [*first[::-1], row("a", "a b c", [1, 2, 3], "ugly")]
    found = compare(write(tmp_path / "a", first), write(tmp_path / "b", second), minimum=1)
    assert (found.rows, found.only_first, found.only_second) == (2, 0, 1)
    assert found.same_target == found.rank_correlation == 1


def test_drift_of_two_corpora(tmp_path, monkeypatch):
    first = write(tmp_path / "a", [row(str(i), "a b c", [1, 2, 3]) for i in range(4)])
    assert (same := compare(first, first)).rank_correlation == same.overlap == 1
    second = write(
        tmp_path / "b",
        [
            row("3", "a b c", [3, 2, 1], "bad"),
            *(row(str(i), "a b c", [2, 4, 6]) for i in range(1, 3)),
            row("9", "a b c", [1, 2, 3]),
            failed("0", "", "InputError: lost"),
        ],
    )
    manifest = second.manifest
    second.manifest = replace(manifest, facts={**manifest.facts, "method": "raw_attention"})
    found = compare(first, second, top=2, minimum=1)
    assert (same.different, found.different) == ([], ["method"])
    assert (found.rows, found.only_first, found.only_second) == (3, 1, 1)
    assert (same.other_text, found.other_text) == (0, 0)
    assert found.same_target == pytest.approx(2 / 3)
    assert found.rank_correlation == pytest.approx((1 + 1 - 1) / 3)
    assert found.overlap == pytest.approx((1 + 1 + 0.5) / 3)
    assert found.farthest[0] == ("3", pytest.approx(-1))
    assert {m.feature: m.by for m in found.moved} == pytest.approx(
        {"a": (3 - 1) / 18, "b": 0, "c": (1 - 3) / 18}
    )
    monkeypatch.setattr(joined, "PART_ROWS", 1)  # many parts, each of which goes to the disk
    monkeypatch.setattr(joined, "IN_MEMORY", 1)
    parted = compare(first, second, top=2, minimum=1)
    assert parted.farthest == found.farthest
    assert parted.to_dict() == {**found.to_dict(), "moved": parted.to_dict()["moved"]}
    assert {m.feature: m.by for m in parted.moved} == pytest.approx(
        {m.feature: m.by for m in found.moved}  # sums of the same in another order
    )
    assert [m.feature for m in compare(first, second, minimum=4).moved] == []
    renumbered = write(tmp_path / "d", [row("0", "a b c", [1, 2, 3]), row("1", "d e", [1, 2])])
    assert compare(first, renumbered).other_text == 1
    with pytest.raises(InputError, match="explains no row"):
        compare(first, write(tmp_path / "c", [failed("0", "", "InputError: lost")]))


def test_drift_of_two_corpora_with_no_row_in_common(tmp_path):
    """Two dates: which class is said of more rows, and which word carries more of all relevance."""
    early = [row(str(i), "fine day", [1, 1]) for i in range(6)]
    late = [row(str(i), f"late bus {i}", [3, 1, 0], "bad") for i in range(4)]
    first = write(tmp_path / "a", [*early, row("6", "late bus", [1, 1])])
    found = compare(first, write(tmp_path / "b", [*late, row("6", "fine day", [1, 1])]), minimum=2)
    assert (found.rows, found.only_first, found.only_second) == (0, 7, 5)
    assert found.same_target is found.rank_correlation is found.overlap is None
    moved = {m.feature: (m.rows, m.first, m.second) for m in found.moved}
    assert moved == {
        "fine": (7, pytest.approx(3 / 7), pytest.approx(0.1)),
        "day": (7, pytest.approx(3 / 7), pytest.approx(0.1)),
        "late": (5, pytest.approx(0.5 / 7), pytest.approx(0.6)),
        "bus": (5, pytest.approx(0.5 / 7), pytest.approx(0.2)),
    }
    assert found.moved[0].feature == "late"
    late_shares = np.array([0.75] * 4 + [0.0]), np.array([0.0] * 6 + [0.5])
    error = np.sqrt(sum(x.var() / len(x) for x in late_shares))
    assert found.moved[0].error == pytest.approx(error)
    assert {m.feature: (m.first, m.second) for m in found.classes} == {
        "good": (1, pytest.approx(0.2)),
        "bad": (0, pytest.approx(0.8)),
    }
