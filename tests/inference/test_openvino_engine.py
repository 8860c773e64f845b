"""What the openvino engine does beyond the others: exports, shared prefixes, a bounded cache, int8."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from codelm.errors import UserError
from codelm.inference import openvino_export
from codelm.inference.engine import Options, Request, choose_engine, generate, load_engine, stream
from codelm.inference.openvino_engine import OpenVinoEngine
from codelm.inference.openvino_export import exported
from codelm.inference.openvino_model import PagedModel, Piece
from codelm.inference.openvino_weights import compress

OPTIONS = Options(max_batch=4, precision="fp32", cache_mb=1, threads=1)
LONG = "for index in range(10):\n    print(index)\n" * 6
SAMPLED = Request(LONG, 12, temperature=0.8, top_p=0.95, seed=7)


@pytest.fixture(scope="module")
def llama(llama_model: Path) -> OpenVinoEngine:
    engine = load_engine("openvino", llama_model, options=OPTIONS)
    assert isinstance(engine, OpenVinoEngine)
    return engine


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The tokens of each piece of each call of the model."""
    calls: list[list[int]] = []
    plain = PagedModel.forward

    def counted(self: PagedModel, pieces: Sequence[Piece], wanted: Sequence[int]) -> np.ndarray:
        calls.append([len(piece.tokens) for piece in pieces])
        return plain(self, pieces, wanted)

    monkeypatch.setattr(PagedModel, "forward", counted)
    return calls


def test_a_prefix_is_computed_once(llama: OpenVinoEngine, llama_model: Path, fed: list[list[int]]) -> None:
    tokens = len(llama.codec.encode(LONG))
    assert tokens > 4 * 32
    samples = [replace(SAMPLED, index=index) for index in range(4)]
    first = generate(llama, samples)
    # One feeds the prompt; the others wait a step and feed what is left of its last block.
    assert fed[0] == [tokens]
    assert sorted(fed[1]) == [1, *[(tokens - 1) % 32 + 1] * 3]
    fed.clear()
    # A keystroke later.
    typed = generate(llama, [replace(SAMPLED, prompt=LONG + "x")])
    assert fed[0][0] <= 33
    fresh = load_engine("openvino", llama_model, options=replace(OPTIONS, remember=False))
    assert generate(fresh, [replace(SAMPLED, prompt=LONG + "x")]) == typed
    assert generate(fresh, samples) == first


def test_an_engine_that_does_not_remember_is_as_good_as_new(llama_model: Path, fed: list[list[int]]) -> None:
    engine = load_engine("openvino", llama_model, options=replace(OPTIONS, remember=False))
    samples = [replace(SAMPLED, index=index) for index in range(6)]
    first, calls = generate(engine, samples), list(fed)
    generate(engine, [replace(SAMPLED, prompt=LONG[:60])])
    fed.clear()
    assert generate(engine, samples) == first
    assert fed == calls


def test_requests_wait_for_room_in_the_cache_and_cancelled_ones_leave_it(llama: OpenVinoEngine) -> None:
    alone = [generate(llama, [replace(SAMPLED, seed=seed, max_new_tokens=100)])[0] for seed in range(3)]
    pool = llama._pool
    assert pool.free == pool.size
    # Blocks of 32 tokens, 8 for each of these, of which they share 4: room for two.
    room = pool.take([], pool.size - 12)
    assert room is not None
    numbers = [llama.add(replace(SAMPLED, seed=seed, max_new_tokens=100)) for seed in range(3)]
    others = [llama.add(replace(SAMPLED, prompt=f"other {seed} " * 10, max_new_tokens=100)) for seed in range(3)]
    for _ in range(3):
        llama.step()
    for number in numbers + others:
        llama.cancel(number)
    assert not llama.busy()
    assert pool.free == pool.size - len(room)
    numbers = [llama.add(replace(SAMPLED, seed=seed, max_new_tokens=100)) for seed in range(3)]
    texts = dict.fromkeys(numbers, "")
    while llama.busy():
        for number, delta in llama.step():
            texts[number] += delta.text
        assert len(llama._running) <= 2
    assert list(texts.values()) == [one.text for one in alone]
    pool.release(room)
    assert pool.free == pool.size


