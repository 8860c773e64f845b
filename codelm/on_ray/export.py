"""Stage `export`: the trained model as a plain Hugging Face directory with a model card."""

from pathlib import Path
from shutil import copyfile

from codelm.console import say
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.run_dir import DIRECTORIES, staged

CURVE = "loss_curve.png"
DESCRIBED = ("corpus", "tokenizer", "pack", "pretrain")
"""The stages that the model card tells of."""


def run(context: Context) -> Outcome:
    """Write the directory."""
    # They load torch, which takes seconds that the check of the other stages need not wait for.
    from codelm.modeling.export import export, model_card

    manifests = {name: context.run_dir.manifest(DIRECTORIES[name]) for name in DESCRIBED}
    made = {
        name: {"config": manifest.config, "metrics": manifest.metrics}
        for name, manifest in manifests.items()
        if manifest is not None
    }
    trained = manifests["pretrain"]
    assert trained is not None, "an input of the stage"
    parameters = trained.metrics["parameters"]
    pretrain = context.local_input("pretrain")
    curve = CURVE if (pretrain / CURVE).is_file() else None
    with staged(context.run_dir.fs, context.workspace) as directory:
        export(pretrain, context.local_input("tokenizer"), trained.facts["precision"], directory)
        (directory / "README.md").write_text(model_card(context.experiment.name, made, parameters, curve))
        if curve is not None:
            copyfile(pretrain / curve, directory / curve)
        size = (directory / "model.safetensors").stat().st_size
        version = _register(context, directory)
    return Outcome({"parameters": parameters, "bytes": size}, {"registered": version})


def _register(context: Context, directory: Path) -> str:
    """Make the model a version in MLflow's registry; returns its address there."""
    experiment = context.experiment
    name, alias = experiment.tracking.registered_model or experiment.name, experiment.tracking.alias
    version = context.tracked.register_model(directory, name, alias)
    say("export", f"version {version} of {name} in MLflow's registry: models:/{name}@{alias}")
    return f"models:/{name}/{version}"


STAGE = Stage(
    name="export",
    inputs=("pretrain", "tokenizer"),
    config=lambda experiment: {"name": experiment.name},
    run=run,
)
