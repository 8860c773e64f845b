"""The network that training workers talk over: the one that Ray's nodes know each other by."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.torch.config import TorchConfig, _TorchBackend

INTERFACE = "GLOO_SOCKET_IFNAME"


@dataclass
class NodeNetwork(TorchConfig):
    """Ray's settings of torch's process group, with the interface that has the node's address.

    Gloo would take the one that the machine's name stands for, which is the loopback where /etc/hosts says so, as
    Debian's does; workers on two machines then look for each other on themselves.
    """

    @property
    def backend_cls(self) -> Any:
        """What Ray starts the process group with."""
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(name_interface)
        super().on_start(worker_group, backend_config)


def name_interface() -> None:
    """Tell Gloo the interface of this worker's node, unless the user has."""
    interface = interface_with(ray.util.get_node_ip_address(), psutil.net_if_addrs())
    if interface is not None:
        os.environ.setdefault(INTERFACE, interface)


def interface_with(address: str, interfaces: Mapping[str, Sequence[Any]]) -> str | None:
    """The name of the interface that has an address, or None.

    Args:
        address: of IP.
        interfaces: their addresses, of `psutil.net_if_addrs`.
    """
    return next((name for name, has in interfaces.items() if any(one.address == address for one in has)), None)
