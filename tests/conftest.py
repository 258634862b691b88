"""Settings for all tests: one thread each, since as many workers as cores run side by side."""

import gc

import pytest
import torch

from tests.long_run import leave_most_to_the_long_run

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of many like cases the quick run tries some."""
    leave_most_to_the_long_run(items)


def pytest_collection_finish() -> None:
    """What was imported stays: looking through it for garbage again and again is a tenth of a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(autouse=True)
def same_weights_in_every_run() -> None:
    """A test's random weights do not hang on which tests ran before it."""
    torch.manual_seed(0)


def pytest_make_parametrize_id(val: object) -> str | None:
    """The default names, but none of bytes: workers must find the same names in every run."""
    if isinstance(val, bytes):
        raise pytest.UsageError(f"give the case {val!r:.40} a name")
    return None
