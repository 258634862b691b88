"""Doors to the disk: places where nothing can be written, and files that somebody altered."""

from __future__ import annotations

import copy
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import fxplain
from fxplain import corpora
from tests.bad_input.door import Door
from tests.bad_input.given import explainer, explanation, home, measured, seen, written
from tests.bad_input.results import circuit, effects

__all__ = ["files", "places"]

WRONG = (None, -1, "x", [], {}, [None], {"a": 1}, 1.5, True, [[[[1]]]], 10**30, "\ud800", {"": []})


# ---- where nothing can be written ---------------------------------------------------------------


def _made(name: str, make: Callable[[Path], Path]) -> tuple[str, Callable[[], Path]]:
    return name, lambda: make(Path(tempfile.mkdtemp(dir=home())))


def _file(folder: Path) -> Path:
    (folder / "file").write_text("a file")
    return folder / "file"


def _closed(folder: Path) -> Path:
    folder.chmod(0o500)
    return folder / "x" if not _may_write(folder) else Path("/proc/self/x")


def _may_write(folder: Path) -> bool:
    try:
        (folder / "try").write_text("")
    except OSError:
        return False
    return True


def _link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere" / "x")
    return folder / "link"


def _loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


EVERYWHERE = dict([
    _made("under a file", lambda folder: _file(folder) / "x"),
    _made("long name", lambda folder: folder / ("x" * 300)),
    _made("NUL", lambda folder: folder / "a\0b"),
    _made("closed folder", _closed),
    _made("loop", _loop),
])  # fmt: skip
FILES = EVERYWHERE | dict([
    _made("a folder", lambda folder: folder),
    _made("no folder", lambda folder: folder / "none" / "x"),
    _made("dangling link", _link),
])  # fmt: skip
FOLDERS = EVERYWHERE | dict([_made("a file", _file)])


def places() -> Iterator[Door]:
    """Every result that can be written, where it cannot."""
    e, w, graph = explanation(), written(), explanation().graph
    writers: dict[str, Callable[[Any], Any]] = {
        "Explanation.save": e.save,
        "Generation.save": w.save,
        "compare": lambda path: fxplain.compare([e, e], path),
        "to_html": lambda path: fxplain.to_html([e, e], path),
        "Evaluation.to_csv": measured().to_csv,
    }
    pages = {
        "Explanation": e, "seen Explanation": seen(), "Generation": w, "AttentionGraph": graph,
        "Effects": effects(), "Circuit": circuit(), "Evaluation": measured(), "Flow": e.flow(),
    }  # fmt: skip
    for name, result in pages.items():
        for method in ("to_html", "to_json", "to_dot", "to_graphml", "to_mermaid"):
            if hasattr(result, method):
                writers[f"{name}.{method}"] = getattr(result, method)
    for name, write in writers.items():
        replaced = {"loop", "dangling link"} if name.endswith(".save") else ()  # the links
        yield Door(f"{name} to a place", write, frozenset(replaced), values=FILES)
    asked, rows = explainer("classifier"), ["the movie"]
    yield Door(
        "explain_corpus to a place",
        lambda out: fxplain.explain_corpus(asked, rows, out),
        values=FOLDERS,
    )
    yield Door(
        "write_report to a place", lambda out: corpora.write_report(corpus(), out), values=FOLDERS
    )


# ---- what somebody altered ----------------------------------------------------------------------


@cache
def corpus() -> fxplain.Corpus:
    rows = [{"id": "a", "text": "the movie"}, {"id": "b", "text": ""}]
    return fxplain.explain_corpus(explainer("classifier"), rows, tempfile.mkdtemp(dir=home()))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all fields, of lists the first two entries."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:2]) if isinstance(value, list) else items
    for key, each in items:
        yield from _paths(each, (*path, key))


def _altered(plain: Any) -> Iterator[tuple[str, Any]]:
    """With each field in turn wrong, left out, or joined by one that nobody knows."""
    wrong = cycle(WRONG)
    for path in _paths(plain):
        for what in ("wrong", "gone", "more"):
            changed = copy.deepcopy(plain)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            value = next(wrong)
            if what == "wrong":
                inner[path[-1]] = value
            elif what == "gone":
                del inner[path[-1]]
            elif isinstance(inner, dict):
                inner[f"{path[-1]}/../more"] = value
            else:
                inner.append(value)
            yield f"{what} {'.'.join(map(str, path))} {value!r}"[:70], changed


