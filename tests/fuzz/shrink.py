"""From a recipe that fails to the plainest that fails in the same way, written as a script."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.fuzz.compare import Finding
from tests.fuzz.recipe import CHOICES, Recipe

SCRIPT = '''"""{outcome}, {form}: {detail}

Run from the root of the repository: python {path}
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[2]))

import fxplain
from tests.fuzz.compare import targets, tried, truth
from tests.fuzz.recipe import Recipe
import tests.fuzz.rarer
from tests.fuzz.build import build, make_inputs

recipe = {recipe}
model, inputs = build(recipe), make_inputs(recipe)
target = targets(recipe, recipe.batch)
want = truth(model, inputs, target)
print(tried(recipe))
explanation = fxplain.explain(model, inputs, target=target)
print(explanation.graph)
for name, relevance in want.relevance.items():
    print(name, "want", relevance, "got", explanation.relevance.get(name), sep="\\n")
'''


def shrunk(finding: Finding, tried: Callable[[Recipe], Finding]) -> Finding:
    """Every choice put back to its plainest as long as the outcome stays."""
    changed = True
    while changed:
        changed = False
        for name, options in CHOICES.items():
            if getattr(finding.recipe, name) == options[0]:
                continue
            again = tried(replace(finding.recipe, **{name: options[0]}))
            if again.outcome == finding.outcome:
                finding, changed = again, True
    return finding


def write(finding: Finding, folder: Path) -> Path:
    """The script that shows a finding."""
    recipe = finding.recipe
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recipe.topology}_{recipe.seed}.py"
    detail = finding.detail.replace('"""', "'''").replace("\\", "/")
    path.write_text(
        SCRIPT.format(
            outcome=finding.outcome, form=finding.form, detail=detail, path=path, recipe=recipe
        )
    )
    return path
