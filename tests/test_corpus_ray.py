"""The Ray engine: the local engine's rows, its errors, and none where it would wait for ever."""

import pytest
import torch

import fxplain
from fxplain.corpora.job import Manifest
from fxplain.corpora.left import Left
from fxplain.corpora.pool import Order
from fxplain.corpora.ray_data import Actor, _read, _said
from fxplain.corpora.reading import open_data
from fxplain.corpora.shards import begun_path
from fxplain.corpora.tasks import Done, Output
from fxplain.errors import ChangedModelError, InputError
from tests import corpus_data, small_pretrained

pytest.importorskip("transformers")
pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_pretrained.save("classifier", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def explainer(folder):
    return fxplain.from_pretrained(folder)


# ---- what Ray's processes do, without Ray -------------------------------------------------------


def setting(folder, explainer, out):
    """An actor's order, and the messages of the tasks for two shards of two rows."""
    explain = fxplain.CorpusExplainer(explainer, text="text", id="id")
    facts = Manifest.of(explainer, explain.job, None, 2).facts
    out.mkdir()
    output = Output(out, {}, ("id", "text"))
    order = Order(str(folder), {}, facts["weights"], explain.job, output, 1)
    data = open_data([{"id": name, "text": "a cat"} for name in "abcd"])
    return order, list(_read(data, Left(out, 2, 1, False), None))


def said(block):
    return _said(block.to_pylist()[0])


def test_an_actor_writes_shards(folder, explainer, tmp_path):
    order, tasks = setting(folder, explainer, tmp_path / "out")
    threads = torch.get_num_threads()
    actor = Actor(order)
    torch.set_num_threads(threads)
    assert [said(actor(task)) for task in tasks] == [Done(0, 2, 0), Done(1, 2, 0)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]


def test_an_actor_whose_model_is_another_says_so(folder, explainer, tmp_path):
    order, (task, _) = setting(folder, explainer, tmp_path / "out")
    other = Order(order.model, order.load, "other", order.job, order.output, 1)
    assert isinstance(said(Actor(other)(task)).error(), ChangedModelError)


@pytest.mark.slow
def test_a_shard_that_a_worker_died_of_is_done_apart(folder, explainer, tmp_path):
    order, (task, _) = setting(folder, explainer, tmp_path / "out")
    actor = Actor(order)
    begun_path(tmp_path / "out", 0).touch()
    actor.explain.explainer = None  # it is not used
    assert said(actor(task)) == Done(0, 2, 0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["part-000000.parquet"]


# ---- with Ray -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray", reason="Ray is not installed: `make test-engines` brings it")
    found.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield found
    found.shutdown()


@pytest.mark.slow
def test_rows_are_those_of_the_local_engine(folder, tmp_path, ray):
    data, whole = corpus_data.write_csv(tmp_path / "a.csv", 50), tmp_path / "whole"
    local = fxplain.explain_corpus(folder, data, whole, shard_rows=8)
    told = []
    out, how = tmp_path / "out", {"engine": "ray", "workers": 2, "progress": told.append}
    found = fxplain.explain_corpus(folder, data, out, shard_rows=8, **how)
    assert found.to_table().equals(local.to_table())
    assert [file.name for file in found.files] == [file.name for file in local.files]
    assert (told[-1].rows, told[-1].errors, told[-1].before) == (50, 2, 0)
    found.files[2].unlink()
    kept = {file: file.stat().st_mtime_ns for file in found.files if file.exists()}
    again = fxplain.explain_corpus(folder, data, out, retry_errors=True, **how)
    assert again.to_table().equals(local.to_table())
    assert told[-1].rows == 50
    changed = {file.name for file in again.files if file.stat().st_mtime_ns != kept.get(file)}
    assert changed == {f"part-{number:06d}.parquet" for number in (0, 1, 2)}  # 7 and 11 are errors


@pytest.mark.slow
def test_what_ends_a_run_is_raised_as_it_is(folder, tmp_path, ray):
    with pytest.raises(InputError, match="not an iterator"):
        fxplain.explain_corpus(folder, iter(["a cat"]), tmp_path / "a", engine="ray")
    with pytest.raises(InputError, match="Ray has 4 CPUs; 3 workers need 5"):
        fxplain.explain_corpus(folder, ["a cat"], tmp_path / "b", engine="ray", workers=3)
    with pytest.raises(InputError, match="the text is empty"):
        fxplain.explain_corpus(folder, [""], tmp_path / "c", engine="ray", on_error="raise")


@pytest.mark.slow
def test_the_batch_class_is_what_map_batches_takes(folder, tmp_path, ray):
    import ray.data

    corpus_data.write_csv(tmp_path / "a.csv", 20)
    rows = (
        ray.data.read_csv(str(tmp_path / "a.csv"))
        .map_batches(
            fxplain.CorpusExplainer,
            fn_constructor_args=(str(folder),),
            compute=ray.data.ActorPoolStrategy(size=1),
            batch_size=10,
        )
        .take_all()
    )
    local = fxplain.explain_corpus(folder, tmp_path / "a.csv", tmp_path / "out").to_table()
    found = {row["id"]: row["tokens"] for row in rows}
    assert {k: v if v is None else list(v) for k, v in found.items()} == dict(
        zip(local["id"].to_pylist(), local["tokens"].to_pylist(), strict=True)
    )
