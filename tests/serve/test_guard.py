"""Keys, sizes, CORS, logs, and figures."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from codelm.errors import UserError
from serve.api import Access, make_api
from serve.guard import read_keys
from serve.scheduler import Scheduler
from serve.service import Service
from tests.serve.fake import EndlessEngine

SECRET = "the text of a user"


def request(access: Access, method: str, path: str, log_prompts: bool = False, **keys: Any) -> httpx.Response:
    engine = EndlessEngine()
    engine.ending.set()

    async def send() -> httpx.Response:
        scheduler = Scheduler(lambda: engine)
        while scheduler.engine is None:
            await asyncio.sleep(0.001)
        service = Service(scheduler, "tiny", 4, log_prompts=log_prompts)
        transport = httpx.ASGITransport(make_api(service, access), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            response = await client.request(method, path, **keys)
        scheduler.close()
        return response

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/models", {}, 401),
        ("/v1/models", {"Authorization": "Bearer wrong"}, 401),
        ("/v1/models", {"Authorization": "Bearer "}, 401),
        ("/v1/models", {"Authorization": "Basic one"}, 401),
        ("/v1/models", {"Authorization": "Bearer one"}, 200),
        ("/v1/models", {"Authorization": "bearer two"}, 200),
        ("/v1/models", {"X-API-Key": "two"}, 200),
        ("/metrics", {}, 401),
        ("/v1/nothing", {}, 401),
        ("/openapi.json", {}, 401),
        ("/health", {}, 200),
        ("/", {}, 200),
        ("/page/app.js", {}, 200),
        ("/page/../api.py", {}, 401),
    ],
)
def test_keys_are_asked_for(path: str, headers: dict[str, str], status: int) -> None:
    response = request(Access(keys=("one", "two")), "GET", path, headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.json()["detail"]
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_keys_come_from_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("# of the team\none\n\n two  # of the build\n")
    monkeypatch.setenv("CODELM_API_KEYS", "three, one,")
    assert read_keys(str(path)) == ("three", "one", "two")
    monkeypatch.delenv("CODELM_API_KEYS")
    assert read_keys(None) == ()
    path.write_text("# nobody\n")
    with pytest.raises(UserError, match="there is no key in"):
        read_keys(str(path))
    with pytest.raises(UserError, match="cannot read"):
        read_keys(str(tmp_path / "missing"))


@pytest.mark.parametrize("chunked", [True, False])
def test_long_bodies_are_refused(chunked: bool) -> None:
    body = json.dumps({"prompt": "x" * 2000}).encode()

    async def pieces() -> Any:
        for at in range(0, len(body), 100):
            yield body[at : at + 100]

    content = pieces() if chunked else body
    headers = {"Content-Type": "application/json"}
    response = request(Access(max_body_bytes=1000), "POST", "/v1/completions", content=content, headers=headers)
    assert response.status_code == 413
    assert "more than 1000 bytes" in response.json()["error"]["message"]
    assert response.json()["detail"]


def test_pages_of_allowed_origins_may_ask() -> None:
    access = Access(keys=("one",), cors_origins=("https://ide.example",))
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, allowed in (("https://ide.example", "https://ide.example"), ("https://other.example", None)):
        response = request(access, "OPTIONS", "/v1/completions", headers={"Origin": origin, **asked})
        assert response.headers.get("Access-Control-Allow-Origin") == allowed
    plain = request(Access(), "GET", "/v1/models", headers={"Origin": "https://ide.example"})
    assert "Access-Control-Allow-Origin" not in plain.headers


@pytest.mark.parametrize("log_prompts", [False, True])
def test_logs_hold_prompts_only_if_asked(
    log_prompts: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("ray.serve.codelm")
    caplog.set_level(logging.INFO, logger.name)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])  # Ray Serve, once started, keeps records from the root's
    monkeypatch.setattr(logger, "propagate", False)
    for body in ({"prompt": SECRET, "suffix": SECRET}, {"prompt": SECRET, "n": SECRET}, {"prompt": "fail " + SECRET}):
        request(Access(log=True), "POST", "/v1/completions", log_prompts=log_prompts, json=body)
    lines = [record.getMessage() for record in caplog.records if record.name == logger.name]
    assert [line.split(" ")[:3] for line in lines if line.startswith("POST")] == [
        ["POST", "/v1/completions", status] for status in ("200", "400", "200")
    ]
    assert any(SECRET in record.getMessage() for record in caplog.records) == log_prompts


def figures(text: str) -> dict[str, float]:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if sample.name != "codelm_requests_created"}


def test_figures_of_prometheus_are_of_what_happened() -> None:
    engine = EndlessEngine()

    async def ask() -> tuple[str, str]:
        scheduler = Scheduler(lambda: engine)
        while scheduler.engine is None:
            await asyncio.sleep(0.001)
        service = Service(scheduler, "tiny", 4)
        transport = httpx.ASGITransport(make_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            leaving = asyncio.create_task(client.post("/v1/completions", json={"prompt": "xyz"}))
            while not service.metrics._running.labels("0")._value.get():
                await asyncio.sleep(0.001)
            during = (await client.get("/metrics")).text
            leaving.cancel()
            engine.ending.set()
            await client.post("/v1/completions", json={"prompt": "xyz"})
            await client.post("/v1/completions", json={"prompt": "", "n": 0})
            after = (await client.get("/metrics")).text
        scheduler.close()
        return during, after

    during, after = map(figures, asyncio.run(ask()))
    assert during["codelm_completions_running"] == 1
    assert (after["codelm_completions_running"], after["codelm_completions_waiting"]) == (0, 0)
    assert after["codelm_cancelled_total"] == 1
    assert after["codelm_prompt_tokens_total"] == 2 * len(engine.codec.encode("xyz"))
    assert after["codelm_time_to_first_token_seconds_count"] == 2
    assert after["codelm_request_seconds_count"] == 4  # one of them asked for the figures
