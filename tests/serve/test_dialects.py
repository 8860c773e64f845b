"""Each protocol over a socket, by bodies as its clients send them: recorded from the sources that are named."""

import json
import math
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from codelm.inference.engine import Engine, Request, generate, load_engine
from codelm.inference.extent import Context, Cutter
from tests.serve.local import service_of, serving

PREFIX, SUFFIX = "def add(a, b):\n    ", "\n    return total\n"
SPECIAL = "<fim_middle><|endoftext|>"


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Engine:
    return load_engine("transformers", tiny_model)


@pytest.fixture(scope="module")
def post(local_url: str) -> Any:
    with httpx.Client(base_url=local_url, timeout=60) as client:
        yield lambda path, **body: client.post(path, json=body)


def events(response: httpx.Response, done: bool = True) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, end = response.text.split("\n\n")
    assert end == ""
    if done:
        assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def middle(engine: Engine, tokens: int, extent: Any = "block", prefix: str = PREFIX, suffix: str = SUFFIX) -> str:
    """What the engine gives between two texts, cut by its extent."""
    room = engine.max_positions - tokens
    ids = engine.codec.fill_in_the_middle(prefix, suffix, room)
    (done,) = generate(engine, [Request(ids, tokens, temperature=0)])
    cutter = Cutter(Context(prefix, suffix, extent))
    shown = cutter.push(done.text)
    return shown if cutter.done else shown + cutter.finish()


# OpenAI: what the reference says of parameters that the tests of the API leave out.


def test_logprobs_are_the_models(post: Any, engine: Engine, tiny_model: Path) -> None:
    keys = {"prompt": "for i", "max_tokens": 5, "temperature": 0, "logprobs": 2, "echo": True}
    choice = post("/v1/completions", **keys).json()["choices"][0]
    lists = choice["logprobs"]
    ids = engine.codec.encode("for i")
    generated = generate(engine, [Request(ids, 5, temperature=0)])[0].token_ids
    assert [len(entries) for entries in lists.values()] == [len(ids) + 5] * 4
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.inference_mode():
        expected = torch.log_softmax(model(torch.tensor([ids + generated])).logits[0], dim=-1)
    assert (lists["token_logprobs"][0], lists["top_logprobs"][0], lists["text_offset"][0]) == (None, None, 0)
    for place, token in enumerate((ids + generated)[1:]):
        assert lists["token_logprobs"][place + 1] == pytest.approx(expected[place, token].item(), abs=1e-3)
        assert lists["tokens"][place + 1] in lists["top_logprobs"][place + 1]
    assert lists["text_offset"][len(ids)] == len("for i")
    streamed = events(post("/v1/completions", **keys, stream=True))
    pieces = [event["choices"][0]["logprobs"] for event in streamed]
    for name, entries in lists.items():
        joined = [entry for piece in pieces for entry in piece[name]]
        assert joined == pytest.approx(entries, abs=1e-4) if name == "token_logprobs" else len(joined) == len(entries)


def test_the_prompt_alone_can_be_scored(post: Any, engine: Engine) -> None:
    ids = list(engine.codec.encode("def f(x):"))
    answer = post("/v1/completions", prompt=[ids, ids[:4]], max_tokens=0, echo=True, logprobs=1).json()
    assert [len(choice["logprobs"]["tokens"]) for choice in answer["choices"]] == [len(ids), 4]
    assert answer["usage"]["completion_tokens"] == 0


def test_best_of_gives_the_likeliest(post: Any) -> None:
    keys = {"prompt": "class", "max_tokens": 8, "seed": 1, "logprobs": 0}
    all_of_them = post("/v1/completions", **keys, n=6).json()["choices"]
    best = post("/v1/completions", **keys, n=2, best_of=6).json()

    def mean(choice: Any) -> float:
        values = choice["logprobs"]["token_logprobs"]
        return sum(values) / max(len(values), 1)

    ranked = sorted(all_of_them, key=mean, reverse=True)[:2]
    assert [choice["text"] for choice in best["choices"]] == [choice["text"] for choice in ranked]
    assert best["usage"]["completion_tokens"] == sum(len(c["logprobs"]["tokens"]) for c in all_of_them)


