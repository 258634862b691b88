"""The doors: every parameter of what is public, with all others as they should be."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import torch

import fxplain
from fxplain import CorpusExplainer, corpora
from fxplain.methods import kernel_shap, leave_one_out, permutation_shap, sparse_linear
from fxplain.serving import Desk, Limits, create_app
from tests import small_pretrained
from tests.bad_input.door import Door, each, named
from tests.bad_input.files import files, places
from tests.bad_input.given import (
    IDS,
    evaluated,
    explainer,
    explanation,
    gpt2,
    home,
    measured,
    text,
    written,
)
from tests.bad_input.odd import odd_things
from tests.bad_input.results import graphs, plots, reading, reports
from tests.bad_input.shell import shell
from tests.small_models import words

__all__ = ["GROUPS", "Door"]


def _explaining() -> Iterator[Door]:
    given = {"model": text(), "inputs": (IDS,), "target": 1}
    yield from each("explain", fxplain.explain, given, {
        "model": "", "inputs": "", "target": "CLASS", "method": "", "output": "None",
        "tokenizer": "None", "engine": "", "batch_axis": "None 0 -1", "verify": "",
        "strict": "True", "recheck": "True", "recompute": "True",
        "normalize": "True", "start_layer": "0 -1", "aggregate": "True",
    })  # fmt: skip
    yield from each("inspect", fxplain.inspect, {"model": text(), "inputs": (IDS,)}, {
        "model": "", "inputs": "", "batch_axis": "None 0 -1", "verify": "", "strict": "True",
        "recheck": "True",
    })  # fmt: skip
    yield from each(
        "attention_weights", fxplain.attention_weights, {"model": text(), "inputs": (IDS,)},
        {"model": "", "inputs": "", "batch_axis": "None 0 -1", "recheck": "True"},
    )  # fmt: skip
    yield from each(
        "verify", fxplain.verify, {"model": text(), "inputs": (IDS,)},
        {"model": "", "inputs": "", "level": ""},
    )  # fmt: skip
    # the model takes any mask that has a bool()
    for name, right in {"input_ids": "", "attention_mask": "None complex_tensor"}.items():
        yield Door(
            f"explain(inputs={{{name!r}: }})",
            lambda value, name=name: fxplain.explain(text(), {"input_ids": IDS, name: value}),
            named(right),
        )
    members: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "[x, 1]": ("CLASS", lambda x: [x, 1]),
        "(x, 1)": ("", lambda x: (x, 1)),
        "Contrast(1, x)": ("None 0 -1", lambda x: fxplain.Contrast(1, x)),
        "Sum(1, x)": ("CLASS", lambda x: fxplain.Sum(1, x)),
        "function of x": ("", lambda x: lambda output: x),
        "function of output[x]": ("", lambda x: lambda output: output[x]),
        "function of output * x": ("True -1 1.5", lambda x: lambda output: output[:, 0] * x),
    }
    for name, (right, made) in members.items():
        yield Door(
            f"explain(target={name})",
            lambda value, made=made: fxplain.explain(text(), (IDS,), made(value)),
            named(right),
        )
    for name, several in {"x": lambda x: x, "[x]": lambda x: [x]}.items():
        yield Door(
            f"explain(targets={name})",
            lambda x, several=several: fxplain.explain(text(), (IDS,), targets=several(x)),
            named("CLASS" if name == "[x]" else "None no_list no_tensor"),
        )
    for method in ("integrated_gradients", "rollout", "raw_attention", "lrp", "input_x_gradient"):
        for option, facts in fxplain.methods()[method].options.items():
            right = "True" if isinstance(facts.default, bool) else ""
            right = "0 -1" if option in ("start_layer", "layer") else right
            yield Door(
                f"explain(method={method!r}, {option}=)",
                lambda value, method=method, option=option: fxplain.explain(
                    text(), (IDS,), 1, method, **{option: value}
                ),
                named(right),
            )


def _writing() -> Iterator[Door]:
    model, prompt = gpt2().model, {"input_ids": torch.tensor([[5, 6, 7]])}
    given = {"model": model, "inputs": prompt, "max_new_tokens": 1}
    yield from each("explain_generation", fxplain.explain_generation, given, {
        "model": "", "inputs": "no_list no_dict", "max_new_tokens": "", "targets": "None 0 -1",
        "method": "",
        "tokenizer": "None", "generated": "None", "score": "", "seed": "None 0",
        "engine": "",
    })  # fmt: skip
    members: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "Span(x)": ("None 0 -1", lambda x: fxplain.Span(x)),
        "Span(0, x)": ("None huge", lambda x: fxplain.Span(0, x)),
        "[x]": ("0 -1", lambda x: [x]),
    }
    for name, (right, made) in members.items():
        yield Door(
            f"explain_generation(targets={name})",
            lambda x, made=made: fxplain.explain_generation(model, prompt, 1, targets=made(x)),
            named(right),
        )
    w = written()
    for method in ("columns", "labels", "matrix"):
        yield from each(f"Generation.{method}", getattr(w, method), {}, {"modality": ""})
    settings = {"target": 0, "sample": 0, "modality": "input_ids"}
    for method in ("read", "row"):
        yield from each(f"Generation.{method}", getattr(w, method), settings, {
            "target": "0 -1", "sample": "0 -1", "modality": "",
        })  # fmt: skip
    yield from each("Generation.places", w.places, {"target": 0, "sample": 0}, {
        "target": "0 -1", "sample": "0 -1",
    })  # fmt: skip
    yield from each("Generation.sources", w.sources, {}, {
        "units": "PARTS", "sample": "0 -1", "within": "None", "about": "None 0 -1", "method": "None",
        "removal": "None", "nonsense": "",
    })  # fmt: skip
    yield from each("Generation.to_html", w.to_html, {}, {"path": "FILE"})
    yield from each("Generation.to_text", w.to_text, {}, {"width": "None"})


def _evaluating() -> Iterator[Door]:
    yield Door("evaluate(model)", lambda x: fxplain.evaluate(x, [{"input_ids": IDS}]))
    yield from each("evaluate", evaluated, {}, {
        "methods": "None", "metrics": "None", "target": "CLASS", "score": "", "steps": "None",
        "modalities": "None", "removal": "None no_dict", "output": "None", "tokenizer": "None",
        "special_ids": "no_list set", "batch_size": "", "max_tokens": "", "seed": "0", "resamples": "",
        "confidence": "", "progress": "None function",
    })  # fmt: skip
    yield Door(
        "evaluate(dataset=)",
        lambda x: fxplain.evaluate(text(), x, ["raw_attention"], resamples=10),
        own=frozenset({"angry"}),
    )
    yield Door(
        "evaluate(dataset=[x])",
        lambda x: fxplain.evaluate(text(), [x], ["raw_attention"], resamples=10),
    )
    yield Door(
        "evaluate(dataset=[(inputs, x)])",
        lambda x: fxplain.evaluate(
            text(), [({"input_ids": IDS}, x)], ["raw_attention"], target=None, resamples=10
        ),
        named("None"),
    )
    r = measured()
    metric = r.rows[0].metric
    two = {"a": "raw_attention", "b": "random", "metric": metric}
    yield from each("Evaluation.compare", r.compare, two, {
        "a": "", "b": "", "metric": "", "modality": "None",
    })  # fmt: skip
    yield from each("Evaluation.row", r.row, {"method": "raw_attention", "metric": metric}, {
        "method": "", "metric": "", "modality": "None",
    })  # fmt: skip
    for method in ("to_csv", "to_json", "to_html"):
        yield from each(f"Evaluation.{method}", getattr(r, method), {}, {"path": "FILE"})
    yield from each(
        "Evaluation.plot", r.plot, {}, {"metric": "None", "modality": "None", "ax": "None"}
    )
    yield Door("register_metric()", fxplain.register_metric)
    for name, found in fxplain.metrics().items():
        yield Door(
            f"Metric.checked() of {name}", lambda x, found=found: found.checked(x), named("no_dict")
        )


def _loading() -> Iterator[Door]:
    folder = small_pretrained.save("classifier", home())
    yield Door("from_pretrained()", fxplain.from_pretrained)
    yield from each("from_pretrained", fxplain.from_pretrained, {"name_or_path": folder}, {
        "task": "None", "device": "None",
    })  # fmt: skip
    asked = explainer("classifier")
    yield from each("Explainer", asked, {"text": "the movie"}, {
        "text": "text odd_text no_text", "pair": "None text odd_text no_text",
        "image": "None", "audio": "None",
        "inputs": "None no_dict", "truncation": "None True", "pad_to": "None", "target": "CLASS",
        "method": "",
    })  # fmt: skip
    yield Door(
        "Explainer(text=[x])", lambda x: asked(text=[x, "great"]), named("text odd_text no_text")
    )
    yield Door("Explainer(positional)", asked, named("text odd_text no_text"))
    yield from each("Explainer.each", asked.each, {"text": "the movie"}, {
        "target": "CLASS", "method": "", "nonsense": "",
    })  # fmt: skip
    yield from each("Explainer", asked, {"text": "the movie"}, {
        "video": "None", "points": "None", "targets": "None no_list no_tensor", "nonsense": "",
        "engine": "",
        "output": "None", "batch_axis": "None 0 -1",
    })  # fmt: skip
    raw = {
        "text": "text odd_text no_text",
        "image": "None",
        "inputs": "None no_dict",
        "nonsense": "",
    }
    yield from each("Explainer.inputs", asked.inputs, {"text": "the movie"}, raw)
    yield from each("Explainer.inspect", asked.inspect, {"text": "the movie"}, {
        **raw, "verify": "", "strict": "True", "recheck": "True",
    })  # fmt: skip
    yield from each("Explainer.generate", gpt2().generate, {"text": "the", "max_new_tokens": 1}, {
        "text": "text odd_text", "max_new_tokens": "", "targets": "None 0 -1", "image": "None",
        "video": "None", "audio": "None", "inputs": "None no_dict", "truncation": "None True",
        "method": "", "nonsense": "None",
    })  # fmt: skip
    yield from each("Explainer.verify", asked.verify, {"text": "the movie"}, {"level": "full"})
    see, image = explainer("sam"), small_pretrained.picture()
    yield Door("Explainer(points=)", lambda x: see(image, points=x))
    yield Door("Explainer(points=[x])", lambda x: see(image, points=[x]))
    yield Door("Explainer(points=[(x, x)])", lambda x: see(image, points=[(x, x)]), named("0"))
    sight = explainer("vit")
    grey = named("tensor")
    yield Door("Explainer(image=)", lambda x: sight(image=x), grey)
    yield Door("Explainer(image=[x])", lambda x: sight(image=[small_pretrained.picture(), x]), grey)
    yield Door("Explainer(video=)", lambda x: sight(video=x))
    hearing = explainer("wav2vec2")
    yield Door("Explainer(audio=)", lambda x: hearing(audio=x))
    yield Door(
        "Explainer(audio={'sampling_rate': x})",
        lambda x: hearing(audio={"array": small_pretrained.recording(0.1), "sampling_rate": x}),
    )


def _corpora() -> Iterator[Door]:
    data = [{"id": "a", "text": "the movie"}, {"id": "b", "text": "great"}]

    def explained(**options: Any) -> Any:
        out = options.pop("out", None) or tempfile.mkdtemp()
        settings = {"text": "text", "id": "id", "model": explainer("classifier"), "data": data}
        settings["on_error"] = "raise"
        return fxplain.explain_corpus(out=out, **{**settings, **options})

    yield from each("explain_corpus", explained, {}, {
        "model": "", "data": "", "text": "None", "pair": "None", "image": "None", "audio": "None",
        "id": "None", "label": "None", "target": "CLASS", "method": "", "truncation": "None True",
        "resume": "True", "retry_errors": "True", "nonsense": "",
        "engine": "", "workers": "", "batch_tokens": "None", "shard_rows": "", "on_error": "",
        "load": "None no_dict", "progress": "None function",
    })  # fmt: skip
    yield Door("load_corpus()", fxplain.load_corpus)
    corpus = explained()
    yield Door("CorpusRow.of()", fxplain.CorpusRow.of)
    yield from each("CorpusRow.top", corpus[0].top, {}, {"count": "0 huge"})
    yield Door("Corpus[]", lambda x: corpus[x], named("0 -1"), named("huge"))
    settings = {"first": corpus, "second": corpus, "minimum": 1}
    yield from each("corpora.compare", corpora.compare, settings, {
        "first": "", "second": "", "by": "", "top": "", "minimum": "huge",
    })  # fmt: skip
    settings = {"corpus": corpus, "minimum": 1}
    yield from each("corpora.summarise", corpora.summarise, settings, {
        "corpus": "", "by": "", "minimum": "huge", "listed": "0 huge",
    })  # fmt: skip
    settings = {**settings, "folder": tempfile.mkdtemp()}
    yield from each("corpora.write_report", corpora.write_report, settings, {
        "corpus": "", "by": "", "minimum": "huge", "rows": "0 huge",
    })  # fmt: skip
    yield from each("CorpusExplainer", CorpusExplainer, {"model": explainer("classifier")}, {
        "model": "",
    })  # fmt: skip
    job = CorpusExplainer(explainer("classifier"), text="text")
    yield Door("CorpusExplainer()()", job)
    columns = "of_itself deep no_list list nested tuple tensor no_tensor complex_tensor array"
    columns += " sparse_tensor meta_tensor"
    yield Door("CorpusExplainer()({'text': x})", lambda x: job({"text": x}), named(columns))
    yield from each("Corpus.to_pandas", corpus.to_pandas, {}, {"columns": "None no_list"})
    yield from each("Corpus.to_table", corpus.to_table, {}, {"columns": "None no_list"})
    yield from each(
        "Corpus.batches",
        lambda **o: list(corpus.batches(**o)),
        {},
        {"columns": "None no_list", "size": ""},
    )
    yield Door(
        "Corpus.explain()", lambda x: corpus.explain(x, explainer("classifier")), named("0 -1")
    )
    yield Door("Corpus.explain(0, x)", lambda x: corpus.explain(0, x))


def _cutting() -> Iterator[Door]:
    cut = fxplain.Cut
    settings = {"model": text(), "inputs": (IDS,), "cuts": cut.heads(0, 1), "target": 1}
    yield from each("intervene", fxplain.intervene, settings, {
        "model": "", "inputs": "", "cuts": "no_list no_dict", "target": "CLASS", "output": "None",
        "reference": "None", "tokenizer": "None", "batch_axis": "None 0 -1", "batch": "None huge",
        "outputs": "True", "estimate": "True", "progress": "None function class",
    })  # fmt: skip
    found = {"model": text(), "clean": (IDS,), "corrupted": (words(2, 6, seed=1),), "metric": 1}
    yield from each("circuit", fxplain.circuit, {**found, "faithfulness": 0.3}, {
        "model": "", "clean": "", "corrupted": "", "metric": "CLASS", "output": "None",
        "faithfulness": "", "steps": "", "batch_axis": "None 0 -1", "progress": "None function class",
    })  # fmt: skip
    some = {"to": "", "tokens": "None 0 -1 set"}
    kinds: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, str]]] = {
        "heads": (cut.heads, {"node": 0}, {"node": "None 0 -1", "heads": "None 0", **some}),
        "edges": (
            cut.edges, {},
            {"queries": some["tokens"], "keys": some["tokens"], "node": "None 0 -1",
             "heads": "None 0", "renormalize": "True"},
        ),
        "tokens": (cut.tokens, {"modality": "input_ids"}, {"modality": "", **some}),
        "write": (cut.write, {"name": "blocks.0.feed_forward"}, {"name": "", **some}),
        "stream": (
            cut.stream, {"name": "blocks.0.feed_forward", "to": "zero"}, {"name": "", **some},
        ),
    }  # fmt: skip
    for kind, (make, given, fine) in kinds.items():

        def made(make: Callable[..., Any] = make, **options: Any) -> Any:
            return fxplain.intervene(text(), (IDS,), make(**options), 1)

        yield from each(f"Cut.{kind}", made, given, fine)
    yield from each("Cut.named", cut.heads(0, 1).named, {}, {"name": "text odd_text"})


def _inside() -> Iterator[Door]:
    e = explanation()
    yield from each("Explanation.check", e.check, {}, {
        "k": "huge", "sample": "0 -1", "units": "", "to": "", "progress": "None function class",
    })  # fmt: skip
    yield from each("Explanation.intervene", e.intervene, {"cuts": fxplain.Cut.heads(0, 1)}, {
        "cuts": "no_list no_dict", "reference": "None",
    })  # fmt: skip
    yield from each("Explanation.paths", e.paths, {}, {"k": "huge", "sample": "0 -1"})
    yield from each("Explanation.flow", e.flow, {}, {"share": "0", "sample": "0 -1"})
    yield from each("heads().top", e.heads().top, {}, {"k": "huge", "sample": "0 -1"})
    yield from each("heads().matrix", e.heads().matrix, {}, {"modality": "None", "sample": "0 -1"})
    for name, door in {
        "logit_lens": fxplain.logit_lens,
        "direct_contributions": fxplain.direct_contributions,
    }.items():
        yield from each(name, door, {"model": text(), "inputs": (IDS,), "target": 1}, {
            "model": "", "inputs": "", "target": "CLASS", "output": "None", "nonsense": "",
        })  # fmt: skip
    for options in ({"sample": "0 -1", "units": "", "draws": "", "to": "", "reference": "None",
                     "seed": "0", "nonsense": ""},):  # fmt: skip
        yield from each("Explanation.check", e.check, {}, options)
    yield from each("Explanation.intervene", e.intervene, {"cuts": fxplain.Cut.heads(0, 1)}, {
        "estimate": "True", "outputs": "True", "progress": "None function class", "nonsense": "",
    })  # fmt: skip
    yield Door("clear_captures()", fxplain.clear_captures, named("None module"))


def _black_boxes() -> Iterator[Door]:
    given = {"score": lambda kept: kept.double().sum(1), "units": 2}
    counts = {"permutations": "", "budget": "huge", "draws": "", "keep": "", "penalty": "0 1.5"}
    for method in (leave_one_out, permutation_shap, kernel_shap, sparse_linear):
        own = {k: v for k, v in counts.items() if k in signature(method).parameters}
        own |= {"seed": "0"} if method is not leave_one_out else {}
        yield from each(method.__name__, method, given, {"units": "", "score": "", **own})
        yield Door(
            f"{method.__name__}(score=function of x)",
            lambda x, method=method: method(lambda kept: x, 2),
        )


def _serving() -> Iterator[Door]:
    asked = explainer("classifier")
    yield from each("Desk", Desk, {"explainer": asked}, {"explainer": "", "limits": "None"})
    for name in vars(Limits()):
        yield Door(f"Limits({name}=)", lambda x, name=name: Limits(**{name: x}),
                   named("huge 0" if name == "waiting" else "huge"))  # fmt: skip
    yield from each(
        "create_app", create_app, {"desk": Desk(asked)}, {"desk": "", "hosts": "no_list"}
    )
    yield Door("Explainer(text=[[x, 'great']])", lambda x: asked(text=[[x, "great"]]),
               named("text odd_text"))  # fmt: skip


GROUPS: dict[str, Callable[[], Iterator[Door]]] = {
    "explaining": _explaining,
    "odd things": odd_things,
    "cutting": _cutting,
    "inside": _inside,
    "black boxes": _black_boxes,
    "serving": _serving,
    "reading": reading,
    "graphs": graphs,
    "reports": reports,
    "plots": plots,
    "writing": _writing,
    "evaluating": _evaluating,
    "loading": _loading,
    "corpora": _corpora,
    "places": places,
    "files": files,
    "shell": shell,
}
"""Every door, by what it is for."""
