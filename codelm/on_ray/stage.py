"""What a stage is to the pipeline, and how one is run: checked, skipped or run, published, tracked."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import ray

from codelm import __version__
from codelm.config import Experiment
from codelm.console import say
from codelm.errors import UserError
from codelm.run_dir import DIRECTORIES, Manifest, RunDir, flatten
from codelm.tracking import SMALL_BYTES, TrackedRun, open_run, tracking_uri

REPORTS = frozenset({"html", "json", "jsonl", "md", "png"})


@dataclass(frozen=True)
class Outcome:
    """What a stage has to say when it is done.

    Attributes:
        metrics: JSON values that depend only on the inputs and the config.
        facts: JSON values that may differ between equal results, such as seconds.
    """

    metrics: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a stage works with. Paths are in terms of `run_dir.fs`."""

    experiment: Experiment
    run_dir: RunDir
    workspace: str
    """Where the stage writes; becomes its published directory."""
    tracked: TrackedRun

    def input(self, stage: str) -> str:
        """The path of a published stage, by its name."""
        return self.run_dir.path(DIRECTORIES[stage])

    def local_input(self, stage: str) -> Path:
        """A local directory with a published stage, copied from an object store if need be."""
        return self.run_dir.local_copy(DIRECTORIES[stage])


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: as on the command line; also its module in `codelm.on_ray`.
        inputs: the names of the stages that it reads, where the config decides as a function of it.
        config: the part of the experiment that decides the result, as plain values.
        run: does the work in a context's workspace.
        check: raises UserError for what can be known to be wrong before any work, in milliseconds.
        sources: digests of inputs that are not stages, by name.
        continues: an interrupted run's workspace is kept and gone on with, rather than emptied.
        costly: an interrupted run of another config or input is refused, rather than thrown away.
    """

    name: str
    inputs: tuple[str, ...] | Callable[[Experiment], tuple[str, ...]]
    config: Callable[[Experiment], dict[str, Any]]
    run: Callable[[Context], Outcome]
    check: Callable[[Experiment], None] = lambda experiment: None
    sources: Callable[[Experiment], dict[str, str]] = lambda experiment: {}
    continues: bool = False
    costly: bool = False

    def reads(self, experiment: Experiment) -> tuple[str, ...]:
        """The names of the stages that it reads."""
        return self.inputs(experiment) if callable(self.inputs) else self.inputs

    @property
    def directory(self) -> str:
        """Where its result is published in the run directory."""
        return DIRECTORIES[self.name]


def wanted_manifest(stage: Stage, experiment: Experiment, run_dir: RunDir) -> Manifest:
    """What the stage is asked to make, given the inputs that are published now.

    Raises:
        UserError: an input is not published.
    """
    inputs = {name: published(name, run_dir).content for name in stage.reads(experiment)}
    return Manifest(stage.name, stage.config(experiment), {**stage.sources(experiment), **inputs})


def published(name: str, run_dir: RunDir) -> Manifest:
    """The manifest of a finished stage.

    Raises:
        UserError: it is not finished.
    """
    manifest = run_dir.manifest(DIRECTORIES[name])
    if manifest is None:
        raise UserError(f"no {DIRECTORIES[name]} in {run_dir.uri}; run `codelm {name} CONFIG` first")
    return manifest


def run_stage(stage: Stage, experiment: Experiment, run_dir: RunDir) -> Manifest:
    """Run a stage, or skip it if it is published and nothing that it depends on has changed.

    Raises:
        UserError: it was made from another config or input, or an input is missing.
    """
    wanted = wanted_manifest(stage, experiment, run_dir)
    finished = run_dir.manifest(stage.directory)
    if finished is not None:
        refuse_other(stage, finished, wanted, run_dir)
        say(stage.name, f"already in {run_dir.path(stage.directory)}, skipped")
        return finished
    workspace, resume = _claim_workspace(stage, wanted, run_dir)
    tracked = open_run(
        tracking_uri(experiment, run_dir), experiment.tracking.experiment or experiment.name, stage.name, resume
    )
    note = {"fingerprint": wanted.fingerprint, "mlflow_run": tracked.run_id}
    run_dir.write_note(stage.directory, note | {"config": wanted.config, "inputs": wanted.inputs})
    tracked.log_params(wanted.config)
    started = time.monotonic()
    try:
        outcome = stage.run(Context(experiment, run_dir, workspace, tracked))
    except BaseException:
        tracked.finish(succeeded=False)
        raise
    seconds = round(time.monotonic() - started, 1)
    facts = {
        "seconds": seconds,
        "cluster_cpus": ray.cluster_resources().get("CPU", 0.0) if ray.is_initialized() else 0.0,
        "codelm": __version__,
        "mlflow_run": tracked.run_id,
        **outcome.facts,
    }
    # Under names of their own: they would add a point at step 0 to the curve of an equal name.
    tracked.log_metrics({f"result/{key}": value for key, value in _numbers({**outcome.metrics, **facts}).items()})
    _log_small_files(tracked, run_dir, workspace)
    tracked.finish(succeeded=True)
    manifest = run_dir.publish(stage.directory, replace(wanted, metrics=outcome.metrics, facts=facts))
    say(stage.name, f"done in {seconds:.0f} s")
    return manifest


def _claim_workspace(stage: Stage, wanted: Manifest, run_dir: RunDir) -> tuple[str, str | None]:
    """The workspace, and the MLflow run of an interrupted try at the very same work, if there was one."""
    note = run_dir.read_note(stage.directory)
    same = note is not None and note["fingerprint"] == wanted.fingerprint
    if same and stage.continues:
        say(stage.name, "interrupted before, going on where it stopped")
        workspace = run_dir.workspace(stage.directory)
    else:
        if note is not None and stage.costly and run_dir.has_work(stage.directory):
            _refuse_to_start_over(stage, note, wanted, run_dir)
        workspace = run_dir.clear_workspace(stage.directory)
    return workspace, note["mlflow_run"] if note is not None and same else None


def _refuse_to_start_over(stage: Stage, note: dict[str, Any], wanted: Manifest, run_dir: RunDir) -> None:
    """Raise UserError, with the difference to the interrupted run."""
    begun = Manifest(stage.name, note["config"], note["inputs"])
    lines = "\n".join(f"  {line}" for line in begun.differences(wanted))
    raise UserError(
        f"{run_dir.uri} holds an interrupted {stage.name} of another config or input:\n{lines}\n"
        f"Change that back to go on, set run_dir to a new place, or give --redo {stage.name} to start over."
    )


def _log_small_files(tracked: TrackedRun, run_dir: RunDir, workspace: str) -> None:
    """Log reports, figures and pictures: the small files at the top of what the stage made."""
    for info in run_dir.fs.get_file_info(pafs.FileSelector(workspace)):
        if info.type == pafs.FileType.File and info.extension in REPORTS and info.size <= SMALL_BYTES:
            with tempfile.TemporaryDirectory() as directory:
                copy = f"{directory}/{info.base_name}"
                pafs.copy_files(info.path, copy, source_filesystem=run_dir.fs)
                tracked.log_file(copy)


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in flatten(values).items() if isinstance(value, int | float)}


def refuse_other(stage: Stage, finished: Manifest, wanted: Manifest, run_dir: RunDir) -> None:
    """Raise UserError, with the difference, unless the published stage is the one that is wanted."""
    if finished.fingerprint == wanted.fingerprint:
        return
    lines = "\n".join(f"  {line}" for line in finished.differences(wanted))
    raise UserError(
        f"{run_dir.path(stage.directory)} was made by another config:\n{lines}\n"
        f"Set run_dir to a new place, or give --redo {stage.name} to make it and what follows again."
    )
