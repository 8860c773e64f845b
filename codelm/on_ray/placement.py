"""Where programs that nobody trusts may run: on nodes that offer Ray's resource `sandbox`."""

from dataclasses import dataclass
from typing import Any

import ray

from codelm.console import say
from codelm.errors import UserError

SANDBOX = "sandbox"
"""A node's `--resources='{"sandbox": 8}'`: so many programs at a time. Such nodes have no CPUs for anything else."""


@dataclass(frozen=True)
class Places:
    """Room for judges.

    Attributes:
        count: judges that fit on the cluster.
        options: of Ray, for each.
        apart: whether they have nodes of their own.
    """

    count: int
    options: dict[str, Any]
    apart: bool


def places(nodes: str) -> Places:
    """Where judges go on the connected cluster.

    Args:
        nodes: `evaluation.sandbox.nodes`.

    Raises:
        UserError: nodes with the resource are required, and there are none.
    """
    has = ray.cluster_resources()
    room = int(has.get(SANDBOX, 0))
    if room and nodes != "any":
        return Places(room, {"num_cpus": 0, "resources": {SANDBOX: 1}}, apart=True)
    if nodes == "required":
        raise UserError(
            "evaluation.sandbox.nodes: required, but no node of the cluster offers the resource `sandbox`; start one "
            "with `ray start --address=HEAD:6379 --num-cpus=0 --resources='{\"sandbox\": 8}'`, or set it to auto"
        )
    alive = sum(node["Alive"] for node in ray.nodes())
    if alive > 1 and nodes == "auto":
        say("judge", f"no node offers the resource `{SANDBOX}`: programs run on all {alive} nodes, beside other work")
    return Places(max(1, int(has.get("CPU", 1))), {"num_cpus": 1}, apart=False)
