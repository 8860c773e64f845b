"""All stages in order: checked together first, then each skipped or run."""

import importlib

from ray._private.worker import get_dashboard_url

from codelm.config import Experiment
from codelm.console import say
from codelm.errors import UserError
from codelm.on_ray.circumstances import told
from codelm.on_ray.cluster import check_answers, connected
from codelm.on_ray.metrics import export_seconds, progress_exported, stage_exported
from codelm.on_ray.nodes import check_nodes
from codelm.on_ray.stage import Stage, published, refuse_other, run_stage
from codelm.run_dir import DIRECTORIES, Manifest, RunDir
from codelm.tracking import shown_uri, tracking_uri


def stage_named(name: str) -> Stage:
    """Import a stage's module and return its stage. Loading one stage does not load torch for another."""
    stage: Stage = importlib.import_module(f"codelm.on_ray.{name}").STAGE
    return stage


def check(experiment: Experiment, names: list[str] | None = None, redo: str | None = None) -> None:
    """Find in seconds what would stop the stages later: sources, ports, addresses, an alien run directory.

    Args:
        experiment: the whole config.
        names: the stages to check; None for all.
        redo: a stage that will be made again, with what follows it: what is published of those does not count.

    Raises:
        UserError: something is wrong; nothing has been started, and nothing but a probe file written.
    """
    stages = [stage_named(name) for name in names or wanted(experiment)]
    run_dir = RunDir(experiment.run_dir)
    run_dir.check_answers()
    for stage in stages:
        stage.check(experiment)
    if experiment.cluster.address is not None:
        check_answers(experiment.cluster.address)
    to_be_made = {stage.name for stage in stages}
    remade = following(redo) if redo is not None else []
    for stage in stages:
        for name in stage.reads(experiment):
            if name not in to_be_made:
                published(name, run_dir)
        finished = run_dir.manifest(stage.directory)
        if finished is not None and stage.name not in remade:
            inputs = {**finished.inputs, **stage.sources(experiment)}
            refuse_other(stage, finished, Manifest(stage.name, stage.config(experiment), inputs), run_dir)
    run_dir.check_writable()


def run(experiment: Experiment, names: list[str] | None = None, redo: str | None = None) -> dict[str, Manifest]:
    """Check everything, then run stages in order, skipping what is published already.

    Args:
        experiment: the whole config.
        names: the stages to run, in order; None for all.
        redo: a stage to make again, with all that follow it, even though they are published.

    Returns:
        The manifest of each stage by its name.

    Raises:
        UserError: as `check`, and where a stage's input is not published.
    """
    check(experiment, names, redo)
    run_dir = RunDir(experiment.run_dir)
    with run_dir.lock():
        for name in following(redo) if redo is not None else []:
            run_dir.withdraw(DIRECTORIES[name])
        with connected(experiment.cluster):
            check_nodes(experiment, run_dir)
            say_where(experiment, run_dir)
            with progress_exported(experiment.name):
                return {name: _run_stage(name, experiment, run_dir) for name in names or wanted(experiment)}


def _run_stage(name: str, experiment: Experiment, run_dir: RunDir) -> Manifest:
    with stage_exported(experiment.name, name), told(name):
        manifest = run_stage(stage_named(name), experiment, run_dir)
    export_seconds(experiment.name, name, manifest.facts["seconds"])
    return manifest


def wanted(experiment: Experiment) -> list[str]:
    """The stages of the whole pipeline, in order: fine-tuning where the config has it, and without what leads to a
    model of this run where another one is fine-tuned. A sweep is a command of its own.
    """
    finetuning = experiment.finetuning
    if finetuning is None:
        return [name for name in DIRECTORIES if name not in ("examples", "finetune", "sweep")]
    last = [name for name in DIRECTORIES if name != "sweep"]
    if finetuning.model is None:
        return last
    return [*(["corpus"] if finetuning.data == "functions" else []), *last[last.index("examples") :]]


def say_where(experiment: Experiment, run_dir: RunDir) -> None:
    """Print where to look at what runs: Ray's dashboard and MLflow."""
    say("ray", f"dashboard at http://{get_dashboard_url()}")
    say("mlflow", shown_uri(tracking_uri(experiment, run_dir)))


def with_examples(name: str, experiment: Experiment) -> list[str]:
    """A stage to run, after the examples where it is trained on them."""
    trained = name == "finetune" or (name == "sweep" and experiment.finetuning is not None)
    return ["examples", name] if trained else [name]


def following(name: str) -> list[str]:
    """A stage and all that come after it.

    Raises:
        UserError: there is no such stage.
    """
    names = list(DIRECTORIES)
    if name not in names:
        raise UserError(f"{name!r} is not a stage; the stages are {', '.join(names)}")
    return names[names.index(name) :]
