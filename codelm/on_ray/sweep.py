"""Stage `sweep`: a search over the config with Ray Tune. Each trial is a fine-tuning or a pretraining.

The trials take no CPU themselves; their workers do, by Ray Train. A driver that is killed and started again finds
what is finished, and goes on with the rest.
"""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import ray

from codelm.config import Experiment, to_yaml
from codelm.config.sweep import Sweep
from codelm.console import say
from codelm.errors import UserError
from codelm.on_ray import examples, finetune, pretrain
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.tuning.space import check_space, overridden, points, target_of
from codelm.tuning.trials import Trial, best_of, draw, table, totals

NAME = "sweep"
TUNE = "tune"
SNAPSHOT_SECONDS = "2"
"""Between two snapshots of Tune's state; a trial that ended since the last one is known by its own record."""


def settings(experiment: Experiment) -> Sweep:
    """The section `sweep`.

    Raises:
        UserError: the config has none.
    """
    if experiment.sweep is None:
        raise UserError("the config has no section `sweep`; sweep.space is what it needs")
    return experiment.sweep


def check(experiment: Experiment) -> None:
    """Refuse a space that is wrong, and trials that this machine cannot run."""
    section = settings(experiment)
    check_space(experiment, section)
    (finetune.check if target_of(experiment, section) == "finetune" else pretrain.check)(experiment)


def inputs(experiment: Experiment) -> tuple[str, ...]:
    """The stages that a trial reads."""
    if target_of(experiment, settings(experiment)) == "finetune":
        return finetune.trained_inputs(experiment)
    return ("pack", "tokenizer")


def workers_of(experiment: Experiment, target: str) -> int:
    """Workers of one trial."""
    return (examples.settings(experiment).training if target == "finetune" else experiment.training).workers


