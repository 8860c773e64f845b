"""Stage `sweep`: a search over the config with Ray Tune. Each trial is a fine-tuning or a pretraining.

The trials take no CPU themselves; their workers do, by Ray Train. A driver that is killed and started again finds
what is finished, and goes on with the rest.
"""

import json
from functools import partial
from typing import Any

import pyarrow.fs as pafs

from codelm.config import Experiment, to_yaml
from codelm.config.sweep import Sweep
from codelm.console import say
from codelm.errors import UserError
from codelm.on_ray import evaluate, finetune, pretrain
from codelm.on_ray.devices import available, resolve_accelerator
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.sweep_order import TUNE, Order, steps_of
from codelm.run_dir import fetched
from codelm.tuning.space import (
    SECTIONS,
    check_space,
    overridden,
    points,
    recipe_of,
    stopping_problems,
    target_of,
)
from codelm.tuning.trials import Trial, best_of, draw, table, totals

NAME = "sweep"
LOSS = "validation_loss"


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
    check_space(experiment, section, pretrain.NOT_PART_OF_THE_RESULT)
    (finetune.check if target_of(experiment, section) == "finetune" else pretrain.check)(experiment)
    if section.metric != LOSS:
        evaluate.check(experiment)


def inputs(experiment: Experiment) -> tuple[str, ...]:
    """The stages that a trial reads."""
    if target_of(experiment, settings(experiment)) == "finetune":
        return finetune.trained_inputs(experiment)
    return pretrain.STAGE.reads(experiment)


def concurrency(experiment: Experiment, section: Sweep, target: str) -> int:
    """How many trials run at the same time.

    Raises:
        UserError: the cluster has too few workers for one.
    """
    resource, has = available(resolve_accelerator(experiment))
    wants = recipe_of(experiment, target).workers
    if has < wants:
        raise UserError(
            f"{SECTIONS[target]}.workers: {wants} for each trial, but the cluster has {has} {resource}s; lower it"
        )
    return min(section.concurrency or has, has // wants)


def run(context: Context) -> Outcome:
    """Run the trials, and write the table, the pictures, the best config and the best model."""
    # They load torch and Ray Tune, which takes seconds that the check of the other stages need not wait for.
    from codelm.on_ray.sweep_search import search

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
    recipe = recipe_of(experiment, target)
    steps = steps_of(order.experiment, order)  # refuses a recipe that no trial could follow
    if problems := stopping_problems(section, target, recipe.model_copy(update={"steps": steps})):
        raise UserError("\n".join(problems))
    say(NAME, f"{points(section)} trials of {target}, {at_once} at a time, by {section.metric}")
    trials = search(order, section, at_once, partial(say, NAME))
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


def _keep_best(context: Context, order: Order, best: Trial) -> str:
    """Write the best config and model, and register the model; its version in the registry."""
    from codelm.on_ray.sweep_search import shown
    from codelm.on_ray.sweep_trial import write_model

    experiment, fs = context.experiment, context.run_dir.fs
    chosen = overridden(experiment, best.overrides).model_copy(update={"sweep": None})
    _write(context, "best.yaml", to_yaml(chosen))
    _write(context, "best.json", json.dumps({"trial": best.name, "overrides": best.overrides, "score": best.score}))
    precision = _precision(chosen, order.target)
    model = f"{context.workspace}/best"
    write_model(overridden(order.experiment, best.overrides), order, order.directory(best.name), model, precision)
    with fetched(fs, model) as directory:
        registered = context.tracked.register_model(directory, experiment.name, settings(experiment).alias)
    say(NAME, f"best: {shown(best.overrides)}; registered as version {registered} of {experiment.name!r} in MLflow")
    if order.shares_checkpoints:
        say(NAME, "pbt changed keys on the way: best.yaml has the last values, and alone they make another model")
    say(NAME, f"curves: tensorboard --logdir {context.run_dir.path(NAME, TUNE)}")
    return registered


def _precision(experiment: Experiment, target: str) -> str:
    from codelm.training.precision import resolve_precision

    training = recipe_of(experiment, target)
    accelerator = resolve_accelerator(experiment)
    return resolve_precision(training.precision, {"gpu": "cuda"}.get(accelerator, accelerator))


def _write(context: Context, name: str, text: str) -> None:
    with context.run_dir.fs.open_output_stream(f"{context.workspace}/{name}") as out:
        out.write(text.encode())


def deciding(experiment: Experiment) -> dict[str, Any]:
    """The part of the config that the result depends on: the search, what a trial is, and what it is judged by."""
    section = settings(experiment)
    trial = finetune.deciding if target_of(experiment, section) == "finetune" else pretrain.STAGE.config
    return {
        "sweep": section.model_dump(mode="json", exclude={"concurrency", "retries"}),
        **trial(experiment),
        **(evaluate.STAGE.config(experiment) if section.metric != LOSS else {}),
    }


STAGE = Stage(
    name=NAME,
    inputs=inputs,
    config=deciding,
    run=run,
    check=check,
    continues=True,
)
