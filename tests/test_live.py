"""The live page: what is asked, what is refused, and several people at once."""

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import fxplain
from fxplain.errors import InputError
from fxplain.serving import Desk, Limits, create_app
from tests import small_pretrained

HOST = "http://localhost"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def classifier(root: Path) -> fxplain.Explainer:
    return fxplain.from_pretrained(small_pretrained.save("classifier", root))


@pytest.fixture(scope="module")
def client(classifier: fxplain.Explainer) -> TestClient:
    return TestClient(create_app(Desk(classifier)), base_url=HOST)


def ask(client: TestClient, text: str = "the movie was great") -> dict:
    answer = client.post("/explain", json={"text": text})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_page_and_its_parts(client: TestClient) -> None:
    page = client.get("/")
    assert "<textarea" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    for part in ("live.css", "live.js"):
        assert part in page.text
        assert client.get(f"/{part}").status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/nothing").status_code == 404
    for refused in (client.put("/explain"), client.post("/live.js")):
        assert refused.status_code == 405
        assert refused.json()["error"]
        assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_an_answer_is_that_of_the_library(
    client: TestClient, classifier: fxplain.Explainer
) -> None:
    told = ask(client)
    e = classifier(text="the movie was great", method="generic")
    assert told["answer"]["score"] == pytest.approx(float(e.scores[0]))
    (text,) = told["modalities"]
    want = [word.relevance for word in e.top(99)]
    got = sorted((u["relevance"] for u in text["units"]), key=lambda r: -abs(r))
    assert got[: len(want)] == pytest.approx(want, abs=1e-6)
    shares = [share for node in told["heads"]["nodes"] for share in node["shares"]]
    assert sum(shares) == pytest.approx(1)
    assert "from_pretrained" in told["snippet"]
    compile(told["snippet"], "snippet", "exec")


def test_striking_out_is_intervening(client: TestClient, classifier: fxplain.Explainer) -> None:
    told = ask(client)
    text = told["modalities"][0]
    word = next(u for u in text["units"] if u["text"] == "great")
    cut = {"id": told["id"], "tokens": {text["name"]: word["tokens"]}}
    after = client.post("/cut", json=cut).json()
    e = classifier(text="the movie was great")
    want = e.intervene(fxplain.Cut.tokens(text["name"], word["tokens"]))
    assert after["answer"]["score"] == pytest.approx(float(want.scores[0, 0]))
    assert after["effect"] == pytest.approx(float(want.effects[0, 0]), abs=1e-6)
    back = client.post("/cut", json={"id": told["id"]}).json()
    assert back["answer"] == told["answer"]


def test_silencing_a_head_is_intervening(client: TestClient, classifier: fxplain.Explainer) -> None:
    told = ask(client)
    node = told["heads"]["nodes"][0]["name"]
    after = client.post("/cut", json={"id": told["id"], "heads": {node: [1]}}).json()
    want = classifier(text="the movie was great").intervene(fxplain.Cut.heads(node, 1))
    assert after["answer"]["score"] == pytest.approx(float(want.scores[0, 0]))
    cells = client.post("/cells", json={"id": told["id"], "node": node, "head": 1}).json()
    assert [sum(row) for row in cells["cells"]] == pytest.approx([1] * len(cells["queries"]))


