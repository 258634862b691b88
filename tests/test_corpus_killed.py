"""Runs whose workers, or that themselves, are killed: no row is missing, none is there twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import fxplain
from fxplain.corpora.job import Job
from fxplain.corpora.layout import Layout
from fxplain.corpora.left import Left
from fxplain.corpora.pool import Pool, Worker, _done
from fxplain.corpora.run import Run
from fxplain.corpora.schema import COLUMNS, failed_row
from fxplain.corpora.shards import shards
from fxplain.corpora.tasks import Output, Task, do
from fxplain.errors import FxplainError
from tests import corpus_data, small_pretrained

pytest.importorskip("transformers")
pq = pytest.importorskip("pyarrow.parquet")

ROWS, SHARD = 240, 20


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed")
    model = small_pretrained.save("classifier", root)
    data = corpus_data.write_csv(root / "data.csv", ROWS)
    whole = fxplain.explain_corpus(str(model), data, root / "whole", shard_rows=SHARD)
    return model, data, whole


@pytest.fixture(params=["local", "ray"])
def engine(request):
    if request.param == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: `make test-engines` brings it")
    return request.param


def started(setting, out, workers, engine="local"):
    model, data, _ = setting
    command = [sys.executable, "-m", "fxplain_command", "corpus", "explain", model, "--data", data]
    command += ["--out", out, "--workers", workers, "--shard-rows", SHARD, "--engine", engine]
    own = {"PYTHONPATH": str(Path(__file__).parents[1])}
    own["OMP_NUM_THREADS"] = "1"  # as the tests' own: sums in another order end in other digits
    environment = {**os.environ, **own}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        list(map(str, command)), env=environment, start_new_session=True, **pipes
    )


def wait_for_shards(out, count, run):
    end = time.monotonic() + 600
    while len(list(out.glob("*.parquet"))) < count:
        assert time.monotonic() < end
        assert run.poll() is None
        time.sleep(0.005)


def check(out, setting):
    found = fxplain.load_corpus(out)
    assert found.manifest.complete
    assert [row.id for row in found] == [f"r{i}" for i in range(ROWS)]
    assert found.to_table().equals(setting[2].to_table())
    assert not list(out.glob("*.tmp"))


def workers_of(run, engine):
    """The processes that have the model: of a run, or of its Ray."""
    mark = {"local": "spawn_main", "ray": "ray::MapWorker"}[engine]
    near = psutil.Process(run.pid).children() if engine == "local" else psutil.process_iter()
    return [process for process in near if mark in " ".join(process.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_shard_done_again(setting, tmp_path, engine):
    out = tmp_path / "out"
    run = started(setting, out, 2, engine)
    wait_for_shards(out, 1, run)
    os.kill(workers_of(run, engine)[0].pid, signal.SIGKILL)
    assert run.wait(600) == 0, run.stderr.read()
    check(out, setting)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_ends_in_the_middle_is_taken_up(setting, tmp_path, sign, engine):
    out = tmp_path / "out"
    run = started(setting, out, 2, engine)
    wait_for_shards(out, 2, run)
    run.send_signal(sign)
    assert run.wait(60) != 0
    there = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert 2 <= len(there) < ROWS // SHARD
    again = started(setting, out, 2, engine)
    assert again.wait(600) == 0, again.stderr.read()
    check(out, setting)
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())


@pytest.mark.slow
def test_ctrl_c_ends_workers_without_a_word(setting, tmp_path):
    out = tmp_path / "out"
    run = started(setting, out, 2)
    wait_for_shards(out, 2, run)
    workers = workers_of(run, "local")
    os.killpg(run.pid, signal.SIGINT)  # as a terminal sends it: to all of them
    said = run.communicate(timeout=60)[1].decode()
    assert "note: stopped; the same command goes on where it was" in said
    assert "Traceback" not in said
    assert "leaked" not in said
    assert not any(worker.is_running() for worker in workers)
    assert {path.suffix for path in out.iterdir()} <= {".json", ".lock", ".parquet"}


@pytest.mark.slow
def test_a_killed_run_of_one_process_is_taken_up(setting, tmp_path):
    out = tmp_path / "out"
    run = started(setting, out, 1)
    wait_for_shards(out, 2, run)
    run.kill()
    run.wait()
    assert 2 <= len(list(out.glob("*.parquet"))) < ROWS // SHARD
    fxplain.explain_corpus(str(setting[0]), setting[1], out)
    check(out, setting)


class Line:
    def send(self, task):
        """Taken by the worker; `Workers.heard` says what becomes of it."""

    def close(self):
        """Nothing is open."""


class Workers(Pool):
    """Workers that die of a text, and otherwise say of every row that it was seen."""

    def start(self):
        process = SimpleNamespace(join=lambda: None)
        self.workers.append(Worker(process, Line(), ready=True))

    def heard(self):
        for worker in [w for w in self.workers if w.task]:
            texts = [row["text"] for row in worker.task.rows]
            yield worker, None if "deadly" in texts else do(worker.task, seen, self.order)


def seen(columns):
    made = [failed_row({"id": name}, "seen") for name in columns["id"]]
    return {name: [row[name] for row in made] for name in COLUMNS}


seen.warnings = {}


def test_only_the_row_that_workers_die_of_is_lost(tmp_path):
    rows = [{"id": str(i), "text": "deadly" if i == 6 else "a"} for i in range(10)]
    job = Job(Layout(text="text", id="id"), None, "generic", None, "record", 1024)
    output = Output(tmp_path, {}, ("id", "text"))
    run = Run(job, output, None, None)
    pool = Workers(output, 2)
    pool.start()
    pool.start()
    run.follow(
        _done(pool, run.new(Left(tmp_path, 5, 1, False).of(iter(rows))), run.split, run.dead)
    )
    assert (run.rows, run.errors) == (10, 10)
    found = [row for path in shards(tmp_path) for row in pq.read_table(path).to_pylist()]
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    said = [row["error"] for row in found]
    assert said.pop(6) == "FxplainError: the worker process died of it."
    assert set(said) == {"seen"}


def test_workers_that_never_start_end_the_run():
    pool = Workers(None, 1, early_deaths=2)
    pool.start()
    pool.workers[0].ready = False
    with pytest.raises(FxplainError, match="die before they have loaded"):
        pool.bury(pool.workers[0])


def test_what_workers_die_of_is_halved_until_one_row_is_left():
    task = Task(3, [{"text": str(i)} for i in range(5)])
    (again,) = task.again()
    first, second = again.again()
    assert (first.places, second.places) == ((0, 1), (2, 3, 4))
    assert [row["text"] for row in second.rows] == ["2", "3", "4"]
    alone = Task(3, task.rows[:1], (4,), deaths=1)
    assert alone.again() == []
