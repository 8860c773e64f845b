"""Whether the machines of a cluster can do what the driver will ask of them: see the run directory and the tracker."""

import uuid
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray.placement import SANDBOX
from codelm.run_dir import WORK, RunDir
from codelm.tracking import stated_uri

ANSWER_SECONDS = 120.0
"""For a node to start a worker and look; it imports codelm first."""


def check_nodes(experiment: Experiment, run_dir: RunDir) -> None:
    """Find out on each node whether it sees the run directory; nothing is asked of a cluster of one.

    Nodes for sandboxes are left out: they need no storage, and should have none.

    Raises:
        UserError: a node does not see it, or MLflow's database is a file that only the driver's machine has.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and SANDBOX not in node["Resources"]]
    if len(nodes) < 2:
        return
    if not run_dir.is_local and not stated_uri(experiment):
        raise UserError(
            f"run_dir {run_dir.uri!r} cannot hold MLflow's database, and workers on {len(nodes)} nodes log to it; set "
            "tracking.uri (or MLFLOW_TRACKING_URI on the nodes) to a server, started with `mlflow server`"
        )
    probe = run_dir.path(WORK, f"probe-{uuid.uuid4().hex}")
    with run_dir.fs.open_output_stream(probe) as out:
        out.write(b"codelm")
    try:
        blind = _blind(nodes, run_dir, probe)
    finally:
        run_dir.fs.delete_file(probe)
    if blind:
        raise UserError(
            f"run_dir {run_dir.uri!r} is not seen from {'; '.join(blind)}. Set it to storage that all nodes reach "
            "(s3://, gs://, a shared file system), and give them the right to it"
        )


def _blind(nodes: list[dict[str, Any]], run_dir: RunDir, probe: str) -> list[str]:
    looks: Any = ray.remote(num_cpus=0, max_retries=0)(_looks)
    answers = {
        node["NodeManagerAddress"]: looks.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(run_dir, probe)
        for node in nodes
    }
    blind = []
    for address, answer in answers.items():
        try:
            problem = ray.get(answer, timeout=ANSWER_SECONDS)
        except GetTimeoutError:
            problem = f"no answer in {ANSWER_SECONDS:.0f} s"
        except RayError as error:
            problem = str(error).splitlines()[-1]
        if problem:
            blind.append(f"{address} ({problem})")
    return blind


def _looks(run_dir: RunDir, probe: str) -> str:
    """What is wrong with the view of a file, or nothing."""
    try:
        with run_dir.fs.open_input_stream(probe) as source:
            source.read()
    except OSError as error:
        return str(error)
    return ""