def test_bias_and_penalties_reach_the_engine(post: Any, engine: Engine) -> None:
    (token,) = engine.codec.encode("q")
    keys = {"prompt": "x", "max_tokens": 6}
    forced = post("/v1/completions", **keys, logit_bias={str(token): 100}).json()["choices"][0]["text"]
    assert forced == "qqqqqq"
    plain = post("/v1/completions", **{**keys, "max_tokens": 40}, temperature=0, frequency_penalty=2).json()
    expected = generate(engine, [Request("x", 40, temperature=0, frequency_penalty=2.0)])[0]
    assert plain["choices"][0]["text"] == expected.text


def test_a_deadline_gives_what_there_is(post: Any) -> None:
    answer = post("/v1/completions", prompt="x", max_tokens=250, temperature=0, max_time_ms=1).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] < 250


def test_special_tokens_are_neither_obeyed_nor_shown(post: Any, engine: Engine) -> None:
    plain = post("/v1/completions", prompt="a" + SPECIAL, max_tokens=1).json()
    assert plain["usage"]["prompt_tokens"] == len(engine.codec.encode("a" + SPECIAL)) > 10
    ids = engine.codec.fill_in_the_middle("a" + SPECIAL, SPECIAL)
    assert sum(token < 7 for token in ids) == 3
    filled = post("/v1/completions", prompt="a" + SPECIAL, suffix=SPECIAL, max_tokens=1).json()
    assert filled["usage"]["prompt_tokens"] == len(ids)
    forced = post("/v1/completions", prompt="a", max_tokens=4, logit_bias={"3": 100}).json()["choices"][0]
    assert forced["text"] == ""


# llm-ls: github.com/huggingface/llm-ls, crates/llm-ls/src/adaptors.rs


def test_llm_ls_by_openais_api(post: Any, engine: Engine) -> None:
    prompt = f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>"
    parameters = {"max_new_tokens": 12, "temperature": 0, "top_p": 0.95}
    answer = post("/v1/completions", model="tiny", prompt=prompt, stream=False, parameters=parameters).json()
    assert answer["choices"][0]["text"] == middle(engine, 12, "free")
    bad = post("/v1/completions", model="tiny", prompt=prompt, parameters={"max_new_tokens": 0})
    assert bad.json()["detail"][0].keys() == {"loc", "msg", "type"}


def test_llm_ls_by_tgis_api(post: Any, engine: Engine) -> None:
    inputs = f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>"
    answer = post("/generate", inputs=inputs, parameters={"max_new_tokens": 12, "do_sample": False, "top_p": 0.95})
    assert answer.json() == {"generated_text": middle(engine, 12, "free")}


# Continue by TGI: core/llm/llms/HuggingFaceTGI.ts


def test_tgi_streams(post: Any, engine: Engine, local_url: str) -> None:
    parameters = {"max_new_tokens": 8, "temperature": 0.5, "seed": 4, "stop": ["never"], "truncate": 100}
    told = events(post("/generate_stream", inputs="for i", parameters=parameters), done=False)
    expected = generate(engine, [Request("for i", 8, temperature=0.5, seed=4)])[0]
    assert "".join(event["token"]["text"] for event in told) == told[-1]["generated_text"] == expected.text
    assert all(event["generated_text"] is None for event in told[:-1])
    details = post("/generate", inputs="for i", parameters={**parameters, "details": True}).json()["details"]
    assert [token["id"] for token in details["tokens"]] == list(expected.token_ids)
    assert httpx.get(f"{local_url}/info").json()["max_total_tokens"] == 256


# Mistral: docs.mistral.ai/api/#tag/fim


