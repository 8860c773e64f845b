"""Engines against Hugging Face's own generation, and against themselves in other company."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from codelm.inference.engine import Completion, Engine, Options, Request, generate, load_engine, stream
from codelm.inference.transformers_engine import TransformersEngine
from codelm.records import END_OF_TEXT, FIM_MIDDLE

PROMPTS = ["def add(a, b):\n", "class Stack:\n    def push(self, item):\n        ", "x", "for é in values:\n    print("]
SAMPLED = Request("def add(a, b):\n", 40, temperature=0.8, top_p=0.95, seed=7)


NAMES = ("transformers", "openvino")


@pytest.fixture(scope="session")
def engines() -> dict[tuple[str, Path], Engine]:
    return {}


def loaded(engines: dict[tuple[str, Path], Engine], name: str, model: Path) -> Engine:
    """A model is compiled once for all tests; one that a failed test has left busy is not used again."""
    engine = engines.get((name, model))
    if engine is None or engine.busy():
        options = Options(max_batch=4, precision="fp32", cache_mb=1, threads=1)
        engine = engines[name, model] = load_engine(name, model, options=options)
    return engine


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest, engines: dict[tuple[str, Path], Engine], any_model: Path) -> Engine:
    return loaded(engines, request.param, any_model)


@pytest.fixture(params=NAMES)
def llama(request: pytest.FixtureRequest, engines: dict[tuple[str, Path], Engine], llama_model: Path) -> Engine:
    return loaded(engines, request.param, llama_model)


def test_greedy_equals_hugging_face_generate(any_model: Path, engine: Engine) -> None:
    reference = AutoModelForCausalLM.from_pretrained(any_model, dtype=torch.float32).eval()
    completions = generate(engine, [Request(prompt, 30, temperature=0) for prompt in PROMPTS])
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        ids = torch.tensor([engine.codec.encode(prompt)])
        output = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False)
        expected = [token for token in output[0, ids.shape[1] :].tolist() if token != 0]
        assert list(completion.token_ids) == expected
        assert completion.text == engine.codec.decode(expected)
        assert completion.finish_reason == ("length" if len(expected) == 30 else "stop")
        assert completion.prompt_tokens == ids.shape[1]
        assert completion.completion_tokens == len(expected)


def test_a_seeded_sample_does_not_depend_on_its_company(engine: Engine) -> None:
    alone = generate(engine, [SAMPLED])[0]
    company = [Request(prompt, 5 + 3 * index, seed=index) for index, prompt in enumerate(PROMPTS * 2)]
    for place in (0, 3, 8):
        together = generate(engine, [*company[:place], SAMPLED, *company[place:]])
        assert together[place] == alone


def test_a_newcomer_does_not_disturb_those_that_run(llama: Engine) -> None:
    alone = generate(llama, [SAMPLED])[0]
    first = llama.add(SAMPLED)
    ids = [token for _, delta in llama.step() + llama.step() for token in delta.token_ids]
    second = llama.add(replace(SAMPLED, prompt="a much longer prompt " * 4))
    third = llama.add(SAMPLED)
    again: list[int] = []
    while llama.busy():
        for number, delta in llama.step():
            {first: ids, second: [], third: again}[number].extend(delta.token_ids)
    assert tuple(ids) == tuple(again) == alone.token_ids


def test_a_prompt_is_computed_once_for_all_its_samples(any_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine("transformers", any_model, max_batch=4)
    samples = [replace(SAMPLED, index=index, max_new_tokens=3 + index) for index in range(10)]
    others = [replace(SAMPLED, prompt=prompt) for prompt in ("class Stack:", "for x in values:")]
    alone = [generate(engine, [sample])[0] for sample in samples]
    fed: list[torch.Size] = []
    plain_forward = TransformersEngine._forward

    def counted(self: TransformersEngine, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        fed.append(ids.shape)
        return plain_forward(self, ids, *rest)

    monkeypatch.setattr(TransformersEngine, "_forward", counted)
    together = generate(engine, [*samples[:5], *others, *samples[5:]])
    assert together[:5] + together[7:] == alone
    # Of ten rows four run at a time, and they join in several steps.
    prompts = [shape for shape in fed if shape[1] > 1]
    assert sum(rows for rows, _ in prompts) == 3
    assert not engine._prompts


def test_index_and_seed_and_prompt_change_the_draws(llama: Engine) -> None:
    others = [
        SAMPLED,
        replace(SAMPLED, index=1),
        replace(SAMPLED, seed=8),
        replace(SAMPLED, prompt=SAMPLED.prompt + " "),  # type: ignore[operator]
    ]
    assert len({completion.token_ids for completion in generate(llama, others)}) == 4
    assert generate(llama, others) == generate(llama, others)


def test_streamed_deltas_join_to_the_completion(llama: Engine) -> None:
    whole = generate(llama, [SAMPLED])[0]
    deltas = list(stream(llama, SAMPLED))
    assert "".join(delta.text for delta in deltas) == whole.text
    assert tuple(token for delta in deltas for token in delta.token_ids) == whole.token_ids
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + [whole.finish_reason]
    assert len(deltas) > 10


def test_stop_strings_cut_exactly_and_end_the_work(llama: Engine) -> None:
    whole = generate(llama, [SAMPLED])[0]
    for start in range(5, len(whole.text) - 4, 7):
        stop = whole.text[start : start + 3]
        cut = generate(llama, [replace(SAMPLED, stop=("never there", stop))])[0]
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert cut.finish_reason == "stop"
        assert cut.completion_tokens <= whole.completion_tokens
        assert cut.token_ids == whole.token_ids[: cut.completion_tokens]


def test_nothing_runs_after_the_last_row_has_stopped(llama: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate(llama, [SAMPLED])[0]
    steps = 0
    plain_step = llama.step

    def counted() -> object:
        nonlocal steps
        steps += 1
        return plain_step()

    monkeypatch.setattr(llama, "step", counted)
    cut = generate(llama, [replace(SAMPLED, stop=(whole.text[4:6],))])[0]
    assert steps == cut.completion_tokens < whole.completion_tokens


def test_special_tokens_in_text_are_plain_text(llama: Engine) -> None:
    text = f"a = '{END_OF_TEXT}'  # {FIM_MIDDLE}"
    ids = llama.codec.encode(text)
    assert min(ids) >= 7
    assert llama.codec.decode(ids) == text


def test_special_tokens_are_left_out_of_output(llama: Engine) -> None:
    ids = (*llama.codec.encode("a"), 1, 2, *llama.codec.encode("b"))
    assert llama.codec.decode(ids) == "ab"


def test_end_of_text_stops(llama: Engine) -> None:
    # Hot enough, a model of 320 tokens draws the end of text now and then.
    completions = generate(llama, [Request("x", 200, temperature=50.0, seed=seed) for seed in range(8)])
    stopped = [completion for completion in completions if completion.finish_reason == "stop"]
    assert stopped
    assert all(0 not in completion.token_ids for completion in completions)


def test_cancelled_requests_are_forgotten(llama: Engine) -> None:
    alone = generate(llama, [SAMPLED])[0]
    numbers = [llama.add(replace(SAMPLED, seed=seed)) for seed in (1, 7, 2, 3, 4, 5)]
    llama.step()
    for number in [*numbers[:1], *numbers[2:]]:
        llama.cancel(number)
    ids: list[int] = []
    while llama.busy():
        for number, delta in llama.step():
            assert number == numbers[1]
            ids.extend(delta.token_ids)
    assert tuple(ids) == alone.token_ids[1:]


def test_closing_a_stream_cancels(llama: Engine) -> None:
    deltas = stream(llama, SAMPLED)
    next(deltas)
    deltas.close()  # type: ignore[attr-defined]
    assert not llama.busy()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("", 4), "no tokens"),
        (Request((1, 320), 4), r"outside 0\.\.319"),
        (Request((-1,), 4), r"outside 0\.\.319"),
        (Request("x", 0), "take at least 1"),
        (Request("x", 256), "more than the model's 256 positions"),
    ],
)
def test_impossible_requests_are_refused(llama: Engine, request_: Request, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        llama.add(request_)
    assert not llama.busy()


def test_fill_in_the_middle_has_real_tokens(llama: Engine) -> None:
    ids = llama.codec.fill_in_the_middle("def f():\n", "\n<fim_middle>")
    assert [token for token in ids if token < 7] == [1, 3, 2]
    assert (ids[0], ids[-1]) == (1, 2)


def test_completion_counts() -> None:
    assert Completion("a", (5, 6), "stop", 3).completion_tokens == 2


def test_scores_are_the_models_own(any_model: Path, engine: Engine) -> None:
    reference = AutoModelForCausalLM.from_pretrained(any_model, dtype=torch.float32).eval()
    ids = engine.codec.encode(PROMPTS[1])
    first, *rest = engine.score(ids, 3)
    with torch.inference_mode():
        expected = torch.log_softmax(reference(torch.tensor([ids])).logits[0], dim=-1)
    assert (first.token, first.logprob, first.top) == (ids[0], None, ())
    for place, score in enumerate(rest):
        assert score.logprob == pytest.approx(expected[place, ids[place + 1]].item(), abs=1e-4)
        assert [token for token, _ in score.top] == expected[place].topk(3).indices.tolist()
    greedy = generate(engine, [Request(ids, 5, temperature=0)])[0]
    number = engine.add(Request(ids, 5, temperature=0, logprobs=1))
    told = [score for _ in range(5) for place, delta in engine.step() if place == number for score in delta.scores]
    scored = engine.score(ids + greedy.token_ids)[len(ids) :]
    assert [score.token for score in told] == list(greedy.token_ids)
    for one, other in zip(told, scored, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert one.top[0] == (one.token, one.logprob)


def test_a_bias_can_forbid_and_force(llama: Engine) -> None:
    (forced,) = generate(llama, [replace(SAMPLED, logit_bias=((70, 100.0),))])
    assert set(forced.token_ids) == {70}
    free = generate(llama, [replace(SAMPLED, frequency_penalty=2.0, presence_penalty=2.0, temperature=0)])[0]
    plain = generate(llama, [replace(SAMPLED, temperature=0)])[0]
    assert len(set(free.token_ids)) > len(set(plain.token_ids))
    with pytest.raises(ValueError, match="logit_bias has token id 9999"):
        llama.add(replace(SAMPLED, logit_bias=((9999, 1.0),)))
