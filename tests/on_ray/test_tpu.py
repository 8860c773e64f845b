"""Scheduling on TPUs, on a node that says it has some. What the chips compute is the torch engine's, tested on CPUs."""

import json
import subprocess
import sys


def test_a_slice_of_four_chips_gets_a_worker_for_each() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.on_ray.tpu_slice"], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    given = told["given"]
    assert (told["accelerator"], given["workers"], given["chips"]) == ("tpu", 4, 1)
    assert given["visible"] in {"0", "1", "2", "3"}
    assert (given["resources"]["TPU"], given["resources"]["CPU"]) == (1.0, 1.0)
    assert "accelerator_type:TPU-V4" in given["resources"]
