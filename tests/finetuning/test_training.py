"""Fine-tuning by the loop of pretraining: every shape learns, a model that has learnt by heart stops by itself."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from codelm.config import Training
from codelm.config.finetuning import Lora
from codelm.errors import UserError
from codelm.finetuning.base import adapted, export, load_base, load_tokenizer
from codelm.finetuning.objective import solution_objective
from codelm.tokenization import bpe
from codelm.training.checkpoint import Progress
from codelm.training.engine import make_engine
from codelm.training.loop import Loop
from tests.finetuning.shapes import ARCHITECTURES, EOS, EXAMPLES, data, rows, tiny, tokenizer

RECIPE: dict[str, Any] = {
    "engine": "torch",
    "steps": 6,
    "batch_size": 2,
    "micro_batch_size": 2,
    "learning_rate": 3e-3,
    "warmup_steps": 0,
    "beta2": 0.98,
    "schedule": "linear",
    "weight_decay": 0.0,
}


def trained(model: Any, **recipe: Any) -> tuple[Any, list[float]]:
    """An engine after its training, and the losses of its steps."""
    split, info = data()
    training = Training(**(RECIPE | recipe))
    engine = make_engine(model, training, "fp32", torch.device("cpu"), solution_objective(asdict(info)))
    progress = Progress()
    Loop(engine, split, split, training, 0, lambda step, metrics: None, lambda done: None).run(progress)
    return engine, [point.train_loss for point in progress.curve if point.train_loss is not None]


def saved(model: Any, directory: Path) -> str:
    model.save_pretrained(directory)
    bpe_files = bpe.files(bpe.train([], 263, 2))
    for name, text in bpe_files.items():
        (directory / name).write_text(text)
    return str(directory)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lora", [None, Lora(rank=4, alpha=32)], ids=["full", "lora"])
def test_each_shape_is_fine_tuned_and_exported(architecture: str, lora: Lora | None, tmp_path: Path) -> None:
    """From a directory of Hugging Face to another one, which computes the same as the trained model."""
    source = saved(tiny(architecture), tmp_path / "base")
    model = load_base(source, 64, lora, 0)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    engine, losses = trained(model, learning_rate=3e-2 if lora else 3e-3)
    assert losses[-1] < losses[0] - 0.1
    weights = engine.weights()
    assert {name for name, weight in weights.items() if not torch.equal(weight, before[name])} == names
    assert lora is None or all("lora_" in name for name in names)
    (tmp_path / "trained").mkdir()
    save_file({name: weights[name] for name in names}, tmp_path / "trained" / "weights.safetensors")
    export(source, tmp_path / "trained", lora, "fp32", tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    ids = rows().abs()[:, :20] % 263
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits, atol=1e-4, rtol=1e-4)
    assert loaded.generation_config.eos_token_id == load_tokenizer(source)[1] == EOS


def test_a_model_that_knows_its_examples_by_heart_stops_by_itself() -> None:
    """GPT-CC's never learnt the end of text. Greedy generation has room for 40 tokens and takes the solution's."""
    model = tiny("llama")
    _, losses = trained(model, steps=150, learning_rate=1e-2)
    assert losses[-1] < 0.05
    encoder = tokenizer()
    for example in EXAMPLES:
        prompt = torch.tensor([encoder.encode(example.prompt).ids])
        out = model.generate(prompt, max_new_tokens=40, do_sample=False, eos_token_id=EOS, pad_token_id=EOS)
        written = out[0, prompt.shape[1] :].tolist()
        assert written == [*encoder.encode(example.completion).ids, EOS]


def test_adapters_are_drawn_by_the_seed() -> None:
    first, same, other = (dict(adapted(tiny("gpt2"), Lora(), seed).named_parameters()) for seed in (1, 1, 2))
    drawn = [name for name in first if "lora_A" in name]
    assert drawn
    assert all(torch.equal(first[name], same[name]) for name in drawn)
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_adapters_for_layers_that_are_not_there() -> None:
    with pytest.raises(UserError, match=r"finetuning.lora.modules: \('query',\)"):
        adapted(tiny("gpt2"), Lora(modules=("query",)), 0)


def test_models_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finetuning.model: there is no directory"):
        load_base(str(tmp_path / "none"), 8, None, 0)
    source = saved(tiny("gpt2"), tmp_path / "base")
    with pytest.raises(UserError, match=r"finetuning.sequence_length: 65 is longer than the 64 positions"):
        load_base(source, 65, None, 0)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer()).save_pretrained(source)
    with pytest.raises(UserError, match="names no end of text"):
        load_tokenizer(source)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    source = saved(tiny("gpt2"), tmp_path / "base")
    save_file({"x": torch.from_numpy(np.zeros(3, np.float32))}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="does not hold the trained parameters"):
        export(source, tmp_path, None, "fp32", tmp_path / "model")
