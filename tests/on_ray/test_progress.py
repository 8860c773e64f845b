from typing import Any

import pytest
import ray

from codelm.on_ray import progress


def test_the_board_is_on_the_machine_that_looks_at_it(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would place it anywhere, and the progress of a stage would end with a machine that is lost."""
    places = []
    strategy = progress.NodeAffinitySchedulingStrategy

    def recorded(node: str, soft: bool) -> Any:
        places.append((node, soft))
        return strategy(node, soft)

    monkeypatch.setattr(progress, "NodeAffinitySchedulingStrategy", recorded)
    with progress.board("stage", "units", 1) as actor:
        ray.get(actor.post.remote(1, ""))
    assert places == [(ray.get_runtime_context().get_node_id(), False)]