def test_comparing_with_a_method_and_a_model(root: Path, classifier: fxplain.Explainer) -> None:
    other = fxplain.from_pretrained(small_pretrained.save("reranker", root))
    with pytest.raises(InputError, match="they cannot be compared"):
        Desk(
            classifier, others={"vit": fxplain.from_pretrained(small_pretrained.save("vit", root))}
        )
    client = TestClient(create_app(Desk(classifier, others={"twin": other})), base_url=HOST)
    assert '<option data-model="twin">twin</option>' in client.get("/").text
    told = ask(client)
    rollout = client.post("/compare", json={"id": told["id"], "method": "rollout"}).json()
    assert (rollout["method"], rollout["answer"]) == ("rollout", told["answer"])
    e = classifier(text="the movie was great", method="rollout")
    values = e.beyond_identity()["input_ids"][0]
    for unit in rollout["modalities"][0]["units"]:
        assert unit["relevance"] == pytest.approx(float(values[unit["tokens"]].sum()), abs=1e-6)
        assert unit["special"] or unit["relevance"] > 0  # what alone is read is not shaded
    twin = client.post("/compare", json={"id": told["id"], "model": "twin"}).json()
    assert (twin["model"], twin["method"]) == ("twin", told["method"])
    assert twin["answer"]["score"] == pytest.approx(float(other(text="the movie was great").scores))
    for wrong in ({"model": "third"}, {"model": 3}, {"method": "magic"}, {"method": [1]}):
        assert client.post("/compare", json={"id": told["id"], **wrong}).status_code == 422, wrong


def test_writing_is_generating(root: Path, client: TestClient) -> None:
    explainer = fxplain.from_pretrained(small_pretrained.save("gpt2", root))
    writer = TestClient(create_app(Desk(explainer)), base_url=HOST)
    assert 'id="write"' in writer.get("/").text
    assert 'id="write"' not in client.get("/").text
    told = writer.post("/write", json={"text": "the movie was", "tokens": 3}).json()
    want = explainer.generate(text="the movie was", max_new_tokens=3, method="generic")
    assert told["text"] == want.to_dict()["samples"][0]["text"]
    assert len(told["tokens"]) == 3
    for one, e in zip(told["tokens"], want.explanations, strict=True):
        units = [unit for modality in one["modalities"] for unit in modality["units"]]
        whole = sum(float(values[0].sum()) for values in e.beyond_identity().values())
        assert sum(unit["relevance"] for unit in units) == pytest.approx(whole, abs=1e-5)
    for wrong in ({"tokens": 0}, {"tokens": 999}, {"tokens": "3"}, {"text": ""}):
        assert writer.post("/write", json={"text": "the", **wrong}).status_code == 422
    refused = client.post("/write", json={"text": "the"})
    assert refused.status_code == 422
    assert "does not write" in refused.json()["error"]


def test_deletion_curve(client: TestClient) -> None:
    told = ask(client)
    curve = client.post("/curve", json={"id": told["id"]}).json()
    lines = list(curve["lines"].values())
    assert curve["counts"][0] == 0
    assert curve["counts"][-1] == curve["of"]
    assert lines[0][0] == lines[1][0] == pytest.approx(told["answer"]["score"])
    assert lines[0][-1] == pytest.approx(lines[1][-1])  # nothing is left on either way


def test_the_static_report(client: TestClient) -> None:
    told = ask(client)
    report = client.get(f"/report/{told['id']}")
    assert report.status_code == 200
    assert report.text.startswith("<!DOCTYPE html>")
    assert client.get("/report/other").status_code == 410


def test_an_image(root: Path) -> None:
    from PIL import Image

    explainer = fxplain.from_pretrained(small_pretrained.save("vit", root))
    client = TestClient(create_app(Desk(explainer)), base_url=HOST)
    file = io.BytesIO()
    Image.fromarray(small_pretrained.picture()).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    told = client.post("/explain", json={"image": url}).json()
    image = told["modalities"][0]
    assert (image["kind"], [tile["grid"] for tile in image["pictures"]]) == ("pictures", [[4, 4]])
    assert image["looks"]["pictures"][0].startswith("data:image/")
    cut = {"id": told["id"], "tokens": {image["name"]: image["units"][0]["tokens"]}}
    assert client.post("/cut", json=cut).json()["effect"] != 0
    for wrong in (
        "http://example.com/cat.png",
        "data:image/png;base64,AAAA",
        "data:,x",
        "/etc/passwd",
    ):
        assert client.post("/explain", json={"image": wrong}).status_code == 422


