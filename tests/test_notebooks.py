"""The notebooks run from the first cell to the last, and show what they say they show."""

from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(scope="module")
def shown() -> list[tuple[str, str]]:
    """The quickstart's code cells, and the kinds of what each shows: (code, MIME types)."""
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    resources = {"metadata": {"path": str(EXAMPLES.parent)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    return [
        (cell.source, " ".join(kind for output in cell.outputs for kind in output.get("data", {})))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
def test_quickstart_draws(shown: list[tuple[str, str]]) -> None:
    pictures = [code for code, kinds in shown if "image/png" in kinds]
    assert len(pictures) == 4
    assert pictures == [code for code, _ in shown if ".plot" in code]


@pytest.mark.slow
def test_quickstart_ends_with_a_report(shown: list[tuple[str, str]]) -> None:
    code, kinds = shown[-1]
    assert code == "e"
    assert "text/html" in kinds


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