@pytest.mark.parametrize("extent", [None, "free", "line"])
def test_mistrals_fim(post: Any, engine: Engine, extent: str | None) -> None:
    keys = {"model": "tiny", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 16, "temperature": 0, "extent": extent}
    whole = post("/v1/fim/completions", **keys).json()
    expected = middle(engine, 16, extent or "block")
    assert whole["choices"][0]["message"]["content"] == expected
    streamed = events(post("/v1/fim/completions", **keys, stream=True))
    assert "".join(event["choices"][0]["delta"]["content"] for event in streamed) == expected
    assert streamed[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


def test_a_long_document_is_cut_round_the_cursor(post: Any, engine: Engine) -> None:
    before, after = "x = 1\n" * 300 + PREFIX, SUFFIX + "y = 2\n" * 300
    answer = post("/v1/fim/completions", prompt=before, suffix=after, max_tokens=16, temperature=0).json()
    assert answer["usage"]["prompt_tokens"] == 256 - 16
    assert answer["choices"][0]["message"]["content"] == middle(engine, 16, prefix=before, suffix=after)


# Tabby: tabby.tabbyml.com/api, clients/tabby-agent; and Tabby's server with us as its upstream.


def test_tabbys_segments(post: Any, engine: Engine, local_url: str) -> None:
    segments = {"prefix": PREFIX, "suffix": SUFFIX, "filepath": "a.py", "clipboard": "secret"}
    answer = post("/v1/completions", language="python", segments=segments, user="u").json()
    assert [answer["choices"][0][key] for key in ("index", "text")] == [0, middle(engine, 64)]
    event = {"type": "select", "completion_id": answer["id"], "choice_index": 0}
    assert post("/v1/events", **event).status_code == 200
    assert post("/v1/completions", segments={"suffix": "x"}).status_code == 400


def test_tabbys_health_tells_the_device(tiny_model: Path) -> None:
    with serving(service_of(tiny_model, device="cuda")) as url:
        health = httpx.get(f"{url}/v1/health").json()
    assert (health["model"], health["device"]) == ("tiny", "cuda")


def test_tabbys_server(post: Any) -> None:
    body = {"model": "tiny", "prompt": PREFIX, "suffix": None, "max_tokens": 8, "temperature": 0.1, "stream": True}
    told = events(post("/v1/completions", **body, presence_penalty=0.0))
    assert told[-1]["choices"][0]["finish_reason"] in ("stop", "length")


# llama.vscode: src/llama-server.ts


def test_llama_vscodes_infill(post: Any, engine: Engine) -> None:
    body = {
        "input_prefix": "def add(a, b):\n",
        "input_suffix": SUFFIX,
        "input_extra": [],
        "prompt": "    ",
        "n_predict": 16,
        "top_k": 40,
        "top_p": 0.99,
        "stream": False,
        "n_indent": 4,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 60000,
    }
    answer = post("/infill", **body).json()
    assert answer["content"] == middle(engine, 16)
    assert answer["stop"]
    streamed = events(post("/infill", **{**body, "stream": True}), done=False)
    assert "".join(event["content"] for event in streamed) == answer["content"]
    warm = post("/infill", **{**body, "n_predict": 0, "input_extra": [{"text": "y = 1", "filename": "b.py"}]}).json()
    assert warm["content"] == ""


# fauxpilot: github.com/fauxpilot/fauxpilot, copilot_proxy; and code-clippy-vscode.


def test_fauxpilots_engines(post: Any, engine: Engine) -> None:
    body = {
        "model": "fastertransformer",
        "prompt": "x = 1\n" * 400,
        "max_tokens": 32,
        "temperature": 0,
        "stop": ["\n\n"],
    }
    answer = post("/v1/engines/codegen/completions", **body).json()
    ids = engine.codec.encode("x = 1\n" * 400)[-(256 - 32) :]
    expected = generate(engine, [Request(ids, 32, temperature=0, stop=("\n\n",))])[0]
    assert answer["choices"][0]["text"] == expected.text


# Ours.


def test_highlight_is_the_models_loss(post: Any, engine: Engine) -> None:
    text = "def add(a, é):\n    return a\n" * 24  # longer than the model's positions
    answer = post("/v1/highlight", text=text).json()
    assert "".join(token["text"] for token in answer["tokens"]) == text
    assert [text[token["start"] : token["end"]] for token in answer["tokens"]] == [t["text"] for t in answer["tokens"]]
    ids = (0, *engine.codec.encode(text))
    expected = [-score.logprob / math.log(2) for score in engine.score(ids[:250])[1:] if score.logprob is not None]
    assert len(answer["tokens"]) == len(ids) - 1 > 256
    assert [token["bits"] for token in answer["tokens"]][:249] == pytest.approx(expected, abs=1e-3)
    assert all(len(token["instead"]) == 3 for token in answer["tokens"])
    assert post("/v1/highlight", text="").json()["tokens"] == []