@pytest.mark.parametrize(
    ("where", "what", "status"),
    [
        ("explain", {}, 422),
        ("explain", {"text": ""}, 422),
        ("explain", {"text": 3}, 422),
        ("explain", {"text": "the", "method": "none"}, 422),
        ("explain", {"text": "the", "method": []}, 422),
        ("explain", {"text": "the " * 9000}, 422),
        ("explain", [], 400),
        ("cut", {"id": "unknown"}, 410),
        ("cut", {"id": ["x"]}, 410),
        ("curve", {}, 410),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_said(
    client: TestClient, where: str, what: object, status: int
) -> None:
    answer = client.post(f"/{where}", json=what)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": {"input_ids": [999]}},
        {"tokens": {"pixels": [0]}},
        {"tokens": {"input_ids": ["0"]}},
        {"tokens": {"input_ids": [True]}},
        {"tokens": [1]},
        {"heads": {"none": [0]}},
        {"heads": {"bert.encoder.layer.0.attention.self": [99]}},
    ],
    ids=str,
)
def test_cuts_of_what_is_not_there(client: TestClient, wrong: dict) -> None:
    answer = client.post("/cut", json={"id": ask(client)["id"], **wrong})
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    "wrong", [{"node": ["x"], "head": 0}, {"node": "x", "head": 0}, {}], ids=str
)
def test_maps_of_what_is_not_there(client: TestClient, wrong: dict) -> None:
    answer = client.post("/cells", json={"id": ask(client)["id"], **wrong})
    assert answer.status_code == 422, answer.text


def test_a_number_that_is_said_often_counts_once(client: TestClient) -> None:
    name = ask(client)["id"]
    often, once = (
        client.post("/cut", json={"id": name, "tokens": {"input_ids": [2] * count}}).json()
        for count in (50_000, 1)
    )
    assert often == once


def test_other_pages_cannot_ask(client: TestClient, classifier: fxplain.Explainer) -> None:
    form = client.post(
        "/explain", content=json.dumps({"text": "the"}), headers={"Content-Type": "text/plain"}
    )
    assert form.status_code == 415
    rebound = TestClient(create_app(Desk(classifier)), base_url="http://evil.example")
    assert rebound.get("/").status_code == 400
    assert (
        client.post(
            "/explain", content="{", headers={"Content-Type": "application/json"}
        ).status_code
        == 400
    )


def test_limits(classifier: fxplain.Explainer) -> None:
    desk = Desk(classifier, Limits(body=200, kept=2))
    client = TestClient(create_app(desk), base_url=HOST)
    assert client.post("/explain", json={"text": "the " * 100}).status_code == 413
    names = [ask(client, text)["id"] for text in ("the", "movie", "was")]
    assert [client.post("/cut", json={"id": name}).status_code for name in names] == [410, 200, 200]
    desk = Desk(classifier, Limits(waiting=0))
    busy = TestClient(create_app(desk), base_url=HOST)
    with desk._taking_turns():
        assert busy.post("/explain", json={"text": "the"}).status_code == 503


def test_twenty_people_at_once(client: TestClient) -> None:
    texts = [" ".join(["the", "movie", "was", "great"][: 1 + i % 4]) for i in range(20)]
    alone = {text: ask(client, text)["answer"]["score"] for text in set(texts)}
    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(lambda text: ask(client, text), texts))
    assert len({each["id"] for each in told}) == 20
    for text, each in zip(texts, told, strict=True):
        assert each["answer"]["score"] == pytest.approx(alone[text], abs=1e-5)


def test_struck_out_text_is_text(client: TestClient) -> None:
    told = ask(client, "<img src=x onerror=alert(1)>")
    assert "<" in "".join(unit["text"] for unit in told["modalities"][0]["units"])
    assert "innerHTML" not in client.get("/live.js").text  # what is shown is text, never markup


@pytest.mark.slow
def test_the_first_answer_is_quick_when_warm(client: TestClient) -> None:
    ask(client)
    started = time.process_time()
    ask(client, "the cat was bad")
    assert time.process_time() - started < 2  # 0.3 on a quiet machine; this is no benchmark
