"""The checks before a submission, in under two seconds: all that can be known here, each mistake one sentence."""

import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from codelm import config
from codelm.config import Experiment
from codelm.corpus.secrets import key_spans
from codelm.errors import UserError
from codelm.run_dir import DIRECTORIES
from codelm.submission.demands import check_demands, demands
from codelm.submission.server import ClusterFacts, cluster_facts
from codelm.submission.upload import Upload, planned_upload

PIPELINE = "pipeline"
PACKAGES = ("codelm", "ray_jobs", "serve")
"""What a job cannot run without, from the working directory."""

SCHEMES = ("s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss", "file")
"""What pyarrow's file systems read. Opening one here would ask the storage, which this machine may not even reach."""
SHOWN = ("CPU", "GPU", "TPU", "sandbox")


@dataclass(frozen=True)
class Asked:
    """What was typed after `codelm submit`.

    Attributes:
        stage: its name, or `pipeline` for all.
        config: the YAML file.
        overrides: `key=value`.
        address: of the dashboard, such as http://head:8265.
        token: for a cluster that asks for one.
        working_dir: what is uploaded; the job runs there.
    """

    stage: str
    config: Path
    overrides: tuple[str, ...]
    address: str
    token: str | None
    working_dir: Path


@dataclass(frozen=True)
class Ready:
    """A submission that has passed.

    Attributes:
        experiment: the whole config.
        entrypoint: the job's shell command.
        upload: what will travel.
        cluster: where to.
        notes: what does not stop the job but should be known, a line each.
    """

    experiment: Experiment
    entrypoint: str
    upload: Upload
    cluster: ClusterFacts
    notes: tuple[str, ...]

    def describe(self) -> list[str]:
        """A line for each thing that was found."""
        cluster = self.cluster
        has = ", ".join(f"{cluster.total(kind):g} {kind}" for kind in SHOWN if cluster.total(kind))
        return [
            self.upload.describe(),
            f"{len(cluster.nodes)} nodes with Ray {cluster.ray}, Python {cluster.python}: {has}",
            *self.notes,
        ]


def preflight(asked: Asked) -> Ready:
    """Check everything that would stop the job later.

    Raises:
        UserError: with the first thing that would.
    """
    if asked.stage not in (PIPELINE, *DIRECTORIES):
        raise UserError(
            f"{asked.stage!r} is not a stage; the stages are {', '.join(DIRECTORIES)}, and {PIPELINE} for all"
        )
    experiment = config.load(asked.config, asked.overrides)
    check_no_secrets(experiment)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(cluster_facts, asked.address, asked.token)
        upload = planned_upload(asked.working_dir)
        cluster = asking.result()
    path = check_upload(asked, experiment, upload)
    check_versions(cluster, asked.working_dir, asked.address)
    stages = list(DIRECTORIES) if asked.stage == PIPELINE else [asked.stage]
    notes = check_demands(demands(experiment, stages), cluster, asked.address)
    notes += check_storage(experiment, cluster)
    parts = ["python", "-m", f"ray_jobs.{asked.stage}", path]
    for override in asked.overrides:
        parts += ["--set", override]
    return Ready(experiment, shlex.join(parts), upload, cluster, tuple(notes))


def check_upload(asked: Asked, experiment: Experiment, upload: Upload) -> str:
    """Check that what the job needs travels, and no more than Ray takes.

    Returns:
        The config's path in the job.

    Raises:
        UserError: something stays behind, or it is too much.
    """
    upload.check_size()
    for package in PACKAGES:
        if not (asked.working_dir / package).is_dir():
            raise UserError(
                f"--working-dir {str(asked.working_dir)!r} has no {package}/; give the root of the repository"
            )
    try:
        path = str(asked.config.absolute().relative_to(asked.working_dir.absolute()))
    except ValueError as error:
        raise UserError(
            f"CONFIG {asked.config} is not in the working directory {asked.working_dir}, which is all that travels; "
            "copy it there, to ray_jobs/configs/ for example"
        ) from error
    upload.check_has("CONFIG", path)
    for key, value in local_inputs(experiment):
        if not Path(value).is_absolute() and (asked.working_dir / value).exists():
            upload.check_has(key, value)
    return path


def local_inputs(experiment: Experiment) -> list[tuple[str, str]]:
    """Keys whose values may be paths to read, with their values."""
    found = [("corpus.sources", source) for source in experiment.corpus.sources]
    for key, value in (
        ("corpus.opt_out", experiment.corpus.opt_out),
        ("model.pretrained", experiment.model.pretrained),
        ("evaluation.source", experiment.evaluation.source),
    ):
        if value is not None:
            found.append((key, value))
    return found


def check_versions(cluster: ClusterFacts, working_dir: Path, address: str) -> None:
    """Raise UserError unless the cluster's Ray and Python are among those that the project names.

    The job itself compares all other packages before it does anything else: they are known there alone.
    """
    project = tomllib.loads((working_dir / "pyproject.toml").read_text())["project"]
    ray = next(need for need in map(Requirement, project["dependencies"]) if need.name == "ray")
    for name, has, allowed in (
        ("Ray", cluster.ray, ray.specifier),
        ("Python", cluster.python, SpecifierSet(project["requires-python"])),
    ):
        if not allowed.contains(has, prereleases=True):
            raise UserError(
                f"the cluster at {address} runs {name} {has} and codelm needs {name} {allowed}; make its machines from "
                "cluster/Dockerfile, or install within cluster/constraints.txt there"
            )


def check_storage(experiment: Experiment, cluster: ClusterFacts) -> list[str]:
    """Check that the run directory can be shared by the nodes.

    Returns:
        Lines to show. That all nodes see it is what the job finds out first of all (`codelm.on_ray.nodes`): they
        may reach what this machine does not, and the other way round.

    Raises:
        UserError: the run directory's address is of no kind that is known.
    """
    scheme, separator, _ = experiment.run_dir.partition("://")
    if separator and scheme not in SCHEMES:
        raise UserError(
            f"run_dir {experiment.run_dir!r}: give a path that all nodes share, or an s3:// or gs:// address"
        )
    if separator or len(cluster.nodes) < 2:
        return []
    return [
        f"run_dir {experiment.run_dir!r} is a path and the cluster has {len(cluster.nodes)} nodes: it must be a file "
        "system that all of them share"
    ]


def check_no_secrets(experiment: Experiment) -> None:
    """Raise UserError where the config holds a password or a key: it would be in job metadata, MLflow and manifests."""
    for key, value in texts(experiment.model_dump(mode="json")):
        found = "a password" if has_password(value) else "a key" if any(key_spans(value)) else None
        if found:
            raise UserError(
                f"{key} holds {found}, which everyone who sees the job would see; take it out, and give it to the "
                "cluster's machines as an environment variable (AWS_SECRET_ACCESS_KEY, HF_TOKEN, "
                "MLFLOW_TRACKING_PASSWORD)"
            )


def texts(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts of nested mappings and lists, with their dotted keys."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from texts(value, f"{key}.{name}" if key else name)
    elif isinstance(tree, Sequence):
        for value in tree:
            yield from texts(value, key)


def has_password(uri: str) -> bool:
    """Whether a URI carries one before its host or among its options."""
    if "://" not in uri:
        return False
    parts = urlsplit(uri)
    options: Sequence[str] = parts.query.lower().split("&")
    return parts.password is not None or any(
        option.startswith(("secret_key=", "session_token=", "password=")) for option in options
    )
