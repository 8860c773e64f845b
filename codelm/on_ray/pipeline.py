"""All stages in order: checked together first, then each skipped or run."""

import importlib

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray.cluster import check_answers, connected
from codelm.on_ray.stage import DIRECTORIES, Stage, refuse_other, run_stage
from codelm.run_dir import Manifest, RunDir


def stage_named(name: str) -> Stage:
    """Import a stage's module and return its stage. Loading one stage does not load torch for another."""
    stage: Stage = importlib.import_module(f"codelm.on_ray.{name}").STAGE
    return stage


def run(experiment: Experiment, names: list[str] | None = None, redo: str | None = None) -> dict[str, Manifest]:
    """Run stages, skipping what is published already.

    Args:
        experiment: the whole config.
        names: the stages to run, in order; None for all.
        redo: a stage to make again, with all that follow it, even though they are published.

    Returns:
        The manifest of each stage by its name.

    Raises:
        UserError: something is wrong that the user can fix; nothing has been started or written then.
    """
    stages = [stage_named(name) for name in names or DIRECTORIES]
    run_dir = RunDir(experiment.run_dir)
    for stage in stages:
        stage.check(experiment)
    if experiment.cluster.address is not None:
        check_answers(experiment.cluster.address)
    remade = _from(redo) if redo is not None else []
    _check_published([stage for stage in stages if stage.name not in remade], experiment, run_dir)
    run_dir.check_writable()
    for name in remade:
        run_dir.withdraw(stage_named(name).directory)
    with connected(experiment.cluster):
        return {stage.name: run_stage(stage, experiment, run_dir) for stage in stages}


def _from(name: str) -> list[str]:
    names = list(DIRECTORIES)
    if name not in names:
        raise UserError(f"--redo {name!r} is not a stage; the stages are {', '.join(names)}")
    return names[names.index(name) :]


def _check_published(stages: list[Stage], experiment: Experiment, run_dir: RunDir) -> None:
    """Refuse a run directory that another config made, before any stage starts."""
    for stage in stages:
        published = run_dir.manifest(stage.directory)
        if published is not None:
            inputs = {**published.inputs, **stage.sources(experiment)}
            wanted = Manifest(stage.name, stage.config(experiment), inputs)
            refuse_other(stage, published, wanted, run_dir)
