"""The routes in this process, without Ray: parameters, errors, refusals."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from codelm.inference.engine import Engine, Request, generate, load_engine
from serve.api import Service, make_api
from serve.scheduler import Scheduler
from tests.serve.fake import EndlessEngine

Ask = Callable[..., httpx.Response]
GREEDY = {"prompt": "def add(a, b):\n", "temperature": 0, "max_tokens": 12}


def client(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_api(service), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Engine:
    """For what is expected; never the one that is served, which belongs to its thread."""
    return load_engine("transformers", tiny_model)


@pytest.fixture(scope="module")
def served_engine(tiny_model: Path) -> Engine:
    return load_engine("transformers", tiny_model)


@pytest.fixture
def ask(served_engine: Engine) -> Iterator[Ask]:
    """`ask(prompt=..., ...)`: one completions request to a fresh application."""
    scheduler = Scheduler(lambda: served_engine)
    service = Service(scheduler, "tiny", max_active=4, max_prompt_tokens=100)

    async def post(body: Any) -> httpx.Response:
        while scheduler.engine is None:
            await asyncio.sleep(0.001)
        async with client(service) as http:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await http.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})

    yield lambda body=None, **keys: asyncio.run(post(keys if body is None else body))
    scheduler.close()


def text(engine: Engine, prompt: str | tuple[int, ...], max_tokens: int = 12, **keys: Any) -> str:
    return generate(engine, [Request(prompt, max_tokens, **{"temperature": 0, **keys})])[0].text


def events(response: httpx.Response) -> list[Any]:
    *lines, end, nothing = response.text.split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_greedy_is_the_engines(ask: Ask, engine: Engine) -> None:
    response = ask(**GREEDY)
    assert response.status_code == 200
    body = response.json()
    assert body["choices"] == [
        {"index": 0, "text": text(engine, GREEDY["prompt"]), "logprobs": None, "finish_reason": "length"}  # type: ignore[arg-type]
    ]
    prompt_tokens = len(engine.codec.encode("def add(a, b):\n"))
    assert body["usage"] == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": 12,
        "total_tokens": prompt_tokens + 12,
    }
    assert (body["object"], body["model"], body["id"][:5]) == ("text_completion", "tiny", "cmpl-")


def test_sixteen_tokens_by_default(ask: Ask) -> None:
    assert ask(prompt="x", seed=1).json()["usage"]["completion_tokens"] <= 16


def test_every_kind_of_prompt(ask: Ask, engine: Engine) -> None:
    a, b = engine.codec.encode("for"), engine.codec.encode("class")
    for prompt, expected in (
        ("for", [a]),
        (["for", "class"], [a, b]),
        (list(a), [a]),
        ([list(a), list(b)], [a, b]),
        ("", [(0,)]),
    ):
        choices = ask(prompt=prompt, temperature=0, max_tokens=6).json()["choices"]
        assert [choice["text"] for choice in choices] == [text(engine, ids, 6) for ids in expected]
        assert [choice["index"] for choice in choices] == list(range(len(expected)))


def test_n_choices_differ_and_repeat_with_a_seed(ask: Ask) -> None:
    keys = {"prompt": ["a", "b"], "n": 3, "seed": 5, "max_tokens": 20}
    first, second, unseeded = (ask(**keys).json(), ask(**keys).json(), ask(**{**keys, "seed": None}).json())
    texts = [choice["text"] for choice in first["choices"]]
    assert len(set(texts)) == 6
    assert texts == [choice["text"] for choice in second["choices"]]
    assert texts != [choice["text"] for choice in unseeded["choices"]]


def test_stop_is_cut(ask: Ask, engine: Engine) -> None:
    whole = text(engine, "x", 60)
    stop = whole[10:13]
    for value in (stop, [stop], ["never", stop]):
        choice = ask(prompt="x", temperature=0, max_tokens=60, stop=value).json()["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (whole[: whole.index(stop)], "stop")


def test_echo_begins_with_the_prompt(ask: Ask, engine: Engine) -> None:
    expected = "for" + text(engine, "for", 6)
    keys = {"temperature": 0, "max_tokens": 6, "echo": True}
    assert ask(prompt="for", **keys).json()["choices"][0]["text"] == expected
    assert ask(prompt=list(engine.codec.encode("for")), **keys).json()["choices"][0]["text"] == expected
    streamed = events(ask(prompt="for", stream=True, **keys))
    assert "".join(event["choices"][0]["text"] for event in streamed) == expected


def test_suffix_fills_in_the_middle(ask: Ask, engine: Engine) -> None:
    ids = engine.codec.fill_in_the_middle("def f():\n", "\n    return x")
    choice = ask(prompt="def f():\n", suffix="\n    return x", temperature=0, max_tokens=12).json()["choices"][0]
    assert choice["text"] == text(engine, ids) != text(engine, "def f():\n")


@pytest.mark.parametrize("suffix", [None, ""])
def test_no_suffix_is_a_plain_completion(ask: Ask, engine: Engine, suffix: str | None) -> None:
    choice = ask(**GREEDY, suffix=suffix).json()["choices"][0]
    assert choice["text"] == text(engine, "def add(a, b):\n")


def test_stream_joins_to_the_whole(ask: Ask) -> None:
    keys = {"prompt": ["for", "class"], "n": 2, "seed": 3, "max_tokens": 20}
    whole = ask(**keys).json()
    streamed = events(ask(**keys, stream=True, stream_options={"include_usage": True}))
    texts, reasons = [""] * 4, [None] * 4
    for event in streamed[:-1]:
        (choice,) = event["choices"]
        assert reasons[choice["index"]] is None
        texts[choice["index"]] += choice["text"]
        reasons[choice["index"]] = choice["finish_reason"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert reasons == [choice["finish_reason"] for choice in whole["choices"]]
    assert (streamed[-1]["choices"], streamed[-1]["usage"]) == ([], whole["usage"])
    assert len({event["id"] for event in streamed}) == 1


def test_unknown_keys_are_ignored(ask: Ask) -> None:
    assert ask(prompt="x", user="me", n_indent=4, options={"use_cache": True}).status_code == 200


def test_what_means_nothing_is_accepted(ask: Ask) -> None:
    keys = {"best_of": 2, "n": 2, "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": None}
    assert ask(prompt="x", **keys).status_code == 200


@pytest.mark.parametrize(
    ("keys", "param"),
    [
        ({"logprobs": 6}, "logprobs"),
        ({"best_of": 3, "n": 4}, "best_of"),
        ({"best_of": 3, "stream": True}, "best_of"),
        ({"logit_bias": {"9999": 1}}, "logit_bias"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"seed": 2**70}, "seed"),
        ({"prompt": ["x"] * 200, "n": 2}, "prompt"),
        ({"logprobs": 1, "echo": True, "suffix": "y"}, "echo"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1000}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "x " * 120}, "prompt"),
        ({"prompt": [99999]}, "prompt"),
        ({"prompt": [50], "suffix": "y"}, "suffix"),
    ],
)
def test_errors_name_the_parameter_for_every_kind_of_client(ask: Ask, keys: dict[str, Any], param: str) -> None:
    response = ask(**{"prompt": "x", **keys})
    assert response.status_code == 400
    body = response.json()
    assert (body["error"]["type"], body["error"]["param"]) == ("invalid_request_error", param)
    assert param in body["error"]["message"]
    assert body["detail"][0]["loc"] == ["body", param]
    assert body["detail"][0]["msg"] == body["error"]["message"]


def test_other_models_are_not_found(ask: Ask) -> None:
    response = ask(prompt="x", model="other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "'tiny'" in response.json()["error"]["message"]
    assert ask(prompt="x", model="tiny").status_code == 200


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"x"'])
def test_what_is_no_request_is_refused(ask: Ask, body: bytes) -> None:
    response = ask(body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("param", "keys"),
    [
        ("prompt", '"prompt": "x\\ud800"'),
        ("prompt", '"prompt": ["x", "\\udfff"]'),
        ("suffix", '"prompt": "x", "suffix": "\\ud800"'),
        ("stop", '"prompt": "x", "stop": ["\\ud800"]'),
    ],
)
def test_half_a_character_is_refused(ask: Ask, param: str, keys: str) -> None:
    response = ask(b"{" + keys.encode() + b"}")
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert "surrogates not allowed" in error["message"]


def test_special_tokens_of_users_are_plain_text(ask: Ask, engine: Engine) -> None:
    prompt = "<fim_middle><|endoftext|>"
    assert ask(prompt=prompt, max_tokens=1).json()["usage"]["prompt_tokens"] == len(engine.codec.encode(prompt)) > 2


def get(service: Service, path: str) -> httpx.Response:
    async def fetch() -> httpx.Response:
        async with client(service) as http:
            return await http.get(path)

    return asyncio.run(fetch())


def test_models_and_health(engine: Engine) -> None:
    scheduler = Scheduler(lambda: engine)
    service = Service(scheduler, "tiny", 4)
    while scheduler.engine is None:
        pass
    (model,) = get(service, "/v1/models").json()["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == ("tiny", "model", 256)
    assert get(service, "/health").json() == {"status": "ok", "model": "tiny", "version": None, "active": 0}
    missing = get(service, "/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "Not Found")
    scheduler.close()


def test_503_until_the_model_is_loaded() -> None:
    from threading import Event

    may_load = Event()

    def load() -> Engine:
        may_load.wait()
        raise FileNotFoundError("no tokenizer.json in here")

    scheduler = Scheduler(load)
    service = Service(scheduler, "tiny", 4)
    for path in ("/health", "/v1/models"):
        response = get(service, path)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert response.json()["error"]["code"] == "loading"
    may_load.set()
    while scheduler.failure is None:
        pass
    failed = get(service, "/health")
    assert (failed.status_code, failed.json()["error"]["code"]) == (503, "engine_failed")
    assert "no tokenizer.json in here" in failed.json()["error"]["message"]


def test_overload_is_refused_with_a_time_to_come_back() -> None:
    engine = EndlessEngine()
    scheduler = Scheduler(lambda: engine)
    service = Service(scheduler, "tiny", max_active=2)

    async def crowd() -> tuple[httpx.Response, list[httpx.Response]]:
        async with client(service) as http:
            tasks = [asyncio.create_task(http.post("/v1/completions", json={"prompt": "x"})) for _ in range(2)]
            while len(engine.running) < 2:
                await asyncio.sleep(0.001)
            refused = await http.post("/v1/completions", json={"prompt": "x"})
            engine.ending.set()
            return refused, await asyncio.gather(*tasks)

    refused, served = asyncio.run(crowd())
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert (refused.json()["error"]["code"], refused.json()["error"]["type"]) == ("busy", "server_error")
    assert refused.json()["detail"]
    assert [response.status_code for response in served] == [200, 200]
    scheduler.close()


def test_a_failing_engine_is_told_before_the_first_token() -> None:
    for stream in (False, True):
        scheduler = Scheduler(EndlessEngine)
        service = Service(scheduler, "tiny", 4)

        async def post(scheduler: Scheduler, service: Service, stream: bool) -> httpx.Response:
            while scheduler.engine is None:
                await asyncio.sleep(0.001)
            async with client(service) as http:
                return await http.post("/v1/completions", json={"prompt": "fail", "stream": stream})

        response = asyncio.run(post(scheduler, service, stream))
        assert response.status_code == 500
        assert response.json()["error"]["message"] == "the engine has failed: no room"