def test_a_long_prompt_does_not_keep_others_waiting(
    llama: OpenVinoEngine, fed: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(SAMPLED, prompt=tuple(range(20, 220)))
    alone = generate(llama, [SAMPLED, long])
    monkeypatch.setattr("codelm.inference.openvino_engine.TOKENS_A_STEP", 16)
    llama.add(SAMPLED)
    while not llama.step():
        pass
    fed.clear()
    number = llama.add(replace(long, prompt=tuple(range(219, 20, -1)), seed=1))
    assert len(llama.step()) == 1
    assert fed == [[1, 15]]
    llama.cancel(number)
    while llama.busy():
        llama.step()
    monkeypatch.undo()
    assert generate(llama, [SAMPLED, long]) == alone


@pytest.mark.parametrize("threads", [1, 2])
def test_company_changes_no_bit(any_model: Path, threads: int) -> None:
    engine = load_engine("openvino", any_model, options=replace(OPTIONS, threads=threads, remember=False))
    told = replace(SAMPLED, prompt="x = [", max_new_tokens=30, logprobs=3, stop=())
    alone = list(stream(engine, told))
    assert len(alone) > 5
    for others in (1, 3):
        company = [engine.add(replace(SAMPLED, prompt="y", seed=seed, max_new_tokens=60)) for seed in range(others)]
        while not engine.step():
            pass
        number = engine.add(told)
        deltas = []
        while not deltas or deltas[-1].finish_reason is None:
            deltas += [delta for other, delta in engine.step() if other == number]
        for other in company:
            engine.cancel(other)
        # Not the first: prompts are computed in other shapes.
        assert deltas[1:] == alone[1:]


def test_an_export_is_made_once_for_the_same_weights(llama_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = exported(llama_model, int8=False)
    monkeypatch.setattr(openvino_export, "_export", None)
    assert exported(llama_model, int8=False) == first
    assert json.loads((first / "model.json").read_text()) == {"windows": [0, 0]}
    with monkeypatch.context() as patch:
        patch.setattr(openvino_export, "FORMAT", 0)
        with pytest.raises(TypeError):
            exported(llama_model, int8=False)
    # Nothing half made is left.
    assert {path.name for path in first.parent.iterdir()} <= {first.name, "lock", exported_name(llama_model)}


def exported_name(model: Path) -> str:
    return openvino_export._key(model, int8=True)


def test_int8_is_near(llama: OpenVinoEngine, llama_model: Path) -> None:
    rounded = load_engine("openvino", llama_model, options=replace(OPTIONS, precision="int8"))
    ids = tuple(range(10, 200))
    pairs = zip(llama.score(ids)[1:], rounded.score(ids)[1:], strict=True)
    differences = [(a.logprob or 0) - (b.logprob or 0) for a, b in pairs]
    assert 0 < max(map(abs, differences)) < 0.2
    assert sum(differences) / len(differences) == pytest.approx(0, abs=0.02)


def test_matrices_are_rounded_to_the_nearest_of_255_steps() -> None:
    weights = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    inputs = openvino.opset13.parameter([-1, 64], openvino.Type.f32)
    product = openvino.opset13.matmul(inputs, openvino.opset13.constant(weights), False, True)
    graph = openvino.Model([product], [inputs])
    compress(graph)
    compiled = openvino.Core().compile_model(graph, "CPU", {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0})
    rows = compiled(np.eye(64, dtype=np.float32))[0].T
    step = np.abs(weights).max(axis=1, keepdims=True) / 127
    assert np.abs(rows - weights).max() > 0
    assert (np.abs(rows - weights) <= step * 0.501).all()


def test_the_engine_is_chosen_by_device_and_model(llama_model: Path, tmp_path: Path) -> None:
    assert choose_engine("auto", llama_model, "cpu").name == "openvino"
    assert choose_engine("transformers", llama_model, "cpu").name == "transformers"
    assert choose_engine("auto", llama_model, "cuda").name in ("vllm", "transformers")
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    choice = choose_engine("openvino", tmp_path, "cpu")
    assert choice.name == "transformers"
    assert "mamba" in choice.note
    with pytest.raises(UserError, match="runs on CPUs"):
        choose_engine("openvino", llama_model, "cuda")
    with pytest.raises(UserError, match="no engine 'llama"):
        choose_engine("llama.cpp", llama_model, "cpu")


def test_greedy_tokens_are_those_of_torch_at_every_length(llama: OpenVinoEngine, llama_model: Path) -> None:
    """Across the ends of blocks: the likeliest token after each of 100 beginnings."""
    from transformers import AutoModelForCausalLM

    ids = tuple(range(30, 130))
    model = AutoModelForCausalLM.from_pretrained(llama_model, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
    requests = [Request(ids[: length + 1], 1, temperature=0) for length in range(100)]
    found = [one.token_ids[0] if one.token_ids else 0 for one in generate(llama, requests)]
    assert found == expected
