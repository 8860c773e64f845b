"""Plans against published runs and arithmetic by hand, and against a run's own manifests."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from codelm import config
from codelm.config import Experiment
from codelm.errors import UserError
from codelm.planning.command import Asked, described, parsed_size
from codelm.planning.estimate import Machines, evaluation_programs, in_words, plan
from codelm.planning.problems import problem_count
from codelm.planning.rates import Rates, device_rate, measured_rates, usual_rates
from codelm.run_dir import DIRECTORIES, Manifest, RunDir

RATES = Rates(corpus=4e6, pack=1e6, training=1e12, judging=100.0, origin="here")


def published(name: str) -> Experiment:
    """A published model with its published recipe."""
    tree = {"name": "n", "run_dir": "/nowhere", "corpus": {"sources": ["stdlib"]}}
    return config.parse(tree | {"model": {"preset": name}, "training": {"preset": name}}, "x.yaml")


def test_codeparrot_small_as_it_was_trained() -> None:
    """110M parameters, 150k steps x 192 x 1024 tokens, 16 A100 for a day: 5.3 % of the peak by the same arithmetic."""
    rates = replace(RATES, training=device_rate("A100", 0.053))
    (row,) = [
        row
        for row in plan(published("codeparrot-small"), rates, Machines(1, 16), None, {}).rows
        if row.stage == "pretrain"
    ]
    assert "29,491,200,000 tokens" in row.work
    assert row.seconds == pytest.approx(24 * 3600, rel=0.1)


def test_rows_and_storage_by_hand(make_experiment: Callable[..., Experiment]) -> None:
    experiment = make_experiment(["evaluation.samples=10", "training.keep_checkpoints=2"])
    made = plan(experiment, RATES, Machines(4, 2), 32e6, {})
    seconds = {row.stage: row.seconds for row in made.rows}
    assert seconds["corpus"] == pytest.approx(32e6 / 4e6 / 4)
    assert seconds["pack"] == pytest.approx(32e6 * 0.5 / 3.2 / 1e6 / 4)
    assert seconds["judging"] == pytest.approx((2 * 10 + 164) / 100 / 4)  # all own solutions of HumanEval are judged
    # Embedding and output layer are one matrix or two; layers of attention and MLP; by torch's own count.
    from codelm.modeling.build import build_model, model_config

    model = build_model(model_config(experiment.model, experiment.tokenizer.vocab_size), 0)
    count = sum(parameter.numel() for parameter in model.parameters())
    tokens = 8 * 4 * 64
    assert seconds["pretrain"] == pytest.approx(tokens * (6 * count + 12 * 2 * 64 * 64) / 2e12)
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    state = sum(value.numel() * 4 for item in optimizer.state.values() for value in item.values() if value.dim())
    assert made.storage["checkpoints"] == 3 * (state + 4 * count)


def finished(experiment: Experiment, stage: str, metrics: dict[str, Any], **facts: Any) -> None:
    run_dir = RunDir(experiment.run_dir)
    run_dir.workspace(DIRECTORIES[stage])
    tree = {
        "model": experiment.model.model_dump(mode="json"),
        "sequence_length": experiment.data.sequence_length,
    }
    run_dir.publish(DIRECTORIES[stage], Manifest(stage, tree, {}, metrics=metrics, facts=facts))


def test_measured_and_compared_with_the_truth(make_experiment: Callable[..., Experiment]) -> None:
    experiment = make_experiment()
    finished(experiment, "corpus", {"bytes_in": 32e6, "bytes_kept": 10e6}, seconds=8, cluster_cpus=2)
    finished(experiment, "pretrain", {"parameters": 1000}, seconds=5, tokens_per_second=300, workers=3)
    rates = measured_rates(usual_rates("codelm"), experiment.run_dir)
    assert rates.corpus == 32e6 / 8 / 2
    assert rates.training == 100 * (6 * 1000 + 12 * 2 * 64 * 64)
    assert rates.judging == usual_rates("codelm").judging
    said = described(experiment, Asked(cores=2, measured=experiment.run_dir))
    assert "0.032 GB of source files" in said
    assert "8 s, took 8 s (1.00 x)" in said
    assert "took 5 s" in said


def test_devices_and_prices(make_experiment: Callable[..., Experiment]) -> None:
    said = described(make_experiment(["training.steps=100000000"]), Asked(device="h100", count=8, price=2.0, mfu=0.5))
    assert "H100 at 50 % of its" in said.replace("h100", "H100").replace("50%", "50 %")
    assert "device hours at 2 = " in said
    assert "give --corpus" in said
    with pytest.raises(UserError, match=r"--device 'abacus': no published peak is known; the devices are .*H100"):
        described(make_experiment(), Asked(device="abacus"))
    with pytest.raises(UserError, match="no stage is finished there"):
        measured_rates(RATES, "/nowhere")


def test_sizes_and_times() -> None:
    assert parsed_size("1TB") == 1e12
    assert parsed_size("31.5 MB") == 31.5e6
    assert parsed_size("4e9") == 4e9
    for wrong in ("many", "1.2.3GB", "-4"):
        with pytest.raises(UserError, match="is no size"):
            parsed_size(wrong)
    assert [in_words(seconds) for seconds in (3, 600, 7200 * 2, 864000)] == ["3 s", "10 min", "4 h", "10 days"]


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        (["benchmark=humaneval"], 164),
        (["benchmark=humaneval-single-line"], 1033),
        (["benchmark=codelm", "languages=[python]"], 18),
        (["benchmark=humaneval+"], 164),
        (["benchmark=mbpp"], 500),
        (["benchmark=apps"], 5000),
        (["benchmark=apps", "difficulties=[introductory, competition]"], 2000),
        (["benchmark=multipl-e", "languages=[java]"], 158),
        (["benchmark=apps", "source=codeparrot/apps"], 5000),
        (["benchmark=apps", "source=somebody/apps"], None),
    ],
)
def test_problems_of_benchmarks(make_experiment: Callable[..., Experiment], chosen: list[str], count: int) -> None:
    """Those at hand are counted, those on the hub are as many as their cards and papers tell."""
    experiment = make_experiment(["evaluation.problems=null", *(f"evaluation.{one}" for one in chosen)])
    assert problem_count(experiment.evaluation, 0) == count


def test_programs_of_a_file_and_of_what_nobody_knows(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    problem = {"prompt": "def f():\n", "canonical_solution": "    return 1\n", "test_list": ["assert f() == 1"]}
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(problem | {"task_id": n}) + "\n" for n in range(7)))
    settings = ["evaluation.benchmark=jsonl", "evaluation.problems=null", "evaluation.samples=3"]
    experiment = make_experiment([*settings, f"evaluation.source={tmp_path}/mine.jsonl"])
    assert evaluation_programs(experiment) == 7 * 3 + 7
    assert evaluation_programs(make_experiment([*settings, "evaluation.source=somebody/problems"])) is None
    known = make_experiment([*settings, "evaluation.source=somebody/problems", "evaluation.problems=2"])
    assert evaluation_programs(known) == 2 * 3 + 2


def test_finetuning_and_sweeps_are_trainings_too(make_experiment: Callable[..., Experiment]) -> None:
    space = 'sweep={"trials": 3, "space": {"finetuning.training.learning_rate": {"grid": [1.0e-3, 1.0e-4]}}}'
    settings = ["finetuning.data=functions", "finetuning.sequence_length=64", "finetuning.training.steps=8"]
    settings += ["finetuning.training.batch_size=4", "finetuning.training.micro_batch_size=4"]
    one, several = make_experiment(settings), make_experiment([*settings, space])
    rows = {row.stage: row.seconds for row in plan(several, RATES, Machines(4, 2), 32e6, {}).rows}
    # As many steps of as many sequences of the same length as the pretraining of the tests' experiment.
    assert one.training.steps * one.training.batch_size * one.data.sequence_length == 8 * 4 * 64
    assert rows["finetune"] == rows["pretrain"]
    assert rows["sweep"] == pytest.approx(6 * rows["finetune"])
    said = described(make_experiment([*settings, space, "finetuning.model=somebody/model"]), Asked(device="h100"))
    assert "left out: training somebody/model" in said
    assert "sweep" not in said
