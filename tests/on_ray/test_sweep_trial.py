"""What a trial of a sweep does beside its training."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from codelm.config import Experiment
from codelm.on_ray.sweep_order import Order
from codelm.on_ray.sweep_release import Releaser, note_actor, release
from codelm.on_ray.sweep_trial import outside
from codelm.on_ray.worker_groups import GROUP
from codelm.run_dir import RunDir
from codelm.tracking import TrackedRun


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


@ray.remote(num_cpus=0)
class Ended:
    """A trial whose process is ended while what it has reserved for its workers stays, as Ray Train's does."""

    def reserve(self, order: Order) -> str:
        note_actor(order, "a")
        group = placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return str(group.id.hex())


class Told:
    """What Tune tells of a trial."""

    trial_id = "a"

    def __init__(self, status: str) -> None:
        self.status = status


def test_what_an_ended_trial_has_reserved_is_freed(
    ray_cluster: None, make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    """Within the five seconds that are promised, whether or not Ray Train's own cleaner does it."""
    experiment = make_experiment()
    order = Order(
        experiment, RunDir(experiment.run_dir), str(tmp_path), "finetune", "loss", False, TrackedRun("", ""), ""
    )
    (tmp_path / "trials" / "a").mkdir(parents=True)
    assert release(order, "a"), "it has reserved nothing yet"
    trial: Any = Ended.remote()
    note = tmp_path / "trials" / "a" / GROUP
    group = ray.get(trial.reserve.remote(order))
    note.write_text(json.dumps({"group": group}))
    releaser = Releaser(order)
    releaser.look([Told("RUNNING")])
    releaser.look([Told("TERMINATED")])  # its process is there still, and would have the workers started again
    assert note.exists()
    table = ray.util.placement_group_table
    assert table()[group]["state"] == "CREATED"
    ray.kill(trial)
    deadline = time.monotonic() + 5
    while note.exists() or table()[group]["state"] != "REMOVED":
        assert time.monotonic() < deadline
        releaser.look([Told("TERMINATED")])
        time.sleep(0.05)