TEXTS = {
    "null": "null", "number": "3", "list": "[]", "deep list": "[" * 100_000,
    "deep dict": '{"a":' * 50_000, "torn": "{", "nothing": "", "no dict": "{}", "nan": "NaN",
    "long number": "1" * 10_000,
}  # fmt: skip


def _tensor_file(path: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["fxplain"])
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _odd(value: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "of whole numbers": value.long(), "longer": torch.cat([value, value]),
        "of no axis": torch.tensor(1.0), "of none": value[:0], "nan": value.double() * float("nan"),
        "deeper": value[None],
    }  # fmt: skip


def _hostile(whole: Path) -> dict[str, Callable[[], Path]]:
    """Files like a saved one, each wrong in one way."""
    header, tensors = _tensor_file(whole)

    def saved(header: str, tensors: dict[str, torch.Tensor] = tensors) -> Path:
        path = Path(tempfile.mkdtemp(dir=home())) / "altered"
        save_file(tensors, str(path), metadata={"fxplain": header})
        return path

    def raw(content: bytes) -> Path:
        path = Path(tempfile.mkdtemp(dir=home())) / "raw"
        path.write_bytes(content)
        return path

    content = whole.read_bytes()
    made: dict[str, Callable[[], Path]] = {
        name: lambda text=text: saved(text) for name, text in TEXTS.items()
    }
    made |= {
        name: lambda changed=changed: saved(json.dumps(changed))
        for name, changed in _altered(header)
    }
    said = json.dumps(header)
    for name, value in tensors.items():
        less = {k: v for k, v in tensors.items() if k != name}
        made[f"tensor {name} gone"] = lambda less=less: saved(said, less)
        for how, odd in _odd(value).items():
            made[f"tensor {name} {how}"] = lambda name=name, odd=odd: saved(
                said, {**tensors, name: odd.contiguous()}
            )
    for share in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        made[f"torn at {share}"] = lambda share=share: raw(content[:share])
    made["long header"] = lambda: raw((1 << 62).to_bytes(8, "little") + content[8:])
    made["long header, no file"] = lambda: raw(b"\xff" * 8)
    made["a pickle"] = lambda: raw(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    made["other bytes"] = lambda: raw(bytes(range(256)) * 40)
    return made


def _read_explanation(path: Path) -> None:
    """All that a reader may ask for."""
    found = fxplain.load(path)
    assert str(found)
    assert found.to_dict()
    assert found.to_html()
    assert found.plot()
    assert found.graph.to_networkx()
    assert str(found.graph)
    for name in found.modalities:
        found.words(name)
        found.units(name)
    found.top()


def _read_generation(path: Path) -> None:
    found = fxplain.Generation.load(path)
    assert str(found)
    assert found.to_dict()
    assert found.to_html()
    for name in found.modalities:
        found.matrix(name)
        found.labels(name)
        found.row(0, 0, name)


def _read_graph(plain: Any) -> None:
    found = fxplain.AttentionGraph.from_dict(plain)
    assert str(found)
    assert found.to_dot()
    assert found.to_mermaid()
    assert found.to_graphml()
    assert found.to_html()
    assert found.plot()


def _read_corpus(folder: Path) -> None:
    found = fxplain.load_corpus(folder)
    assert str(found)
    found.to_table()
    for row in found:
        assert str(row)
    assert found.failed >= 0
    assert isinstance(found.warnings, list)
    corpora.summarise(found, "word", 1)
    corpora.summarise(found, "column", 1)
    corpora.write_report(found, Path(tempfile.mkdtemp(dir=home())) / "report", minimum=1)
    found.explain(0, explainer("classifier"))


def _corpora() -> dict[str, Callable[[], Path]]:
    """Folders like an explained corpus, each wrong in one way."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = corpus()
    manifest = (whole.folder / "manifest.json").read_text()
    shard = whole.files[0].read_bytes()
    table = pq.read_table(whole.files[0])

    def folder(said: str | None = manifest, part: Any = shard) -> Path:
        path = Path(tempfile.mkdtemp(dir=home()))
        if said is not None:
            (path / "manifest.json").write_text(said)
        if isinstance(part, bytes):
            (path / "part-000000.parquet").write_bytes(part)
        else:
            pq.write_table(part, path / "part-000000.parquet")
        return path

    made: dict[str, Callable[[], Path]] = {
        f"manifest {name}": lambda text=text: folder(text) for name, text in TEXTS.items()
    }
    made |= {
        f"manifest {name}": lambda changed=changed: folder(json.dumps(changed))
        for name, changed in _altered(json.loads(manifest))
    }
    made["no manifest"] = lambda: folder(None)
    for share in (0, 4, len(shard) // 2, len(shard) - 1):
        made[f"torn at {share}"] = lambda share=share: folder(part=shard[:share])
    kinds = {
        "of numbers": pa.array([1.0, 2.0]), "of texts": pa.array(["x", "[1,"]),
        "of lists": pa.array([["a", "b"], ["c"]]), "of none": pa.nulls(2),
        "of bytes": pa.array([b"\xff", b"x"]),
    }  # fmt: skip
    for place, name in enumerate(table.schema.names):
        made[f"column {name} gone"] = lambda name=name: folder(part=table.drop([name]))
        for how, column in kinds.items():
            made[f"column {name} {how}"] = lambda place=place, name=name, column=column: folder(
                part=table.set_column(place, name, column)
            )
    for how in ('{"rows": "x"}', '{"warnings": "[1]"}', '{"warnings": "["}', '{"rows": "-1"}'):
        said = {f"fxplain.{k}": v for k, v in json.loads(how).items()}
        metadata = {**(table.schema.metadata or {}), **{k.encode(): v for k, v in said.items()}}
        made[f"metadata {how}"] = lambda metadata=metadata: folder(
            part=table.replace_schema_metadata(metadata)
        )
    made["no metadata"] = lambda: folder(part=table.replace_schema_metadata(None))
    return made


def _models() -> dict[str, Callable[[], Path]]:
    """Folders like a saved model, each wrong in one way."""
    from tests import small_pretrained

    whole = Path(small_pretrained.save("classifier", home()))
    content = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}

    def folder(name: str, other: bytes | None) -> Path:
        path = Path(tempfile.mkdtemp(dir=home()))
        for each, own in {**content, name: other}.items():
            if own is not None:
                (path / each).write_bytes(own)
        return path

    made: dict[str, Callable[[], Path]] = {}
    for name, own in content.items():
        made[f"{name} gone"] = lambda name=name: folder(name, None)
        made[f"{name} torn"] = lambda name=name, own=own: folder(name, own[: len(own) // 2])
        made[f"{name} empty"] = lambda name=name: folder(name, b"")
        if name.endswith(".json"):
            for how in ("null", "list", "deep list", "deep dict", "no dict"):
                made[f"{name} {how}"] = lambda name=name, how=how: folder(name, TEXTS[how].encode())
    adapter = {"base_model_name_or_path": "../../nowhere", "peft_type": "LORA"}
    made["an adapter of nothing"] = lambda: folder(
        "adapter_config.json", json.dumps(adapter).encode()
    )
    return made


def _ask(path: Path) -> None:
    fxplain.from_pretrained(path)(text="the movie")


def _zips() -> dict[str, Callable[[], Path]]:
    def zipped() -> Path:
        path = Path(tempfile.mkdtemp(dir=home())) / "a.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("../../escaped", "x")
        return path

    def torn() -> Path:
        path = zipped()
        path.write_bytes(path.read_bytes()[:-9])
        return path

    return {"a zip": zipped, "a torn zip": torn}


def files() -> Iterator[Door]:
    """Every loader, given what somebody altered; what is harmless is read."""
    one = Path(tempfile.mkdtemp(dir=home())) / "one"
    explanation().save(one, matrices=True)
    two = Path(tempfile.mkdtemp(dir=home())) / "two"
    written().save(two)
    graph = {name: lambda x=x: x for name, x in _altered(explanation().graph.to_dict())}
    doors: dict[str, tuple[Callable[[Any], Any], dict[str, Callable[[], Any]]]] = {
        "load(altered)": (_read_explanation, _hostile(one) | _zips()),
        "Generation.load(altered)": (_read_generation, _hostile(two) | _zips()),
        "AttentionGraph.from_dict(altered)": (_read_graph, graph),
        "load_corpus(altered)": (_read_corpus, _corpora()),
        "from_pretrained(altered)": (_ask, _models()),
    }
    for name, (call, values) in doors.items():
        yield Door(name, call, frozenset(values), values=values)
