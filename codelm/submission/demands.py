"""What an experiment asks of a cluster, stage by stage."""

from collections.abc import Iterable
from dataclasses import dataclass

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.records import ACCELERATORS
from codelm.submission.server import ClusterFacts


@dataclass(frozen=True)
class Demand:
    """So much of one resource at the same time.

    Attributes:
        key: the config's, with its value, that asks for it.
        resource: Ray's name.
        amount: in all.
        smaller: what to change to need less.
    """

    key: str
    resource: str
    amount: float
    smaller: str


def demands(experiment: Experiment, stages: Iterable[str]) -> list[Demand]:
    """What the stages must have to begin at all; more makes them faster."""
    asked = []
    resource = ACCELERATORS.get(experiment.accelerator)
    recipes = {"pretrain": ("training", experiment.training)}
    if experiment.finetuning is not None:
        recipes["finetune"] = ("finetuning.training", experiment.finetuning.training)
    for stage in stages:
        if stage in recipes:
            section, recipe = recipes[stage]
            workers = recipe.workers
            asked.append(
                Demand(f"{section}.workers: {workers}", resource or "CPU", workers, f"lower {section}.workers")
            )
            kind = experiment.cluster.accelerator_type
            if resource is not None and kind is not None:
                asked.append(
                    Demand(f"cluster.accelerator_type: {kind}", f"accelerator_type:{kind}", 0.001, "name another type")
                )
        if stage in ("evaluate", "endpoint") and experiment.accelerator == "gpu":
            asked.append(Demand("accelerator: gpu", "GPU", 1, "set accelerator: auto"))
        if stage == "evaluate" and experiment.evaluation.sandbox.nodes == "required":
            asked.append(
                Demand("evaluation.sandbox.nodes: required", "sandbox", 1, "set evaluation.sandbox.nodes: auto")
            )
    return asked


def check_demands(asked: Iterable[Demand], cluster: ClusterFacts, address: str) -> list[str]:
    """Compare with what the cluster has.

    Returns:
        A line for each thing that the cluster lacks now and its autoscaler may bring.

    Raises:
        UserError: it lacks something and has no autoscaler.
    """
    waits = []
    for demand in asked:
        has = cluster.total(demand.resource)
        if has >= demand.amount:
            continue
        said = f"{demand.key} needs {max(demand.amount, 1):g} {demand.resource}, {address} has {has:g}"
        if not cluster.scales:
            raise UserError(f"{said} and no autoscaler to add some; {demand.smaller}, or submit to another cluster")
        waits.append(f"{said}: waits for its autoscaler to add some")
    return waits
