"""The job server of a Ray cluster, asked over HTTP: who runs there, on which nodes, and whether it lets us in.

Ray's own client takes seconds to import and waits for ever for an address that does not answer; a preflight is
to take less than two seconds.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from codelm.errors import UserError

TIMEOUT_SECONDS = 5.0
TOKEN = "RAY_AUTH_TOKEN"
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
DEFAULT_TOKEN_PATH = "~/.ray/auth_token"
"""Where Ray looks for a token, in this order: https://docs.ray.io/en/latest/ray-security/token-auth.html"""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster: its address and the resources that it offers in all."""

    address: str
    resources: dict[str, float]


@dataclass(frozen=True)
class ClusterFacts:
    """What a cluster says of itself.

    Attributes:
        ray: its version.
        python: of the interpreter that its nodes run.
        nodes: those that are alive.
        scales: whether an autoscaler may add nodes of types that are not there now.
    """

    ray: str
    python: str
    nodes: tuple[Node, ...]
    scales: bool

    def total(self, resource: str) -> float:
        """How much of a resource the nodes have together."""
        return sum(node.resources.get(resource, 0) for node in self.nodes)


def find_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """The token for clusters that ask for one, from where Ray looks for it, or None.

    Raises:
        UserError: RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    stated = environment.get(TOKEN)
    if stated:
        return stated.strip()
    path = Path(environment.get(TOKEN_PATH) or DEFAULT_TOKEN_PATH).expanduser()
    try:
        return path.read_text().strip() or None
    except OSError as error:
        if TOKEN_PATH in environment:
            raise UserError(
                f"{TOKEN_PATH}: cannot read {str(path)!r}: {error.strerror}; put the token there"
            ) from error
        return None


def headers(token: str | None) -> dict[str, str]:
    """What each request carries."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def normalised(address: str) -> str:
    """`head:8265` and `http://head:8265/` as `http://head:8265`.

    Raises:
        UserError: it is no address of a dashboard.
    """
    url = address if "://" in address else f"http://{address}"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"--address {address!r} is no address ({error}); it looks like http://head:8265") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"--address {address!r} is not the dashboard's; it looks like http://head:8265")
    return url.rstrip("/")


def cluster_facts(address: str, token: str | None) -> ClusterFacts:
    """Ask a cluster who it is: three requests at the same time.

    Raises:
        UserError: nothing answers, it is no Ray cluster, or it does not accept the token.
    """
    with _client(address, token) as client:
        check_lets_in(client, address)
        with ThreadPoolExecutor(3) as pool:
            metadata, nodes, status = pool.map(
                lambda path: _get(client, path, address), ("v0/cluster_metadata", "v0/nodes?detail=1", "cluster_status")
            )
    rows = [row for row in nodes["data"]["result"]["result"] if row["state"] == "ALIVE"]
    return ClusterFacts(
        ray=metadata["data"]["rayVersion"],
        python=metadata["data"]["pythonVersion"],
        nodes=tuple(Node(row["node_ip"], row["resources_total"]) for row in rows),
        scales=has_autoscaler(status["data"]["clusterStatus"]),
    )


def check_address(address: str, token: str | None) -> None:
    """Raise UserError unless a Ray cluster answers there and accepts the token."""
    with _client(address, token) as client:
        check_lets_in(client, address)


def check_lets_in(client: httpx.Client, address: str) -> None:
    """Raise UserError unless a Ray cluster answers and accepts the token."""
    try:
        response = client.get("/api/version")
    except httpx.TransportError as error:
        raise UserError(
            f"--address {address} does not answer ({error}); start the cluster, or forward its dashboard's port with "
            f"`ssh -L 8265:localhost:8265 HEAD` or `kubectl port-forward service/codelm-head-svc 8265`"
        ) from error
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise UserError(
            f"{address} asks for a token and none was found; put it in {DEFAULT_TOKEN_PATH}, or in a file that "
            f"{TOKEN_PATH} names (on the head: `ray get-auth-token`)"
        )
    if response.status_code == httpx.codes.FORBIDDEN:
        raise UserError(
            f"{address} does not accept the token of {_token_origin()}: it is another cluster's or has expired; get "
            "the present one (on the head: `ray get-auth-token`) and put it there"
        )
    if not _is_ray(response):
        raise UserError(
            f"what answers at {address} is not a Ray dashboard (status {response.status_code}); give the head's "
            "address with the dashboard's port, such as http://head:8265"
        )


def _client(address: str, token: str | None) -> httpx.Client:
    # Certificates take longer to load than the rest of the preflight; plain HTTP has none to verify.
    verify = address.startswith("https://")
    return httpx.Client(base_url=address, headers=headers(token), timeout=TIMEOUT_SECONDS, verify=verify)


def _is_ray(response: httpx.Response) -> bool:
    try:
        return response.status_code == httpx.codes.OK and "ray_version" in response.json()
    except ValueError:
        return False


def _token_origin() -> str:
    return TOKEN if os.environ.get(TOKEN) else os.environ.get(TOKEN_PATH) or DEFAULT_TOKEN_PATH


def _get(client: httpx.Client, path: str, address: str) -> Any:
    try:
        response = client.get(f"/api/{path}").raise_for_status()
    except httpx.HTTPError as error:
        raise UserError(f"{address} stopped answering ({error}); try again when the cluster is up") from error
    return response.json()


def has_autoscaler(status: Mapping[str, Any]) -> bool:
    """Whether a cluster's nodes are of types that an autoscaler knows.

    Without one Ray names the type of each node after its id: `{"ab12": "node_ab12"}`.
    """
    report = status.get("autoscalerReport") or {}
    types = report.get("nodeTypeMapping") or {}
    return any(kind != f"node_{node}" for node, kind in types.items())
