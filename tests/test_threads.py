"""Any number of threads may explain cold and warm models, and nothing of the process changes."""

import logging
import random
import sys
import threading
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import fxplain
from fxplain.capture import as_module, first_parameter, locks, routes
from fxplain.capture.preserve import preserved
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
    with locks.capturing(model):
        model.encoder.words.weight = nn.Parameter(weight.to("meta"))
        thread.start()
        thread.join(0.3)
        assert not found
        model.encoder.words.weight = weight
    thread.join(60)
    assert found[0] is (weight if look is first_parameter else model)


class Ordered:
    """A lock that notes which others the thread held when it took this one."""

    def __init__(self, rank: int, taken: list[int], wrong: list[tuple[int, int]]) -> None:
        self.rank, self.taken, self.wrong = rank, taken, wrong

    def __enter__(self) -> None:
        if self.rank not in self.taken:
            self.wrong += [(held, self.rank) for held in self.taken if held > self.rank]
        self.taken.append(self.rank)

    def __exit__(self, *_: object) -> None:
        self.taken.pop()


def test_locks_are_taken_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that are taken in another order by two threads are a deadlock, some day."""
    taken: list[int] = []
    wrong: list[tuple[int, int]] = []
    capturing, of_model, chance = (Ordered(rank, taken, wrong) for rank in range(3))
    own = types.SimpleNamespace(capturing=capturing, chance=chance, of=lambda _: of_model)
    monkeypatch.setattr(locks, "_locks", own)
    model = seeded(Drawing)
    fxplain.explain(model, (words(2, 6),), target=1, recheck=True)
    fxplain.verify(seeded(TextClassifier), (words(2, 6),))
    fxplain.explain_generation(written(), {"input_ids": words(1, 3)}, max_new_tokens=1)
    assert not taken
    assert not wrong


class Drawing(TextClassifier):
    """Random numbers in eval mode."""

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids) + torch.rand(())


def written() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 30}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).eval()


def test_a_model_is_remembered_when_its_capture_is_over() -> None:
    """What a capture puts in the places of weights is neither run nor put back."""
    model = seeded(TextClassifier)

    def remembered() -> None:
        with preserved(model):
            pass

    other = threading.Thread(target=remembered, daemon=True)
    with locks.capturing(model):
        other.start()
        other.join(0.1)
        assert other.is_alive()
    other.join(60)
    assert not other.is_alive()
