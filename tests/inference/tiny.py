"""Makes a tiny model and its tokenizer as `model/` of a run holds them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModelForCausalLM

from codelm.records import SPECIAL_TOKENS
from codelm.run_dir import Manifest, RunDir

ARCHITECTURES = ("llama", "gpt2", "gpt_bigcode", "gpt_neo")
TEXT = [
    "def add(a, b):\n    return a + b\n",
    "class Stack:\n    def __init__(self):\n        self.items = []\n",
    "for index, value in enumerate(values):\n    print(index, value)\n",
]


def tiny_tokenizer(vocab_size: int = 320) -> Tokenizer:
    """A byte-level BPE with all special tokens, trained on three lines."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


def make_tiny_model(directory: Path, architecture: str = "llama", positions: int = 256) -> Path:
    """Write a random model whose output is varied: its weights are larger than at the start of training."""
    tokenizer = tiny_tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.3,
    }
    if architecture == "llama":
        shape |= {"num_key_value_heads": 2, "intermediate_size": 64}
    if architecture == "gpt_neo":
        # A local layer sees fewer tokens than the tests' texts have.
        shape |= {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": 12}
        del shape["num_hidden_layers"], shape["num_attention_heads"]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape), dtype=torch.float32)
    model.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def publish_tiny_model(run_dir: RunDir, positions: int = 256) -> Path:
    """Put a tiny model into a run directory as stage `export` does; its directory."""
    make_tiny_model(Path(run_dir.workspace("model")), positions=positions)
    run_dir.publish("model", Manifest("export", {}, {}))
    return run_dir.local_copy("model")
