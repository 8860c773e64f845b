"""The application on Ray Serve, with the clients that people use: openai, and curl."""

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest
import yaml

from codelm import config
from codelm.inference.engine import Request, generate, load_engine
from codelm.on_ray.endpoint import served
from codelm.run_dir import RunDir
from serve.app import ServeArgs
from tests.inference.tiny import make_tiny_model, publish_tiny_model

PROMPT = "def add(a, b):\n"
POSITIONS = 8192


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = RunDir(str(tmp_path_factory.mktemp("run")))
    publish_tiny_model(run, POSITIONS)
    return run


@pytest.fixture(scope="module")
def url(ray_cluster: None, run_dir: RunDir) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tree = {
        "name": "tiny",
        "run_dir": run_dir.uri,
        "corpus": {"sources": ["."]},
        "serving": {"port": port, "refresh_seconds": 0.3},
    }
    with served(config.parse(tree, "test"), "test") as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_openai_completion(client: openai.OpenAI, run_dir: RunDir) -> None:
    answer = client.completions.create(model="tiny", prompt=PROMPT, temperature=0, max_tokens=20)
    expected = generate(load_engine("transformers", run_dir.local_copy("model")), [Request(PROMPT, 20, temperature=0)])[
        0
    ]
    assert answer.choices[0].text == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage is not None
    assert answer.usage.completion_tokens == expected.completion_tokens


def test_openai_streaming(client: openai.OpenAI) -> None:
    keys = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40, "seed": 3, "top_p": 0.9, "temperature": 0.7}
    whole = client.completions.create(**keys)  # type: ignore[call-overload]
    pieces = list(client.completions.create(**keys, stream=True))  # type: ignore[call-overload]
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert [piece.choices[0].finish_reason for piece in pieces][-1] == whole.choices[0].finish_reason
    assert len(pieces) > 10


def test_openai_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_openai_suffix(client: openai.OpenAI) -> None:
    keys = {"model": "tiny", "prompt": PROMPT, "temperature": 0, "max_tokens": 20}
    plain = client.completions.create(**keys)  # type: ignore[call-overload]
    middle = client.completions.create(**keys, suffix="\n    return total")  # type: ignore[call-overload]
    assert middle.choices[0].text != plain.choices[0].text


def test_openai_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="tiny", prompt="x", max_tokens=POSITIONS)
    assert refused.value.param == "max_tokens"
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="other", prompt="x")
    assert missing.value.code == "model_not_found"


def test_many_requests_at_the_same_time(client: openai.OpenAI) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(seed: int) -> str:
        answer = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=20, seed=seed % 4)
        return answer.choices[0].text

    with ThreadPoolExecutor(12) as threads:
        texts = list(threads.map(ask, range(24)))
    assert texts == texts[:4] * 6
    assert len(set(texts)) == 4


def test_overload_is_refused_in_the_words_of_the_api(url: str) -> None:
    async def ask_all() -> list[httpx.Response]:
        body = {"prompt": "x", "max_tokens": 200, "temperature": 0}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=120) as http:
            return await asyncio.gather(*(http.post(f"{url}/v1/completions", json=body) for _ in range(240)))

    answers = asyncio.run(ask_all())
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.json()["error"]["code"] for answer in refused} == {"busy"}
    assert all(answer.headers["Retry-After"] for answer in refused)


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=True).stdout


def test_curl(url: str) -> None:
    body = json.dumps({"prompt": PROMPT, "max_tokens": 4, "temperature": 0})
    answer = curl(f"{url}/v1/completions", "-H", "Content-Type: application/json", "-d", body)
    assert json.loads(answer)["usage"]["completion_tokens"] == 4
    health = json.loads(curl(f"{url}/health"))
    assert (health["status"], health["model"]) == ("ok", "tiny")


def test_curl_streams_to_the_end(url: str) -> None:
    body = json.dumps({"prompt": PROMPT, "max_tokens": 4, "stream": True})
    answer = curl("-N", "-i", f"{url}/v1/completions", "-H", "Content-Type: application/json", "-d", body)
    assert "content-type: text/event-stream" in answer
    assert answer.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_generation(url: str, stream: bool) -> None:
    body = {"prompt": "x", "max_tokens": POSITIONS - 100, "stream": stream, "stop": None, "temperature": 0}
    if stream:
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            assert httpx.get(f"{url}/health").json()["active"] == 1
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/completions", json=body, timeout=0.5)
    # All 8,092 tokens take far longer than this.
    for _ in range(50):
        if httpx.get(f"{url}/health").json()["active"] == 0:
            return
        time.sleep(0.1)
    pytest.fail("the generation goes on without its client")


def test_the_model_is_swapped_without_a_failed_request(url: str, run_dir: RunDir, tmp_path: Path) -> None:
    model = Path(run_dir.path("model"))
    make_tiny_model(tmp_path / "next", positions=POSITIONS // 2)
    statuses: list[int] = []
    before = httpx.get(f"{url}/v1/models").json()["data"][0]["max_model_len"]
    body = {"prompt": PROMPT, "max_tokens": 400, "temperature": 0, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as begun:
        lines = begun.iter_lines()
        next(lines)
        model.rename(tmp_path / "old")
        (tmp_path / "next").rename(model)
        for _ in range(400):
            answer = httpx.post(f"{url}/v1/completions", json={"prompt": "x", "max_tokens": 2}, timeout=60)
            statuses.append(answer.status_code)
            after = httpx.get(f"{url}/v1/models").json()["data"][0]["max_model_len"]
            if after != before:
                break
            time.sleep(0.05)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert (before, after) == (POSITIONS, POSITIONS // 2)
    assert set(statuses) == {200}


def test_a_killed_replica_is_replaced(url: str) -> None:
    (replica,) = [process for process in psutil.process_iter() if "ServeReplica:test:" in " ".join(cmdline(process))]
    replica.kill()
    statuses = []
    for _ in range(600):
        try:
            answer = httpx.post(f"{url}/v1/completions", json={"prompt": "x", "max_tokens": 2}, timeout=60)
            statuses.append(answer.status_code)
        except httpx.TransportError:
            statuses.append(0)
        if len(statuses) > 1 and statuses[-1] == 200:
            return
        time.sleep(0.2)
    pytest.fail(f"it does not heal: {statuses[-5:]}")


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_serve_config_fits_the_builder() -> None:
    from ray.serve.schema import ServeDeploySchema

    tree = yaml.safe_load(Path("serve/config.yaml").read_text())
    (application,) = ServeDeploySchema.model_validate(tree).applications
    assert application.import_path == "serve.app:build"
    assert ServeArgs.model_validate(application.args).model == "quickstart"
