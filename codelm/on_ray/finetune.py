"""Stage `finetune`: train a pretrained model on prompts and solutions, by the loop and the workers of pretraining."""

import math
from typing import Any

from codelm.config import Experiment, Training
from codelm.console import say
from codelm.errors import UserError
from codelm.on_ray import pretrain
from codelm.on_ray.assignment import BEST
from codelm.on_ray.devices import check_resources
from codelm.on_ray.examples import base_model, settings
from codelm.on_ray.examples import check as check_examples
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.run_dir import RunDir, fetched, staged

NAME = "finetune"
EXAMPLES = "codelm.on_ray.finetune_worker:examples"


def run(context: Context) -> Outcome:
    """Train, and export the weights with the lowest validation loss."""
    experiment, run_dir, fs = context.experiment, context.run_dir, context.run_dir.fs
    told, recipe = train(experiment, run_dir, context.workspace, context.tracked)
    fitted = experiment.model_copy(update={"training": recipe})
    outcome = pretrain.summed_up(fitted, fs, context.workspace, told)
    metrics = {
        **outcome.metrics,
        "final_validation_loss": outcome.metrics["validation_loss"],
        "validation_loss": told["best"]["validation_loss"],
        "validation_perplexity": math.exp(told["best"]["validation_loss"]),
        "best_step": told["best"]["step"],
    }
    export_model(experiment, run_dir, context.workspace, context.workspace, told["facts"]["precision"])
    fs.delete_dir(f"{context.workspace}/{BEST}")
    _write_card(context, metrics)
    return Outcome(metrics, outcome.facts)


def train(
    experiment: Experiment, run_dir: RunDir, workspace: str, tracked: Any, **options: Any
) -> tuple[dict[str, Any], Training]:
    """Train in a workspace, where the best weights are afterwards.

    Args:
        experiment: the whole config.
        run_dir: with the examples, published.
        workspace: where the weights go, in terms of `run_dir.fs`.
        tracked: gets the curve.
        options: those of `codelm.on_ray.pretrain.fit`.

    Returns:
        What rank 0 told, and the recipe with the steps that the epochs come to.
    """
    recipe = recipe_of(experiment, sequences(run_dir))
    fitted = experiment.model_copy(update={"training": recipe})
    told = pretrain.fit(fitted, run_dir, workspace, EXAMPLES, tracked, stage=NAME, keep_best=True, **options)
    if told["best"]["step"] == 0:
        say(NAME, "no step had a lower validation loss than the model it began with: that one is the result")
    return told, recipe


def sequences(run_dir: RunDir) -> int:
    """Training sequences of the published examples."""
    manifest = run_dir.manifest("examples")
    assert manifest is not None, "an input of the stage"
    return int(manifest.metrics["train"]["sequences"])


def recipe_of(experiment: Experiment, training_sequences: int) -> Training:
    """The recipe, with the steps that the epochs come to.

    Raises:
        UserError: the warm-up is as long as all of it.
    """
    section = settings(experiment)
    training = section.training
    if section.epochs is not None:
        steps = max(1, math.ceil(section.epochs * training_sequences / training.batch_size))
        training = training.model_copy(update={"steps": steps})
        say(NAME, f"{section.epochs:g} epochs of {training_sequences:,} sequences are {steps:,} steps")
    if training.warmup_steps >= training.steps:
        raise UserError(
            f"finetuning.training.warmup_steps: {training.warmup_steps} leaves nothing of the {training.steps} steps "
            f"that {training_sequences:,} training sequences make; lower it, or raise finetuning.epochs"
        )
    return training


def export_model(experiment: Experiment, run_dir: RunDir, workspace: str, target: str, precision: str) -> None:
    """Write the model of the best weights of a workspace as a Hugging Face directory.

    Args:
        experiment: the whole config.
        run_dir: the run's, with the model that was fine-tuned where that is its own.
        workspace: where the training was, in terms of `run_dir.fs`.
        target: where to write, in terms of `run_dir.fs`.
        precision: `bf16` or `fp32`.
    """
    from codelm.finetuning import base

    with fetched(run_dir.fs, f"{workspace}/{BEST}") as trained, staged(run_dir.fs, target) as model:
        base.export(base_model(experiment, run_dir), trained, settings(experiment).lora, precision, model)


def _write_card(context: Context, metrics: dict[str, Any]) -> None:
    from codelm.finetuning.card import card

    section, made = settings(context.experiment), context.run_dir.manifest("examples")
    assert made is not None, "an input of the stage"
    source, shown = section.model or "the model of this run", section.model_dump(mode="json")
    with context.run_dir.fs.open_output_stream(f"{context.workspace}/README.md") as out:
        out.write(card(context.experiment.name, source, shown, metrics, made.metrics).encode())


def check(experiment: Experiment) -> None:
    """Refuse what the examples' stage does, and a training that this machine cannot do."""
    check_examples(experiment)
    section = settings(experiment)
    fitted = experiment.model_copy(update={"training": section.training})
    check_resources(fitted, "finetuning.training")


def trained_inputs(experiment: Experiment) -> tuple[str, ...]:
    """The examples, and the model where it is this run's own."""
    return ("examples", *(["export"] if settings(experiment).model is None else []))


def deciding(experiment: Experiment) -> dict[str, Any]:
    """The part of the config that the result of a fine-tuning depends on, beside the examples."""
    section = settings(experiment)
    return {
        "seed": experiment.seed,
        "accelerator": experiment.accelerator,
        "finetuning": {
            **section.model_dump(mode="json", include={"model", "epochs", "lora"}),
            "training": section.training.model_dump(mode="json", exclude=set(pretrain.NOT_PART_OF_THE_RESULT)),
        },
    }


STAGE = Stage(
    name=NAME,
    inputs=trained_inputs,
    config=deciding,
    run=run,
    check=check,
    continues=True,
    costly=True,
)
