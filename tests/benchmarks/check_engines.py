"""Engine openvino beside the reference, on trained models of every architecture.

    python -m tests.benchmarks.check_engines [--steps 200] [--prompts 50]

Trains a small model of each architecture on the standard library for some hundred steps, and completes the beginnings
of held-out files greedily: in fp32 every token must be Transformers' own (`generate`), or the program fails. Then the
same with weights in int8, and in bf16 where the CPU computes with it: how many completions differ, after how many
tokens, and what it costs in bits per byte of held-out text.
"""

import argparse
import math
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codelm.config.engines import Precision
from codelm.inference.codec import Codec
from codelm.inference.engine import Engine, Options, Request, generate, load_engine
from codelm.inference.openvino_model import capabilities
from codelm.tokenization.bpe import train
from tests.inference.tiny import ARCHITECTURES

SEQUENCE, BATCH = 128, 4
NEW_TOKENS = 48
LAYERS, HIDDEN, HEADS, WINDOW = 2, 128, 4, 32


def files() -> list[str]:
    """The standard library's modules, in an order that does not follow their names."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"), key=lambda path: hash_of(path.name))
    return [path.read_text(encoding="utf-8", errors="ignore") for path in paths]


def hash_of(name: str) -> int:
    """Of the name, the same in every process."""
    return sum((place + 1) * 7919 * ord(letter) for place, letter in enumerate(name)) % 10007


def shape(architecture: str, vocabulary: int) -> dict[str, Any]:
    """Keys of the architecture's config."""
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": vocabulary, "max_position_embeddings": 512}
    keys: dict[str, Any] = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    if architecture == "llama":
        keys |= {"num_key_value_heads": 2, "intermediate_size": 3 * HIDDEN, "tie_word_embeddings": True}
    if architecture == "gpt_neo":
        keys = {"hidden_size": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS, "window_size": WINDOW}
        keys["attention_types"] = [[["global", "local"], LAYERS // 2]]
    return tokens | keys


def trained(architecture: str, ids: torch.Tensor, vocabulary: int, steps: int, target: Path) -> float:
    """Train and write a model; its last loss in nats per token."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape(architecture, vocabulary)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss = torch.zeros(())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        starts = torch.randint(len(ids) - SEQUENCE, (BATCH,))
        batch = torch.stack([ids[start : start + SEQUENCE] for start in starts.tolist()])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(target)
    return float(loss.detach())


def reference(target: Path, prompts: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Transformers' own greedy completions."""
    model: Any = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)
        found.append(tuple(token for token in out[0, ids.shape[1] :].tolist() if token != 0))
    return found


def completions(engine: Engine, prompts: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The engine's greedy completions, all at once."""
    return [one.token_ids for one in generate(engine, [Request(ids, NEW_TOKENS, temperature=0) for ids in prompts])]


def bits_per_byte(engine: Engine, codec: Codec, texts: list[str]) -> float:
    """Of the beginnings of texts."""
    nats = size = 0.0
    for text in texts:
        ids = codec.encode(text)[:512]
        scored = engine.score(ids)
        nats -= sum(score.logprob or 0.0 for score in scored)
        size += len(codec.decode(ids[1:]).encode())
    return nats / size / math.log(2)


def agreement(expected: list[tuple[int, ...]], found: list[tuple[int, ...]]) -> str:
    """How many are equal, and where the others part."""
    same = [a == b for a, b in zip(expected, found, strict=True)]
    parted = [
        next((place for place, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
        for a, b in zip(expected, found, strict=True)
        if a != b
    ]
    text = f"{sum(same)} of {len(same)} equal"
    return f"{text}; the others part after {sorted(parted)[len(parted) // 2]} tokens (median)" if parted else text


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    asked = parser.parse_args()
    torch.set_num_threads(1)  # matrices this small gain nothing from more
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    texts = files()
    held, kept = texts[: asked.prompts], texts[asked.prompts :]
    tokenizer = train(iter(kept), 1024, 2)
    codec = Codec(tokenizer)
    ids = torch.tensor([token for text in kept for token in (*codec.encode(text[:20_000]), 0)])
    # 16 to 200 tokens, so that ends of blocks come at every place.
    prompts = [codec.encode(text)[: 16 + (37 * place) % 185] for place, text in enumerate(held)]
    wrong = 0
    for architecture in asked.architectures:
        target = Path(tempfile.mkdtemp()) / architecture
        before = time.perf_counter()
        loss = trained(architecture, ids, tokenizer.get_vocab_size(), asked.steps, target)
        tokenizer.save(str(target / "tokenizer.json"))
        print(f"{architecture}: trained {asked.steps} steps to {loss:.2f} in {time.perf_counter() - before:.0f} s")
        expected = reference(target, prompts)
        whole = 0.0
        for precision in get_args(Precision)[1:]:
            if precision == "bf16" and "BF16" not in capabilities():
                print("  bf16  not on this CPU")
                continue
            engine = load_engine("openvino", target, options=Options(precision=precision))
            found, bits = completions(engine, prompts), bits_per_byte(engine, codec, held)
            whole = whole or bits
            print(f"  {precision}  {agreement(expected, found)}; {bits:.4f} bits per byte ({bits - whole:+.4f})")
            wrong += precision == "fp32" and found != expected
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
