import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from codelm.config import Experiment
from codelm.modeling.build import build_model, model_config
from codelm.on_ray.export import STAGE
from codelm.on_ray.stage import run_stage
from codelm.records import END_OF_TEXT, SPECIAL_TOKENS
from codelm.run_dir import Manifest, RunDir

VOCAB_SIZE = 300
METRICS = {"parameters": 1, "tokens": 4096, "validation_loss": 2.5, "unigram_entropy": 5.25}
WITHOUT_CODELM = """
import json, sys
from transformers import pipeline
complete = pipeline("text-generation", sys.argv[1], device="cpu")
out = complete("def f(x):", max_new_tokens=5, do_sample=False)[0]["generated_text"]
print(json.dumps({"text": out, "codelm": "codelm" in sys.modules, "dtype": str(complete.model.dtype)}))
"""


@dataclass(frozen=True)
class Exported:
    experiment: Experiment
    directory: Path
    pretrain: Path
    manifest: Manifest


def with_inputs(experiment: Experiment, precision: str) -> RunDir:
    """Publish an untrained model as the stage `pretrain` does, and a small tokenizer."""
    run_dir = RunDir(experiment.run_dir)
    directory = Path(run_dir.workspace("pretrain"))
    config = model_config(experiment.model, VOCAB_SIZE)
    model = build_model(config, seed=4)
    save_file({name: weight.detach() for name, weight in model.named_parameters()}, directory / "weights.safetensors")
    config.save_pretrained(directory)
    recipe = {"training": experiment.training.model_dump(mode="json")}
    run_dir.publish(
        "pretrain", Manifest("pretrain", recipe, {}, metrics=METRICS, facts={"precision": precision, "seconds": 1.5})
    )
    directory = Path(run_dir.workspace("tokenizer"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["def f(x):\n    return x + 1\n"] * 9, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT).save_pretrained(directory)
    run_dir.publish("tokenizer", Manifest("tokenizer", {"vocab_size": VOCAB_SIZE}, {}, metrics={"tokens": VOCAB_SIZE}))
    return run_dir


@pytest.fixture
def export(make_experiment: Callable[..., Experiment]) -> Callable[..., Exported]:
    """`export("gpt2", precision="bf16")`: run the stage."""

    def run(architecture: str, precision: str = "fp32") -> Exported:
        experiment = make_experiment([f"model.architecture={architecture}", f"tokenizer.vocab_size={VOCAB_SIZE}"])
        run_dir = with_inputs(experiment, precision)
        manifest = run_stage(STAGE, experiment, run_dir)
        return Exported(experiment, Path(run_dir.path("model")), Path(run_dir.path("pretrain")), manifest)

    return run


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_bigcode"])
def test_transformers_loads_the_very_same_model(export: Callable[..., Exported], architecture: str) -> None:
    exported = export(architecture)
    model, info = AutoModelForCausalLM.from_pretrained(exported.directory, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    weights = load_file(exported.pretrain / "weights.safetensors")
    loaded = dict(model.named_parameters())
    assert loaded.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(loaded[name], weight), name
    tokens = torch.arange(20)[None]
    original = build_model(model.config, seed=4)
    torch.testing.assert_close(model(input_ids=tokens).logits, original(input_ids=tokens).logits)


def test_the_tokenizer_and_the_generation_config_fit_the_model(export: Callable[..., Exported]) -> None:
    exported = export("llama")
    tokenizer = AutoTokenizer.from_pretrained(exported.directory)
    model = AutoModelForCausalLM.from_pretrained(exported.directory)
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id == model.config.eos_token_id == 0
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 128
    text = "def f(x):\n    return x + 1\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_it_generates_without_codelm(export: Callable[..., Exported]) -> None:
    exported = export("llama")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CODELM, str(exported.directory)],
        capture_output=True,
        text=True,
        check=True,
        cwd=exported.directory,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["text"].startswith("def f(x):")
    assert len(said["text"]) > len("def f(x):")
    assert said["codelm"] is False
    assert said["dtype"] == "torch.float32"


def test_a_model_trained_in_bf16_is_stored_in_bf16(export: Callable[..., Exported]) -> None:
    exported = export("llama", precision="bf16")
    stored = load_file(exported.directory / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    config = json.loads((exported.directory / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert exported.manifest.metrics["bytes"] == (exported.directory / "model.safetensors").stat().st_size


def test_the_model_card_tells_of_data_recipe_and_results(export: Callable[..., Exported]) -> None:
    card = (export("llama").directory / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "| loss of a model that knows only how frequent each token is | 5.2500 |" in card
    assert "| validation loss, nats a token | 2.5000 |" in card
    assert "| learning rate | 0.0005 |" in card
    for stated in ("## tokenizer", "## pretrain", '"learning_rate": 0.0005', '"validation_loss": 2.5'):
        assert stated in card
    assert "seconds" not in card  # equal models have equal cards


def test_the_model_is_registered_in_mlflow(export: Callable[..., Exported]) -> None:
    exported = export("llama")
    client = MlflowClient(tracking_uri=f"sqlite:///{exported.experiment.run_dir}/mlflow.db")
    version = client.get_model_version_by_alias("test", "latest-export")
    assert (str(version.version), version.run_id) == ("1", exported.manifest.facts["mlflow_run"])
    assert exported.manifest.facts["registered"] == "models:/test/1"
    registered = Path(version.source.removeprefix("file://"))
    assert (registered / "model.safetensors").read_bytes() == (exported.directory / "model.safetensors").read_bytes()


def test_nothing_is_printed_but_codelms_lines(
    export: Callable[..., Exported], capfd: pytest.CaptureFixture[str]
) -> None:
    export("llama")
    out, err = capfd.readouterr()
    assert out == ""
    assert {line.split()[0] for line in err.splitlines()} == {"export"}


def test_equal_inputs_make_equal_files(export: Callable[..., Exported]) -> None:
    exported = export("llama")
    run_dir = RunDir(exported.experiment.run_dir)
    run_dir.withdraw("model")
    assert run_stage(STAGE, exported.experiment, run_dir).files == exported.manifest.files


@pytest.mark.parametrize("damage", ["missing", "wrong shape"])
def test_weights_of_another_model_are_refused(
    make_experiment: Callable[..., Experiment], damage: str, tmp_path: Path
) -> None:
    run_dir = with_inputs(make_experiment([f"tokenizer.vocab_size={VOCAB_SIZE}"]), "fp32")
    path = Path(run_dir.path("pretrain", "weights.safetensors"))
    weights = load_file(path)
    if damage == "missing":
        weights.pop("model.norm.weight")
    else:
        weights["model.norm.weight"] = torch.ones(math.prod(weights["model.norm.weight"].shape) + 1)
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"weights.safetensors does not hold the parameters of its config.json"):
        run_stage(STAGE, make_experiment(), run_dir)
