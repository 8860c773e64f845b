"""Examples and fine-tuning on a cluster: one run, and what is refused before it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mlflow.tracking import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from codelm.config import Experiment
from codelm.config.finetuning import Finetuning
from codelm.corpus.shards import DOCUMENTS
from codelm.errors import UserError
from codelm.on_ray import examples, finetune, pipeline
from codelm.on_ray.stage import run_stage
from codelm.run_dir import RunDir
from tests.finetuning.shapes import tiny
from tests.finetuning.test_training import saved

MakeExperiment = Callable[..., Experiment]
HAS_CLOSE_ELEMENTS = '''
def has_close_elements(numbers, threshold):
    """Check if in given list of numbers, are any two numbers closer to each other than
    given threshold.
    >>> has_close_elements([1.0, 2.0, 3.0], 0.5)
    False
    """
    for idx, elem in enumerate(numbers):
        pass
    return False
'''
RECIPE = {
    "engine": "torch",
    "steps": 12,
    "batch_size": 4,
    "micro_batch_size": 2,
    "workers": 2,
    "learning_rate": 2e-2,
    "precision": "fp32",
    "validate_every": 4,
    "checkpoint_every": 4,
    "log_every": 2,
}


def pairs(path: Path, count: int = 60) -> str:
    """Sums of two digits, with one line of each kind that is left out."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"p{number}",
            "prompt": f"Q: {number % 7} + {number // 7}\nA: ",
            "completion": f"{number % 7 + number // 7}",
        }
        for number in range(count)
    ]
    rows.append({"id": "empty", "prompt": "Q: nothing\nA: ", "completion": " \n"})
    rows.append({"id": "long", "prompt": "Q: much\nA: ", "completion": "x" * 64})
    rows.append({"id": "again", "prompt": "Q: 0 + 0\nA: ", "completion": "0"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def section(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    model = tmp_path / "base"
    if not model.exists():
        saved(tiny("llama"), model)
    return {
        "model": str(model),
        "data": "jsonl",
        "source": pairs(tmp_path / "pairs.jsonl"),
        "sequence_length": 64,
        "validation_fraction": 0.2,
        "training": RECIPE,
        **changes,
    }


def test_fine_tuning_as_a_stage(
    ray_cluster: None, make_experiment: MakeExperiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(finetuning=section(tmp_path))
    run_dir = RunDir(experiment.run_dir)
    made = run_stage(examples.STAGE, experiment, run_dir)
    assert made.metrics["found"] == 63
    assert made.metrics["dropped"] == {"duplicate": 1, "empty_solution": 1, "too_long": 1}
    assert made.metrics["examples"] == made.metrics["train"]["examples"] + made.metrics["valid"]["examples"] == 60
    lines = (Path(experiment.run_dir) / "examples" / "dropped.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"]: json.loads(line)["reason"] for line in lines} == {
        "empty": "empty_solution",
        "long": "too_long",
        "p0": "duplicate",  # "again" comes before it
    }
    assert "dropped, too_long: 1 (long)" in capsys.readouterr().err

    manifest = run_stage(finetune.STAGE, experiment, run_dir)
    metrics = manifest.metrics
    curve = [json.loads(line) for line in (Path(experiment.run_dir) / "finetuned" / "curve.jsonl").open()]
    losses = {point["step"]: point["validation_loss"] for point in curve if point["validation_loss"] is not None}
    assert set(losses) == {0, 4, 8, 12}
    assert metrics["validation_loss"] == min(losses.values()) == losses[metrics["best_step"]]
    assert metrics["validation_loss"] < metrics["initial_validation_loss"] - 0.5
    assert metrics["final_validation_loss"] == losses[12]
    directory = Path(experiment.run_dir) / "finetuned"
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModelForCausalLM.from_pretrained(directory)
    ids = torch.tensor([tokenizer.backend_tokenizer.encode("Q: 1 + 1\nA: ").ids])
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert "The loss was on the tokens of the solutions" in (directory / "README.md").read_text()
    client = MlflowClient(tracking_uri=f"sqlite:///{experiment.run_dir}/mlflow.db")
    history = client.get_metric_history(manifest.facts["mlflow_run"], "validation_loss")
    assert {metric.step: metric.value for metric in history} == losses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": None}, "finetuning.source: null; name the file"),
        ({"source": "/nowhere.jsonl"}, r"finetuning.source: '/nowhere.jsonl' does not exist"),
        ({"model": "/nowhere"}, "finetuning.model: there is no directory"),
        ({"training": {**RECIPE, "workers": 64, "batch_size": 128}}, r"finetuning.training.workers: 64 on cpu"),
    ],
)
def test_refused_before_anything_starts(
    make_experiment: MakeExperiment, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    experiment = make_experiment(["cluster.num_cpus=4"], finetuning=section(tmp_path, **changes))
    with pytest.raises(UserError, match=message):
        pipeline.check(experiment, ["examples", "finetune"])


def test_a_model_in_the_home_directory(
    make_experiment: MakeExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for stated, found in (("~/base", str(tmp_path / "base")), ("owner/name", "owner/name")):
        experiment = make_experiment(finetuning=section(tmp_path, model=stated))
        examples.check(experiment)
        assert examples.base_model(experiment, RunDir(experiment.run_dir)) == found


def test_a_config_without_the_section(make_experiment: MakeExperiment) -> None:
    with pytest.raises(UserError, match="no section `finetuning`"):
        pipeline.check(make_experiment(), ["finetune"])


def test_which_stages_the_pipeline_has(make_experiment: MakeExperiment, tmp_path: Path) -> None:
    assert "finetune" not in pipeline.wanted(make_experiment())
    own = make_experiment(finetuning={"data": "functions"})
    assert pipeline.wanted(own)[-5:] == ["export", "examples", "finetune", "evaluate", "endpoint"]
    other = make_experiment(finetuning=section(tmp_path))
    assert pipeline.wanted(other) == ["examples", "finetune", "evaluate", "endpoint"]
    assert own.model_stage == other.model_stage == "finetune"


def test_warm_up_longer_than_the_epochs(make_experiment: MakeExperiment, tmp_path: Path) -> None:
    experiment = make_experiment(
        finetuning=section(tmp_path, epochs=2, training={**RECIPE, "warmup_steps": 5}),
    )
    assert finetune.recipe_of(experiment, 12).steps == 6
    with pytest.raises(UserError, match="5 leaves nothing of the 5 steps that 10 training sequences make"):
        finetune.recipe_of(experiment, 10)


def test_functions_of_a_corpus(tmp_path: Path) -> None:
    """Files of tests and benchmarks' problems give no example, and every function is counted."""
    function = 'def {name}(a, b):\n    """Add the two numbers, carefully and slowly."""\n    return a + b + {number}\n'
    files = {
        "pkg/sums.py": "".join(function.format(name=f"add{number}", number=number) for number in range(3)),
        "tests/more.py": function.format(name="helper", number=9),
        "pkg/human.py": HAS_CLOSE_ELEMENTS,
        "pkg/broken.py": "def broken(:\n",
    }
    rows = [
        dict.fromkeys(DOCUMENTS.names)
        | {"id": f"{place:064x}", "path": path, "content": text, "cluster": f"c{place}", "language": "Python"}
        for place, (path, text) in enumerate(files.items())
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENTS), tmp_path / "part.parquet")
    task: Any = examples._functions_of_shard._function
    found, dropped = task(RunDir(str(tmp_path)), str(tmp_path / "part.parquet"), Finetuning(data="functions"))
    assert [(example.id.split(":")[1:4], example.group) for example in found] == [
        (["pkg/sums.py", str(1 + 3 * number), f"add{number}"], "c0") for number in range(3)
    ]
    assert sorted(reason for _, reason in dropped) == ["benchmark", "test"]
