"""`python -m tests.on_ray.tpu_slice`: a cluster of one node that says it is a TPU slice of four chips, as Ray's own
tests have it, and Ray Train's workers on it by our ScalingConfig; prints what they were given.
"""

import json
import os
from typing import Any

SLICE = {
    "TPU_NAME": "slice-0",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "TPU_TOPOLOGY": "2x2x1",
}
"""What Google's machines have in their environment; Ray makes the node's labels of it."""


def worker(config: dict[str, Any]) -> dict[str, Any]:
    """What Ray has given to this worker."""
    import ray
    import ray.train

    context = ray.get_runtime_context()
    return {
        "workers": ray.train.get_context().get_world_size(),
        "chips": len(context.get_accelerator_ids()["TPU"]),
        "visible": os.environ.get("TPU_VISIBLE_CHIPS"),
        "resources": context.get_assigned_resources(),
    }


def main() -> None:
    os.environ.update(SLICE)
    import ray
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from codelm import config
    from codelm.on_ray.devices import resolve_accelerator, scaling

    ray.init(
        address="local",
        num_cpus=8,
        resources={"TPU": 4, "TPU-v4-8-head": 1},
        include_dashboard=True,
        log_to_driver=False,
        logging_level="ERROR",
    )
    experiment = config.parse(
        {
            "name": "tpu",
            "run_dir": "unused",
            "corpus": {"sources": ["unused"]},
            "cluster": {"accelerator_type": "TPU-V4", "tpu_topology": "2x2x1"},
            "training": {"engine": "torch", "workers": 4, "batch_size": 4, "micro_batch_size": 1},
        },
        "the test's",
    )
    accelerator = resolve_accelerator(experiment)
    given = DataParallelTrainer(worker, scaling_config=scaling(experiment, accelerator)).fit().return_value
    print(json.dumps({"accelerator": accelerator, "given": given}))
    ray.shutdown()


if __name__ == "__main__":
    main()
