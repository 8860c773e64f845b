import os
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest
import ray

from codelm.on_ray.process_group import INTERFACE, NodeNetwork, name_interface

INTERFACES = {
    "lo": [SimpleNamespace(address="127.0.0.1")],
    "eth0": [SimpleNamespace(address="02:fc:00:00:00:01"), SimpleNamespace(address="10.0.0.7")],
}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setenv(INTERFACE, "")
    monkeypatch.delenv(INTERFACE)
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: INTERFACES)
    return lambda address: monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: address)


@pytest.mark.parametrize(("address", "interface"), [("10.0.0.7", "eth0"), ("127.0.0.1", "lo"), ("10.0.0.8", None)])
def test_workers_use_the_interface_of_their_node(
    node: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, address: str, interface: str | None
) -> None:
    """Gloo's own choice is the loopback where /etc/hosts has the machine's name there."""
    node(address)
    name_interface()
    assert os.environ.get(INTERFACE) == interface
    monkeypatch.setenv(INTERFACE, "mine")
    name_interface()
    assert os.environ[INTERFACE] == "mine"


def test_before_the_process_group_is_made() -> None:
    called = []
    group = SimpleNamespace(execute=called.append, get_resources_per_worker=lambda: pytest.fail("too early"))
    with pytest.raises(pytest.fail.Exception, match="too early"):
        NodeNetwork().backend_cls().on_start(group, NodeNetwork())
    assert called == [name_interface]
