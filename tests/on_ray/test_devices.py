"""What a training is told of the cluster that it is to run on."""

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from codelm.on_ray.devices import available, tell_of_a_wait


def test_a_training_that_waits_for_other_work_says_so(
    ray_cluster: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codelm.on_ray.devices.SETTLE_SECONDS", 0.5)
    _, cpus = available("cpu")
    held = placement_group([{"CPU": cpus - 1}])
    ray.get(held.ready())
    try:
        tell_of_a_wait("pretrain", 1, "cpu")
        assert not capsys.readouterr().err
        tell_of_a_wait("pretrain", 2, "cpu")
        assert f"waiting for 2 CPUs; the cluster has {cpus}, and 1 of them free" in capsys.readouterr().err
    finally:
        remove_placement_group(held)
    tell_of_a_wait("pretrain", cpus + 5, "cpu")
    assert f"waiting for {cpus + 5} CPUs; the cluster has {cpus}" in capsys.readouterr().err
