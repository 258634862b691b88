"""``fxplain corpus``: from a CSV and a model folder to an index page in one line."""

import json

import pytest
from typer.testing import CliRunner

from fxplain.cli import app
from tests import corpus_data, small_pretrained

pytest.importorskip("transformers")
pytest.importorskip("pyarrow")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["corpus", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    model = small_pretrained.save("classifier", root)
    data = corpus_data.write_csv(root / "reviews.csv", 30)
    command = ["explain", model, "--data", data, "--out", root / "out"]
    return root, command, run(*command, "--report", root / "report")


def test_one_line_makes_an_index_page(explained):
    root, _, result = explained
    assert "30 rows in" in result.stdout
    assert "2 with an error in their place" in result.stdout
    assert (root / "report" / "index.html").read_text().startswith("<!DOCTYPE html>")
    said = (root / "report" / "data" / "summary.js").read_text()
    assert ", explained by input_x_gradient." in said  # what is chosen for it, as for one text


def test_the_same_command_again_changes_nothing(explained):
    root, command, _ = explained
    before = (root / "out" / "part-000000.parquet").stat().st_mtime_ns
    run(*command)
    assert (root / "out" / "part-000000.parquet").stat().st_mtime_ns == before


def test_another_job_and_wrong_columns_are_errors(explained):
    root, command, _ = explained
    refused = run(*command, "--method", "rollout", code=1)
    assert "holds another job's rows. Different: method" in refused.stderr
    unknown = run(*command[:4], "--out", root / "b", "--text", "body", code=1)
    assert "--text 'body' names no column of the data; there are: 'id', 'text'" in unknown.stderr


def test_the_first_error_ends_the_run_where_asked(explained):
    root, command, _ = explained
    stopped = run(*command[:4], "--out", root / "c", "--stop-at-error", code=1)
    assert "the model takes 32 at most" in stopped.stderr


def test_summary_compare_and_report(explained):
    root, command, _ = explained
    out = root / "out"
    said = run("summary", out, "--minimum", 2).stdout
    assert "30 rows; errors: 2 InputError" in said
    assert "what drives" in said
    told = json.loads(run("summary", out, "--json").stdout)
    assert told["rows"] == 30
    run(*command[:4], "--out", root / "other", "--method", "rollout", "--truncation")
    same = json.loads(run("compare", out, out, "--json").stdout)
    assert same["rank_correlation"] == 1
    other = run("compare", out, root / "other").stdout
    assert "28 rows in both; 0 only in the first, 1 only in the second" in other
    assert "moved" in other
    late = root / "late.csv"
    late.write_text("text,label\n" + "so bad,bad\n" * 30)  # no row of it is in the other
    run("explain", command[1], "--data", late, "--out", root / "late")
    whole = run("compare", out, root / "late", "--minimum", 1).stdout
    assert "no row in common (28 in the first, 30 in the second): compared as wholes" in whole
    assert "±" in whole
    run("report", out)
    assert (out / "report" / "index.html").exists()
    run(*command)  # the report does not stand in the run's way


def test_what_is_no_corpus_is_said(tmp_path):
    assert "no explained corpus" in run("summary", tmp_path, code=1).stderr
