"""Any number of threads may explain cold and warm models, and nothing of the process changes."""

import logging
import random
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.capture import as_module, first_parameter, routes
from fxplain.capture.locks import capturing
from tests.small_models import ImageClassifier, TextClassifier, pixels, seeded, words


def _models() -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    return [
        (seeded(TextClassifier), (words(2, 6),)),
        (seeded(TextClassifier), (words(1, 5),)),
        (seeded(ImageClassifier), (pixels(),)),
        (seeded(Branching), (words(2, 4),)),
    ]


class Branching(TextClassifier):
    """A branch on data, so that it is recorded."""

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        out = super().forward(input_ids)
        return out * 2 if bool(out.sum() > -1e9) else out


def _in_threads(jobs: list[Callable[[], object]], threads: int = 8) -> list[object]:
    start = threading.Barrier(threads)

    def run(i: int) -> list[object]:
        start.wait()
        order = jobs[i % len(jobs) :] + jobs[: i % len(jobs)]
        return [job() for job in order]

    with ThreadPoolExecutor(threads) as pool:
        return [x for found in pool.map(run, range(threads)) for x in found]


def _process() -> tuple[object, ...]:
    return (
        sys.stderr,
        nn.Module.__call__,
        nn.Module._call_impl,
        torch.manual_seed,
        logging.root.manager.disable,
        list(warnings.filters),
        torch.is_grad_enabled(),
        torch.get_rng_state().tolist(),
        random.getstate(),
    )


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_eight_threads_and_four_cold_models(rounds: int) -> None:
    wanted = [fxplain.explain(m, x, target=1).relevance for m, x in _models()]
    before = _process()
    for _ in range(rounds):
        right: list[bool] = []

        def job(index: int, model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
            def check() -> bool:
                found = fxplain.explain(model, inputs, target=1).relevance
                return all(torch.allclose(found[k], v, atol=1e-5) for k, v in wanted[index].items())

            return check

        jobs = [job(i, m, x) for i, (m, x) in enumerate(_models())]
        right = [bool(x) for x in _in_threads(jobs)]
        assert right == [True] * 32
    assert _process() == before


def test_a_warm_model_answers_while_it_is_captured_for_other_inputs() -> None:
    model = seeded(TextClassifier)
    one, two = (words(1, 5),), (words(2, 6),)
    wanted = fxplain.explain(model, one, target=1).relevance["input_ids"]
    jobs: list[Callable[[], object]] = [
        lambda: torch.allclose(
            fxplain.explain(model, one, target=1).relevance["input_ids"], wanted, atol=1e-6
        ),
        lambda: fxplain.explain(model, two, target=1).relevance["input_ids"].shape == (2, 6),
    ]
    assert all(_in_threads(jobs))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_lock_stays_behind_an_error(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = seeded(TextClassifier), (words(2, 6),)
    before = _process()

    def failing(*_: object) -> list[object]:
        def route() -> None:
            raise error

        return [("export", route)]

    with monkeypatch.context() as patch:
        patch.setattr(routes, "routes_for", failing)
        expected = KeyboardInterrupt if error is KeyboardInterrupt else fxplain.CaptureError
        with pytest.raises(expected):
            fxplain.explain(model, inputs, target=1)
    assert _process() == before
    found: list[object] = []
    thread = threading.Thread(
        target=lambda: found.append(fxplain.explain(model, inputs, target=1)), daemon=True
    )
    thread.start()
    thread.join(60)
    assert len(found) == 1


@pytest.mark.parametrize("look", [as_module, first_parameter])
def test_what_stands_in_a_models_weights_while_it_is_captured_is_not_looked_at(
    look: Callable[[nn.Module], object],
) -> None:
    model = seeded(TextClassifier)
    weight = model.encoder.words.weight
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(look(model)), daemon=True)
    with capturing(model):
        model.encoder.words.weight = nn.Parameter(weight.to("meta"))
        thread.start()
        thread.join(0.3)
        assert not found
        model.encoder.words.weight = weight
    thread.join(60)
    assert found[0] is (weight if look is first_parameter else model)
