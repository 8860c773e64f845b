"""MLflow: the only module that imports it.

The driver opens a run and passes its id on, so that a restarted stage continues the same run and a worker
on another machine can log to it.
"""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunStatus
from mlflow.tracking import MlflowClient

from codelm.config import Experiment
from codelm.run_dir import RunDir, flatten

MAX_PARAM_LENGTH = 6000
"""MLflow refuses longer parameter values."""


SMALL_BYTES = 1 << 20
"""Larger files are not copied to MLflow."""


@lru_cache(maxsize=4)
def _client(uri: str) -> MlflowClient:
    """One client a process and address: opening SQLite and checking its schema takes a second."""
    for noisy in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run, named by address and id: it can be pickled to workers."""

    uri: str
    run_id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, nested ones under dotted names; logging the same again changes nothing."""
        entries = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in flatten(params).items()]
        _client(self.uri).log_batch(self.run_id, params=entries)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log one value of each metric at a step; `pass@1` becomes `pass_at_1`, since MLflow allows no "@"."""
        now = int(time.time() * 1000)
        entries = [Metric(key.replace("@", "_at_"), float(value), now, step) for key, value in metrics.items()]
        _client(self.uri).log_batch(self.run_id, metrics=entries)

    def log_file(self, path: str | Path) -> None:
        """Copy a small local file to the run's artefacts."""
        _client(self.uri).log_artifact(self.run_id, str(path))

    def finish(self, succeeded: bool) -> None:
        """Mark the run as finished or failed."""
        status = RunStatus.FINISHED if succeeded else RunStatus.FAILED
        _client(self.uri).set_terminated(self.run_id, RunStatus.to_string(status))


def tracking_uri(experiment: Experiment, run_dir: RunDir) -> str:
    """The MLflow address: the config's, else MLFLOW_TRACKING_URI, else an SQLite file.

    The file is `mlflow.db` in the run directory, or in the current directory where the run directory is
    on an object store, which cannot hold a database.
    """
    stated = stated_uri(experiment)
    if stated:
        return stated
    directory = Path(run_dir.root) if run_dir.is_local else Path.cwd()
    return f"sqlite:///{directory}/mlflow.db"


def stated_uri(experiment: Experiment) -> str | None:
    """The MLflow address that someone has chosen, in the config or in the environment."""
    return experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")


def shown_uri(uri: str) -> str:
    """An address without the password that it may carry: `http://me:***@host` of `http://me:secret@host`."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", uri)


def open_run(uri: str, experiment_name: str, run_name: str, resume: str | None) -> TrackedRun:
    """Open a run, or go on with the run `resume` if it still exists.

    Args:
        uri: MLflow's address.
        experiment_name: made if need be.
        run_name: the name shown in the list of runs.
        resume: the id of the run that an interrupted stage had opened.
    """
    client = _client(uri)
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is not None:
        experiment_id = experiment.experiment_id
    else:
        artefacts = (
            f"file://{Path(uri.removeprefix('sqlite:///')).parent}/mlartifacts"
            if uri.startswith("sqlite:///")
            else None
        )
        experiment_id = client.create_experiment(experiment_name, artifact_location=artefacts)
    if resume is not None:
        known = client.search_runs([experiment_id], filter_string=f"attributes.run_id = '{resume}'")
        if known:
            client.update_run(resume, status=RunStatus.to_string(RunStatus.RUNNING))
            return TrackedRun(uri, resume)
    run = client.create_run(experiment_id, run_name=run_name, tags={"codelm.stage": run_name})
    return TrackedRun(uri, run.info.run_id)


def log_once(uri: str, experiment: str, name: str, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
    """One run with the numbers among `metrics`, under dotted names, and small files; for what is no stage.

    Args:
        uri: MLflow's address.
        experiment: made if need be.
        name: the run's.
        metrics: nested JSON values.
        files: to copy.
    """
    run = open_run(uri, experiment, name, None)
    flat = flatten(metrics)
    run.log_metrics({key: value for key, value in flat.items() if isinstance(value, int | float)})
    for path in files:
        if path.stat().st_size <= SMALL_BYTES:
            run.log_file(path)
    run.finish(succeeded=True)
