"""The local pool: spawned workers over shards. One that dies is replaced, and its shard tried again."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

import torch

from fxplain import errors
from fxplain.corpora.explainer import CorpusExplainer
from fxplain.corpora.job import Job, weights_hash
from fxplain.corpora.tasks import Done, Output, Task, do
from fxplain.errors import ChangedModelError, FxplainError

__all__ = ["Failure", "Order", "in_pool", "ready", "threads_each"]

MOST_EARLY_DEATHS = 3

PATIENCE = 10.0
"""Seconds that a worker has to end by itself."""


@dataclass(frozen=True)
class Order:
    """What a worker needs to know before its first task."""

    model: str
    load: Mapping[str, Any]
    weights: str
    job: Job
    output: Output
    threads: int


@dataclass(frozen=True)
class Failure:
    """An error that ends the run, by its class's name, for not every error can be pickled."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What is left of an error between processes."""
        return cls(type(error).__name__, str(error))

    def error(self) -> Exception:
        """The error to raise in the parent."""
        known = getattr(errors, self.kind, None) if self.kind in errors.__all__ else None
        if known is not None:
            raised: Exception = known(self.message)
            return raised
        if self.kind in ("OSError", "PermissionError", "FileNotFoundError"):
            return OSError(self.message)
        return FxplainError(f"{self.kind}: {self.message}")


def threads_each(workers: int) -> int:
    """The threads that each of several workers computes with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(torch.get_num_threads(), cores or 1) // workers)


# ---- in a worker --------------------------------------------------------------------------------


def work(line: Connection, order: Order) -> None:
    """A worker's life: load the model, then explain what comes until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # it is asked to end, not ended: what it writes aside is deleted, its semaphores are given back
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    atexit.register(os._exit, 0)  # and captured graphs need not be collected one by one
    try:
        explain = ready(order)
        line.send("ready")
        while True:
            line.send(do(line.recv(), explain, order.output))
    except EOFError:  # the parent has no more to do, or is gone
        return
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001 - the parent raises it
        line.send(Failure.of(error))


def ready(order: Order) -> CorpusExplainer:
    """A worker's own explainer, of the very same model.

    Raises
    ------
    ChangedModelError
        When what it loads has other weights.
    """
    torch.set_num_threads(order.threads)
    explain = CorpusExplainer(order.model, load=order.load, **order.job.keywords())
    if weights_hash(explain.explainer.model) != order.weights:
        raise ChangedModelError(
            f"what workers load from {order.model!r} has other weights than the explainer's model: "
            f"save_pretrained the model and give the folder, or use workers=1."
        )
    return explain


# ---- in the parent ------------------------------------------------------------------------------


@dataclass
class Worker:
    """A process, the line to it, and what it is at."""

    process: Any
    line: Connection
    task: Task | None = None
    ready: bool = False


@dataclass
class Pool:
    """Workers, and the tasks that come back from dead ones."""

    order: Order
    count: int
    workers: list[Worker] = field(default_factory=list)
    again: deque[Task] = field(default_factory=deque)
    early_deaths: int = 0

    def start(self) -> None:
        """Another worker."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self.order), daemon=True)
        with (
            _interrupts_held()
        ):  # for it inherits that, and imports much before it can say so itself
            process.start()
        theirs.close()
        self.workers.append(Worker(process, ours))

    def heard(self) -> Iterator[tuple[Worker, Any]]:
        """What workers say; None of one that died."""
        lines = {worker.line: worker for worker in self.workers}
        for line in connection.wait(list(lines)):
            worker = lines[line]  # type: ignore[index]
            try:
                said = worker.line.recv()
            except (EOFError, OSError):
                said = None
            yield worker, said

    def bury(self, worker: Worker) -> Task | None:
        """A worker that died is replaced; what it was at."""
        self.workers.remove(worker)
        worker.line.close()
        worker.process.join()
        if not worker.ready:
            self.early_deaths += 1
            if self.early_deaths >= MOST_EARLY_DEATHS:
                raise FxplainError(
                    "the workers die before they have loaded the model: see what they wrote. A script "
                    "that starts workers does so below `if __name__ == '__main__':`."
                )
        self.start()
        return worker.task

    def close(self) -> None:
        """End all workers; what they were writing was aside."""
        for worker in self.workers:
            worker.line.close()
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(PATIENCE)
            worker.process.kill()
            worker.process.join()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Meanwhile this thread, and processes that it starts, are not interrupted by Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_pool(
    tasks: Iterator[Task],
    order: Order,
    count: int,
    on_split: Callable[[Task], None],
    on_dead_row: Callable[[Task], Done],
) -> Generator[Done, None, None]:
    """Do tasks in several processes, in whatever order they are done.

    Parameters
    ----------
    on_split
        Told before a shard is tried in parts.
    on_dead_row
        What becomes of a row that workers die of.
    """
    pool = Pool(order, count)
    try:
        for _ in range(count):
            pool.start()
        yield from _done(pool, tasks, on_split, on_dead_row)
    finally:
        pool.close()


def _done(
    pool: Pool,
    tasks: Iterator[Task],
    on_split: Callable[[Task], None],
    on_dead_row: Callable[[Task], Done],
) -> Iterator[Done]:
    left = True
    while True:
        for worker in pool.workers:
            if worker.ready and worker.task is None and (left or pool.again):
                task = pool.again.popleft() if pool.again else next(tasks, None)
                left = left and task is not None
                if task is not None:
                    _hand(worker, task)
        if not left and not pool.again and not any(worker.task for worker in pool.workers):
            return
        for worker, said in pool.heard():
            if isinstance(said, Failure):
                raise said.error()
            if said == "ready":
                worker.ready = True
            elif isinstance(said, Done):
                worker.task = None
                yield said
            else:
                lost = pool.bury(worker)
                yield from _after_death(pool, lost, on_split, on_dead_row)


def _hand(worker: Worker, task: Task) -> None:
    """Hand a task over; of a worker that died meanwhile it is heard next."""
    worker.task = task
    try:
        worker.line.send(task)
    except OSError:
        return


def _after_death(
    pool: Pool,
    lost: Task | None,
    on_split: Callable[[Task], None],
    on_dead_row: Callable[[Task], Done],
) -> Iterator[Done]:
    if lost is None:
        return
    tries = lost.again()
    if len(tries) == 2 and lost.places is None:
        on_split(lost)
    pool.again.extendleft(reversed(tries))
    if not tries:
        if lost.places is None:
            on_split(lost)
        yield on_dead_row(lost)
