"""The config: reading, overriding, and every mistake named with its remedy."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from codelm import config
from codelm.config import Experiment
from codelm.errors import UserError

MINIMAL = {"name": "n", "run_dir": "runs/n", "corpus": {"sources": ["stdlib"]}}
CONFIGS = Path(__file__).parent.parent / "ray_jobs" / "configs"


def parse(**sections: object) -> Experiment:
    return config.parse({**MINIMAL, **sections}, "x.yaml")


def errors(**sections: object) -> str:
    with pytest.raises(UserError) as raised:
        parse(**sections)
    return str(raised.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_are_valid(path: Path) -> None:
    config.load(path)


def test_yaml_round_trip(tmp_path: Path) -> None:
    experiment = config.load(CONFIGS / "quickstart.yaml", ["training.learning_rate=3e-4", "evaluation.k=[1,2]"])
    path = tmp_path / "shown.yaml"
    path.write_text(config.to_yaml(experiment))
    assert config.load(path) == experiment


def test_overrides_are_typed_and_the_last_wins(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    experiment = config.load(path, ["training.steps=7", "training.learning_rate=3e-4", "training.steps=900"])
    assert experiment.training.steps == 900
    assert experiment.training.learning_rate == 3e-4


def test_experiment_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().seed = 3  # type: ignore[misc]


def test_unknown_key_names_the_file_the_key_and_the_nearest() -> None:
    message = errors(training={"learnign_rate": 1e-3})
    assert "x.yaml" in message
    assert "training.learnign_rate: unknown key; did you mean training.learning_rate?" in message


def test_unknown_section_names_the_nearest() -> None:
    assert "trainning: unknown key; did you mean training?" in errors(trainning={"steps": 3})


def test_key_in_the_wrong_section_is_found_where_it_belongs() -> None:
    assert "did you mean training.learning_rate?" in errors(learning_rate=1e-3)


def test_wrong_type_names_key_and_value() -> None:
    assert "training.steps: 'many' is wrong" in errors(training={"steps": "many"})


def test_all_errors_at_once() -> None:
    message = errors(training={"steps": "many", "stepz": 3}, modle={})
    assert message.startswith("3 errors in config x.yaml")


def test_missing_key() -> None:
    with pytest.raises(UserError, match="run_dir: missing"):
        config.parse({"name": "n", "corpus": {"sources": ["stdlib"]}}, "x.yaml")


def test_batch_not_divisible_by_workers() -> None:
    message = errors(training={"batch_size": 10, "workers": 2, "micro_batch_size": 4})
    assert "training.batch_size: 10 is not divisible by workers x micro_batch_size = 2 x 4 = 8" in message


def test_sequence_longer_than_positions() -> None:
    message = errors(data={"sequence_length": 4096}, model={"max_positions": 1024})
    assert "data.sequence_length: 4096 is longer than model.max_positions = 1024" in message


def test_vocabulary_below_bytes_and_special_tokens() -> None:
    assert "tokenizer.vocab_size: 200 is below 256 bytes + 7 special tokens = 263" in errors(
        tokenizer={"vocab_size": 200}
    )
    assert parse(tokenizer={"vocab_size": 263}).tokenizer.vocab_size == 263


def test_heads_must_divide() -> None:
    message = errors(model={"hidden_size": 100, "heads": 8, "kv_heads": 3})
    assert "model.hidden_size: 100 is not divisible" in message
    assert "model.heads: 8 is not divisible" in message


def test_k_above_the_number_of_samples() -> None:
    assert "pass@10 needs 10 samples" in errors(evaluation={"k": [1, 10], "samples": 5})


@pytest.mark.parametrize("optimizer", ["muon", "adafactor"])
def test_an_optimizer_of_matrices_with_flattened_parameters(optimizer: str) -> None:
    expected = f"training.optimizer: {optimizer} works on matrices, and DeepSpeed flattens them"
    assert expected in errors(training={"optimizer": optimizer, "zero_stage": 1, "precision": "fp32"})
    assert expected in errors(training={"optimizer": optimizer, "zero_stage": 0})
    parse(training={"optimizer": optimizer, "zero_stage": 0, "precision": "fp32"})
    parse(training={"optimizer": optimizer, "engine": "torch"})


def test_a_decay_that_begins_within_the_warm_up() -> None:
    training = {"schedule": "wsd", "steps": 100, "warmup_steps": 60, "decay_share": 0.5}
    assert "training.decay_share: 0.5 of training.steps = 100 begins within" in errors(training=training)


def test_an_unknown_preset() -> None:
    assert "model.preset: 'codeparot' is wrong" in errors(model={"preset": "codeparot"})
    assert "training.preset: 'codelm-tiny' is wrong" in errors(training={"preset": "codelm-tiny"})


def test_codeparrots_attention_is_gpt2s() -> None:
    message = errors(model={"architecture": "llama", "reorder_and_upcast_attention": True})
    assert "model.architecture: llama has not got CodeParrot's changes to attention" in message


def test_no_sources() -> None:
    assert "corpus.sources" in errors(corpus={"sources": []})


def test_missing_file() -> None:
    with pytest.raises(UserError, match=r"no config file 'nowhere.yaml'"):
        config.load("nowhere.yaml")


@pytest.mark.parametrize("text", ["a: [1", "- just\n- a list\n", "", "\x00"])
def test_not_a_config(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"c\.yaml"):
        config.load(path)


@pytest.mark.parametrize("override", ["training.steps", "=3", "training.steps.more=3", "training={steps:{x:[1]}}"])
def test_malformed_override(tmp_path: Path, override: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "training": {"steps": 300}}))
    with pytest.raises(UserError):
        config.load(path, [override])


@given(st.text(max_size=40))
def test_any_key_is_an_error_or_valid_never_a_crash(key: str) -> None:
    if key in config.valid_keys():
        return
    assert "unknown key" in errors(**{key: 1}) if key else True
