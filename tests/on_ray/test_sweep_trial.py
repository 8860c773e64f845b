"""What a trial of a sweep does beside its training."""

from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from codelm.on_ray.sweep_trial import outside


@ray.remote(num_cpus=1)
def twice(value: int) -> int:
    return 2 * value


def needs_a_cpu(value: int) -> int:
    """As the evaluation of a trial's model does."""
    return ray.get(twice.remote(value))


def test_a_trial_evaluates_outside_of_its_placement_group(ray_cluster: None) -> None:
    """Ray Tune binds a trial's tasks to the trial's resources, which are next to none."""
    group = placement_group([{"memory": 1024}])
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    trial: Any = ray.remote(num_cpus=0, memory=1024, scheduling_strategy=strategy)(lambda: outside(needs_a_cpu, 3))
    try:
        assert ray.get(trial.remote()) == 6
    finally:
        remove_placement_group(group)
