"""MLflow: the only module that imports it, when it is first used, since that takes seconds.

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
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.run_dir import RunDir, flatten

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MAX_PARAM_LENGTH = 6000
"""MLflow refuses longer parameter values."""


PARENT_TAG = "mlflow.parentRunId"
"""MLflow's tag of the run that a run is nested in (`mlflow.utils.mlflow_tags`)."""

SMALL_BYTES = 1 << 20
"""Larger files are not copied to MLflow."""


@lru_cache(maxsize=4)
def _client(uri: str) -> "MlflowClient":
    """One client a process and address: opening SQLite and checking its schema takes a second."""
    from mlflow.tracking import MlflowClient

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
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in flatten(params).items()]
        _client(self.uri).log_batch(self.run_id, params=entries)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log one value of each metric at a step; `pass@1` becomes `pass_at_1`, since MLflow allows no "@"."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(key.replace("@", "_at_"), float(value), now, step) for key, value in metrics.items()]
        _client(self.uri).log_batch(self.run_id, metrics=entries)

    def log_file(self, path: str | Path) -> None:
        """Copy a small local file to the run's artefacts."""
        _client(self.uri).log_artifact(self.run_id, str(path))

    def register_model(self, directory: str | Path, name: str, alias: str) -> str:
        """Copy a model's directory to the run's artefacts, and make it a version with an alias in MLflow's registry.

        Returns:
            The version. Doing the same again makes another version, which the alias then names.
        """
        client = _client(self.uri)
        client.log_artifacts(self.run_id, str(directory), "model")
        if not client.search_registered_models(filter_string=f"name = '{name}'"):
            client.create_registered_model(name)
        source = f"{client.get_run(self.run_id).info.artifact_uri}/model"
        version = client.create_model_version(name, source, self.run_id)
        client.set_registered_model_alias(name, alias, version.version)
        return str(version.version)

    def finish(self, succeeded: bool) -> None:
        """Mark the run as finished or failed."""
        _client(self.uri).set_terminated(self.run_id, "FINISHED" if succeeded else "FAILED")

    def nest(self, parent: str) -> None:
        """Show the run as nested in another one, by its id."""
        _client(self.uri).set_tag(self.run_id, PARENT_TAG, parent)

    def running(self) -> bool:
        """Whether the run has not ended yet."""
        return bool(_client(self.uri).get_run(self.run_id).info.status == "RUNNING")

    def stop(self) -> None:
        """Mark the run as one that was ended early, on purpose."""
        _client(self.uri).set_terminated(self.run_id, "KILLED")


class MetricsThread:
    """Logs metrics of a run in a thread of its own, so that nothing waits for the server.

    Args:
        run: the run.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._queue: Queue[tuple[dict[str, float], int]] = Queue()
        self._failed: Exception | None = None
        Thread(target=self._work, name="metrics", daemon=True).start()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one value of each metric at a step, soon.

        Raises:
            Exception: what an earlier call has failed with.
        """
        self._raise_failure()
        self._queue.put((dict(metrics), step))

    def drain(self) -> None:
        """Wait until all is logged.

        Raises:
            Exception: what a call has failed with.
        """
        self._queue.join()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _work(self) -> None:
        while True:
            metrics, step = self._queue.get()
            try:
                if self._failed is None:
                    self._run.log_metrics(metrics, step)
            except Exception as error:  # noqa: BLE001 - raised again for whoever logs next
                self._failed = error
            finally:
                self._queue.task_done()


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


def open_run(
    uri: str, experiment_name: str, run_name: str, resume: str | None, parent: str | None = None
) -> TrackedRun:
    """Open a run, or go on with the run `resume` if it still exists.

    Args:
        uri: MLflow's address.
        experiment_name: made if need be.
        run_name: the name shown in the list of runs.
        resume: the id of the run that an interrupted stage had opened.
        parent: the id of the run that this one is nested in.
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
            client.update_run(resume, status="RUNNING")
            return TrackedRun(uri, resume)
    nested = {} if parent is None else {PARENT_TAG: parent}
    run = client.create_run(experiment_id, run_name=run_name, tags={"codelm.stage": run_name, **nested})
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


def registered_version(source: str, uri: str | None) -> str:
    """The version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names in MLflow's registry now.

    Args:
        source: as above.
        uri: MLflow's address; None takes MLFLOW_TRACKING_URI.

    Raises:
        UserError: there is no such version, or no address.
    """
    from mlflow.exceptions import MlflowException

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    name, alias, version = _registered_name(source)
    if uri is None:
        raise UserError(f"no address of MLflow for {source}; set tracking.uri or MLFLOW_TRACKING_URI")
    try:
        known = _client(uri).get_model_version_by_alias(name, alias) if alias else None
        return str((known or _client(uri).get_model_version(name, version)).version)
    except MlflowException as error:
        raise UserError(f"MLflow at {shown_uri(uri)} has no {source}: {error.message}") from error


def download_model(source: str, uri: str | None) -> tuple[str, Path]:
    """A registered model's version and a local directory with its files; see `registered_version`."""
    from mlflow.artifacts import download_artifacts

    version = registered_version(source, uri)
    name, _, _ = _registered_name(source)
    address = uri or os.environ["MLFLOW_TRACKING_URI"]
    where = _client(address).get_model_version_download_uri(name, version)
    return version, Path(download_artifacts(artifact_uri=where, tracking_uri=address))


def _registered_name(source: str) -> tuple[str, str, str]:
    """`models:/a@b` -> ("a", "b", ""); `models:/a/3` -> ("a", "", "3")."""
    rest = source.removeprefix("models:/")
    name, _, alias = rest.partition("@")
    if alias:
        return name, alias, ""
    name, _, version = rest.rpartition("/")
    if not name or not version.isdigit():
        raise UserError(f"{source!r} names no registered model; write models:/NAME@ALIAS or models:/NAME/VERSION")
    return name, "", version
