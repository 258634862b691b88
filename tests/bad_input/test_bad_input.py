"""Whatever is given to whatever is public, it is refused by name or answered as it should be."""

import pytest

from tests.bad_input.__main__ import tried
from tests.bad_input.doors import GROUPS

pytest.importorskip("transformers")
pytest.importorskip("pyarrow")


def wrong(group, step):
    """What is wrong where each door is given every `step`-th value, one further at each door."""
    found = []
    for number, door in enumerate(GROUPS[group]()):
        for name in [*door.values][number % step :: step]:
            said = tried(door, name)
            if said.startswith("WRONG"):
                found.append(f"{door.name} {name} {said}")
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_some_values_at_every_door(group, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some values are paths
    steps = {"shell": 48, "odd things": 1}  # a command is slow
    assert not wrong(group, steps.get(group, 14))


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_value_at_every_door(group, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not wrong(group, 1)