def concurrency(experiment: Experiment, section: Sweep, target: str) -> int:
    """How many trials run at the same time.

    Raises:
        UserError: the cluster has too few workers for one.
    """
    resource = pretrain.ACCELERATORS.get(pretrain.resolve_accelerator(experiment), "CPU")
    has, wants = int(ray.cluster_resources().get(resource, 0)), workers_of(experiment, target)
    if has < wants:
        key = "finetuning.training.workers" if target == "finetune" else "training.workers"
        raise UserError(f"{key}: {wants} for each trial, but the cluster has {has} {resource}s; lower it")
    return min(section.concurrency or has, has // wants)


def run(context: Context) -> Outcome:
    """Run the trials, and write the table, the pictures, the best config and the best model."""
    from codelm.on_ray.sweep_trial import Order, steps_of

    experiment, section, fs = context.experiment, settings(context.experiment), context.run_dir.fs
    target = target_of(experiment, section)
    order = Order(
        experiment=_for_trials(experiment),
        run_dir=context.run_dir,
        workspace=context.workspace,
        target=target,
        metric=section.metric,
        shares_checkpoints=section.scheduler == "pbt",
        tracked=context.tracked,
        mlflow_experiment=experiment.tracking.experiment or experiment.name,
    )
    at_once = concurrency(experiment, section, target)
    steps_of(order.experiment, order)  # refuses a recipe that no trial could follow
    say(NAME, f"{points(section)} trials of {target}, {at_once} at a time, by {section.metric}")
    trials = _searched(order, section, at_once)
    _write(context, "trials.jsonl", "".join(trial.line() for trial in trials))
    _write(context, "trials.md", table(trials, section.metric))
    for line in table(trials, section.metric).splitlines():
        say(NAME, line)
    logarithmic = {key: dimension.kind == "loguniform" for key, dimension in section.space.items()}
    with fs.open_output_stream(f"{context.workspace}/sweep.png") as out:
        draw(trials, section.metric, logarithmic, out)
    best = best_of(trials, section.metric)
    if best is None:
        errors = {trial.error for trial in trials if trial.error}
        raise UserError(
            f"sweep.metric: none of {len(trials)} trials reported {section.metric}"
            f"{': ' + sorted(errors)[0] if errors else ' (all were stopped early)'}"
        )
    version = _keep_best(context, order, best)
    worst = [trial.score for trial in trials if trial.state == "finished" and trial.score is not None]
    done = totals(trials)
    facts = {"concurrency": at_once, "registered_version": version, "best_mlflow_run": best.mlflow_run}
    metrics = {
        "metric": section.metric,
        "trials": len(trials),
        "states": done.states,
        "steps": done.steps,
        "full_steps": done.full_steps,
        "share_of_steps": done.share,
        "best": best.score,
        "worst": max(worst) if section.metric.endswith("loss") else min(worst),
        "best_trial": best.name,
        "best_overrides": best.overrides,
    }
    for rest in ("trials", "adopted"):
        if fs.get_file_info(f"{context.workspace}/{rest}").type != pafs.FileType.NotFound:
            fs.delete_dir(f"{context.workspace}/{rest}")
    return Outcome(metrics, facts)


def _for_trials(experiment: Experiment) -> Experiment:
    """The experiment with a checkpoint at each validation, so that a trial that is stopped there has it."""
    every = {"checkpoint_every": experiment.training.validate_every}
    update: dict[str, Any] = {"training": experiment.training.model_copy(update=every)}
    if (section := experiment.finetuning) is not None:
        own = {"checkpoint_every": section.training.validate_every}
        update["finetuning"] = section.model_copy(update={"training": section.training.model_copy(update=own)})
    return experiment.model_copy(update=update)


def _searched(order: Any, section: Sweep, at_once: int) -> list[Trial]:
    """Run the trials that are not finished, and return what is known of all."""
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner

    from codelm.on_ray.sweep_trial import trial

    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = SNAPSHOT_SECONDS
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    fs = order.run_dir.fs
    root = f"{order.workspace}/{TUNE}"
    # Tune refuses a request of nothing, and a share of a CPU would keep it from the workers.
    trainable = tune.with_resources(tune.with_parameters(trial, order=order), {"memory": 1024})
    space = {key: _domain(dimension) for key, dimension in section.space.items()}
    if Tuner.can_restore(root, storage_filesystem=fs):
        say(NAME, "going on with the sweep that was interrupted")
        tuner = Tuner.restore(root, trainable, resume_unfinished=True, param_space=space, storage_filesystem=fs)
    else:
        tuner = Tuner(
            trainable,
            param_space=space,
            tune_config=TuneConfig(
                num_samples=section.trials,
                search_alg=_search(section, at_once, order.experiment.seed),
                scheduler=_scheduler(section, space, order.experiment.seed),
                reuse_actors=False,
            ),
            run_config=RunConfig(
                name=TUNE,
                storage_path=order.workspace,
                storage_filesystem=fs,
                failure_config=FailureConfig(max_failures=section.retries),
                callbacks=[_narrator()],
                verbose=0,
            ),
        )
    grid = tuner.fit()
    found = [_trial(grid[place], order) for place in range(len(grid))]
    return sorted(found, key=lambda trial: trial.name)


def _domain(dimension: Any) -> Any:
    from ray import tune

    if dimension.kind == "choice":
        return tune.choice(list(dimension.choice))
    if dimension.kind == "grid":
        return tune.grid_search(list(dimension.grid))
    low, high = dimension.values
    return tune.uniform(low, high) if dimension.kind == "uniform" else tune.loguniform(low, high)


def _search(section: Sweep, at_once: int, seed: int) -> Any:
    """How values are drawn; it also bounds the trials at a time, which `TuneConfig` does for some searches only."""
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.optuna import OptunaSearch

    if section.search == "random":
        return BasicVariantGenerator(max_concurrent=at_once, random_state=seed)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    mode = "min" if section.metric.endswith("loss") else "max"
    return ConcurrencyLimiter(OptunaSearch(metric=section.metric, mode=mode, seed=seed), max_concurrent=at_once)


def _scheduler(section: Sweep, space: dict[str, Any], seed: int) -> Any:
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining

    judged: dict[str, Any] = {"time_attr": "percent", "metric": "validation_loss", "mode": "min"}
    first: Any = 100 * section.grace_share  # in per cent of a trial's own steps: a float, which its annotation denies
    if section.scheduler == "asha":
        return AsyncHyperBandScheduler(
            **judged,
            max_t=100,
            grace_period=first,
            reduction_factor=section.reduction,
            stop_last_trials=False,  # they end by themselves, with all that comes after the last step
        )
    if section.scheduler == "pbt":
        return PopulationBasedTraining(
            **judged,
            perturbation_interval=first,
            hyperparam_mutations=space,
            synch=False,
        )
    return FIFOScheduler()


def _narrator() -> Any:
    from ray.tune import Callback

    class Narrator(Callback):
        """Tells on the terminal which trials begin and end."""

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            say(NAME, f"trial {trial.trial_id}: {_shown(trial.config)}")

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            last = trial.last_result or {}
            say(
                NAME,
                f"trial {trial.trial_id} ended at {last.get('percent', 0):.0f} % of its steps, "
                f"validation loss {last.get('validation_loss', float('nan')):.4f}",
            )

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            say(NAME, f"trial {trial.trial_id} failed")

    return Narrator()


def _shown(config: dict[str, Any]) -> str:
    return ", ".join(
        f"{key.rpartition('.')[2]}={value:.4g}" if isinstance(value, float) else f"{key.rpartition('.')[2]}={value}"
        for key, value in config.items()
    )


def _trial(result: Any, order: Any) -> Trial:
    """What is known of a trial: by its own record if it ended by itself, else by what Tune kept of its reports."""
    from codelm.on_ray.sweep_trial import NOTE, RECORD, read_json, steps_of

    fs, metrics = order.run_dir.fs, result.metrics or {}
    name = metrics.get("trial_id") or Path(result.path).name
    directory = order.directory(name)
    record, note = read_json(fs, f"{directory}/{RECORD}"), read_json(fs, f"{directory}/{NOTE}") or {}
    config = dict(result.config or {})
    steps = steps_of(overridden(order.experiment, config), order)
    frame = result.metrics_dataframe
    curve: dict[int, float] = {}
    if frame is not None and "step" in frame:
        for step, loss, error in zip(
            frame["step"], frame["validation_loss"], frame.get("error", [None] * len(frame)), strict=True
        ):
            if not isinstance(error, str):
                curve[int(step)] = float(loss)
    base: dict[str, Any] = {"name": name, "overrides": config, "steps": steps, "mlflow_run": note.get("mlflow_run")}
    ordered = tuple(sorted(curve.items()))
    reached = ordered[-1][0] if ordered else 0
    if record is not None:
        reported = record["reported"]
        if "error" in reported:
            return Trial(**base, state="failed", step=reached, curve=ordered, error=reported["error"])
        return Trial(**base, state="finished", step=steps, curve=ordered, score=reported.get(order.metric))
    if result.error is not None:
        return Trial(**base, state="failed", step=reached, curve=ordered, error=str(result.error).splitlines()[-1])
    score = ordered[-1][1] if ordered and order.metric == "validation_loss" else None
    return Trial(**base, state="stopped", step=reached, curve=ordered, score=score)


def _keep_best(context: Context, order: Any, best: Trial) -> str:
    """Write the best config and model, and register the model; its version in the registry."""
    from codelm.on_ray.sweep_trial import write_model

    experiment, fs = context.experiment, context.run_dir.fs
    chosen = overridden(experiment, best.overrides).model_copy(update={"sweep": None})
    _write(context, "best.yaml", to_yaml(chosen))
    _write(context, "best.json", json.dumps({"trial": best.name, "overrides": best.overrides, "score": best.score}))
    precision = _precision(chosen, order.target)
    model = f"{context.workspace}/best"
    fs.create_dir(model, recursive=True)
    write_model(overridden(order.experiment, best.overrides), order, order.directory(best.name), model, precision)
    with tempfile.TemporaryDirectory(prefix="codelm-best-") as name:
        pafs.copy_files(model, name, source_filesystem=fs)
        registered = context.tracked.register_model(name, experiment.name, settings(experiment).alias)
    say(NAME, f"best: {_shown(best.overrides)}; registered as version {registered} of {experiment.name!r} in MLflow")
    return registered


def _precision(experiment: Experiment, target: str) -> str:
    from codelm.training.precision import resolve_precision

    training = examples.settings(experiment).training if target == "finetune" else experiment.training
    accelerator = pretrain.resolve_accelerator(experiment)
    return resolve_precision(training.precision, {"gpu": "cuda"}.get(accelerator, accelerator))


def _write(context: Context, name: str, text: str) -> None:
    with context.run_dir.fs.open_output_stream(f"{context.workspace}/{name}") as out:
        out.write(text.encode())


STAGE = Stage(
    name=NAME,
    inputs=inputs,
    config=lambda experiment: {
        "sweep": settings(experiment).model_dump(mode="json", exclude={"concurrency", "retries"}),
        **(
            finetune.deciding(experiment)
            if target_of(experiment, settings(experiment)) == "finetune"
            else pretrain.STAGE.config(experiment)
        ),
    },
    run=run,
    check=check,
    continues=True,
)
