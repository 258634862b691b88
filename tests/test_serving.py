"""The examples of serving, where their packages are there."""

from concurrent.futures import ThreadPoolExecutor

import pytest


def test_fastapi_answers_many_requests_at_once() -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    from examples.serve_fastapi import app

    client = TestClient(app)

    def ask(picture: int) -> list[float]:
        answer = client.get("/explain", params={"question": "how many threes", "picture": picture})
        assert answer.status_code == 200
        return answer.json()["scores"]

    alone = [ask(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(ask, range(4)), strict=True):
            assert one == pytest.approx(other, abs=1e-5)
    bad = client.get("/explain", params={"question": "how " * 40})
    assert bad.status_code == 422
    assert "embeddings" in bad.json()["error"]


def test_gradio_shows_a_report() -> None:
    pytest.importorskip("gradio")
    from examples.serve_gradio import demo, report

    assert report("how many threes", 0).startswith("<iframe")
    assert demo.title
