"""Ray Data: an actor pool over shards, on one machine or on many that see the same files.

What is kept of a run is the shards themselves: the actors write them, and what is sent about is only
which there are. So a run that Ray began goes on with the local engine, and the other way round, and no
checkpoint of Ray's has to wait for a CPU that no actor leaves it.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fxplain.corpora.arrow import arrow
from fxplain.corpora.explainer import CorpusExplainer
from fxplain.corpora.left import Kept, Left
from fxplain.corpora.pool import Failure, Order, in_pool, ready
from fxplain.corpora.reading import Data
from fxplain.corpora.run import Run
from fxplain.corpora.shards import begun_path
from fxplain.corpora.tasks import Done, Task, do
from fxplain.errors import FxplainError, InputError
from fxplain.extras import extra

__all__ = ["on_ray"]

SPARE = 2
"""CPUs that are no actor's: one to read with, and one for what Ray Data itself starts."""

NEEDED = "engine='ray' needs Ray: pip install 'fxplain[ray]'."


def on_ray(
    data: Data, left: Left, order: Order, workers: int
) -> Generator[Done | Kept, None, None]:
    """Do what is left of the data in an actor pool of Ray Data, in whatever order it is done.

    Raises
    ------
    InputError
        When the data cannot be read by another process, or the cluster is too small.
    MissingExtraError
        Without Ray.
    FxplainError
        When Ray itself gives up, or as a worker raises.
    """
    ray = extra("ray", NEEDED)
    extra("ray.data", NEEDED)
    if not data.again:
        raise InputError(
            "engine='ray' reads the data in another process: give files, a data set, columns or a "
            "list of rows, not an iterator."
        )
    with _connected(ray, workers), _small_blocks(ray):
        read = ray.data.from_items([{"part": 0}]).map_batches(partial(_read, data, left))
        done = read.repartition(target_num_rows_per_block=1).map_batches(
            Actor,
            fn_constructor_args=(order,),
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            num_gpus=1 if str(order.load.get("device", "")).startswith("cuda") else 0,
        )
        try:
            for row in done.iter_rows():
                said = _said(row)
                if isinstance(said, Failure):
                    raise said.error()
                yield said
        except ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()[-1]
            raise FxplainError(f"Ray ended the run: {said} What is explained is kept.") from error


# ---- in Ray's workers ---------------------------------------------------------------------------


def _message(what: Any) -> Any:
    """One row of a block: anything that can be pickled."""
    pa = arrow()
    return pa.table({"said": pa.array([pickle.dumps(what)], pa.large_binary())})


def _said(row: Any) -> Any:
    return pickle.loads(row["said"])


def _read(data: Data, left: Left, _: Any) -> Iterator[Any]:
    """What is left to do, a block for each."""
    try:
        for one in left.of(data.rows()):
            yield _message(one)
    except Exception as error:  # noqa: BLE001 - the driver raises it
        yield _message(Failure.of(error))


class Actor:
    """A worker of Ray's that has loaded the model, or knows why it cannot."""

    def __init__(self, order: Order) -> None:
        self.order = order
        try:
            self.explain: CorpusExplainer | Failure = ready(order)
        except Exception as error:  # noqa: BLE001 - Ray would start it again and again
            self.explain = Failure.of(error)

    def __call__(self, block: Any) -> Any:
        """Do a task; what is kept goes on as it is."""
        (row,) = block.to_pylist()
        one = _said(row)
        if not isinstance(one, Task):
            return _message(one)
        if isinstance(self.explain, Failure):
            return _message(self.explain)
        try:
            return _message(self._done(one))
        except Exception as error:  # noqa: BLE001 - the driver raises it
            return _message(Failure.of(error))

    def _done(self, task: Task) -> Done:
        """A task that a worker died of already is done in a process of its own, and in parts."""
        assert isinstance(self.explain, CorpusExplainer)
        output = self.order.output
        begun = begun_path(output.folder, task.shard)
        if begun.exists():
            run = Run(self.order.job, output, None, None)
            run.follow(in_pool(iter([task]), self.order, 1, run.split, run.dead))
            done = Done(task.shard, run.rows, run.errors)
        else:
            begun.touch()
            done = do(task, self.explain, output)
        begun.unlink(missing_ok=True)
        return done


# ---- in the driver ------------------------------------------------------------------------------


@contextmanager
def _connected(ray: Any, workers: int) -> Iterator[None]:
    """Ray as the caller has connected it; or else the cluster of RAY_ADDRESS, or one of its own."""
    own = not ray.is_initialized()
    if own:
        given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if "RAY_ADDRESS" not in os.environ:  # what computes has its threads; these CPUs are names
            cpus = max(workers + SPARE, os.cpu_count() or 1)
            given |= {"num_cpus": cpus, "include_dashboard": False}
        ray.init(**given)
    try:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if cpus < workers + SPARE:
            raise InputError(
                f"Ray has {cpus} CPUs; {workers} workers need {workers + SPARE}, for a run that leaves "
                f"none to what reads would wait for ever."
            )
        yield
    finally:
        if own:
            ray.shutdown()


@contextmanager
def _small_blocks(ray: Any) -> Iterator[None]:
    """Blocks of one shard each, and no bars of Ray's own."""
    context = ray.data.DataContext.get_current()
    own = {"target_max_block_size": 1, "enable_progress_bars": False}
    own |= {"print_on_execution_start": False}
    before = {name: getattr(context, name) for name in own}
    logger = logging.getLogger("ray.data")
    level = logger.level
    for name, value in own.items():
        setattr(context, name, value)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
