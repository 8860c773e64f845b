"""What a training runs on: the accelerators that there are, those that it asks for, and whether that goes together."""

import os
import time
from typing import Any

import ray
from ray._private.accelerators import get_accelerator_manager_for_resource

from codelm.config import Experiment, Training
from codelm.console import say
from codelm.errors import UserError
from codelm.on_ray.cluster import starts_here
from codelm.records import ACCELERATORS

SETTLE_SECONDS, POLL_SECONDS = 3.0, 0.2
"""Until what an ended stage has held is free."""


def available(accelerator: str) -> tuple[str, int]:
    """The resource of Ray that stands for an accelerator, CPUs for none, and how much of it the cluster has."""
    resource = ACCELERATORS.get(accelerator, "CPU")
    return resource, int(ray.cluster_resources().get(resource, 0))


def scaling(experiment: Experiment, accelerator: str) -> Any:
    """Ray Train's ScalingConfig: a process for each accelerator, or for each of Ray's CPUs."""
    from ray.train import ScalingConfig

    make: Any = ScalingConfig  # its annotations are those of Ray Train V1
    workers, low = experiment.training.workers, experiment.training.min_workers
    return make(
        num_workers=workers if low is None else (low, workers),
        use_gpu=accelerator == "gpu",
        use_tpu=accelerator == "tpu",
        # Ray would give a process all chips of its host; torch binds a process to one.
        resources_per_worker={"CPU": 1, "TPU": 1} if accelerator == "tpu" else None,
        accelerator_type=experiment.cluster.accelerator_type if accelerator != "cpu" else None,
        topology=experiment.cluster.tpu_topology if accelerator == "tpu" else None,
    )


def resolve_accelerator(experiment: Experiment) -> str:
    """`cpu`, `gpu` or `tpu`: what to train on. `auto` takes what the cluster has, GPUs first.

    Raises:
        UserError: the cluster has not got what the config demands.
    """
    has = ray.cluster_resources() if ray.is_initialized() else {kind: _on_this_machine(kind) for kind in ("GPU", "TPU")}
    if experiment.accelerator == "auto":
        return next((name for name, resource in ACCELERATORS.items() if has.get(resource, 0) >= 1), "cpu")
    resource = ACCELERATORS.get(experiment.accelerator)
    if resource is not None and not has.get(resource, 0):
        raise UserError(
            f"accelerator: {experiment.accelerator}, but there is no {resource} here; "
            "set accelerator: auto, or cluster.address to a cluster that has one"
        )
    return experiment.accelerator


def check_resources(experiment: Experiment, section: str) -> None:
    """Refuse a training that the accelerator, or this machine if it is to run on it, cannot do.

    Args:
        experiment: the whole config, with the recipe in `training`.
        section: of the config that the recipe stands in, for the message.

    Raises:
        UserError: it cannot.
    """
    training = experiment.training
    if experiment.accelerator == "tpu" and training.engine == "deepspeed":
        raise UserError(f"{section}.engine: deepspeed does not run on TPUs; set {section}.engine: torch")
    slice_known = experiment.cluster.tpu_topology and experiment.cluster.accelerator_type
    if experiment.accelerator == "tpu" and training.workers > 1 and not slice_known:
        raise UserError(
            f"{section}.workers: {training.workers} on tpu need cluster.tpu_topology and cluster.accelerator_type, "
            "such as 4x4 and TPU-V6E"
        )
    if not starts_here(experiment.cluster):
        return
    accelerator = resolve_accelerator(experiment)
    refuse_offload(training, accelerator, section)
    resource = ACCELERATORS.get(accelerator, "CPU")
    has = int(ray.cluster_resources().get(resource, 0)) if ray.is_initialized() else _started_here(experiment, resource)
    if (training.min_workers or training.workers) > has:
        raise UserError(
            f"{section}.workers: {training.workers} on {accelerator}, but there are {has} {resource}s here; lower it"
        )


def refuse_offload(training: Training, accelerator: str, section: str) -> None:
    """Raise UserError where there is nowhere to move the optimizer to."""
    if training.offload_optimizer and accelerator == "cpu":
        raise UserError(f"{section}.offload_optimizer: on cpu the optimizer is in the host's memory; set it to false")


def _started_here(experiment: Experiment, resource: str) -> int:
    """How many of a resource a cluster has that is started on this machine for the experiment."""
    if resource == "CPU":
        return experiment.cluster.num_cpus or os.cpu_count() or 1
    return _on_this_machine(resource)


def _on_this_machine(resource: str) -> int:
    """How many accelerators Ray will find when it starts here."""
    manager = get_accelerator_manager_for_resource(resource)
    return manager.get_current_node_num_accelerators() if manager is not None else 0


def tell_of_a_wait(stage: str, workers: int, accelerator: str) -> None:
    """Say so where the cluster has too little now, or other work holds it: Ray Train waits without a word."""
    resource, has = available(accelerator)
    deadline = time.monotonic() + SETTLE_SECONDS
    while (free := int(ray.available_resources().get(resource, 0))) < workers:
        if has < workers or time.monotonic() > deadline:
            say(stage, f"waiting for {workers} {resource}s; the cluster has {has}, and {free} of them free")
            return
        time.sleep(POLL_SECONDS)
