"""What the pipeline exports, read as Prometheus reads it."""

import time
from typing import Any

import httpx
import pytest

from codelm.console import progress
from codelm.on_ray.metrics import export_seconds, export_training, progress_exported, stage_exported

WAIT_SECONDS = 60


def exported() -> str:
    """All that the nodes of this cluster export."""
    import ray

    node = ray.nodes()[0]
    return httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=20).text


def test_progress_stages_and_training(ray_cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_exported("e"), stage_exported("e", "pack"), progress("pack", "shards", 8) as advance:
        advance(3, "")
    with progress("pack", "shards", 8) as advance:
        advance(7, "")  # nobody is told any more
    export_seconds("e", "pack", 12.5)
    export_training("e", 4, {"train_loss": 2.5, "tokens_per_second": 100.0, "unknown": 1.0})
    wanted = {
        ("ray_codelm_progress_done", 'unit="shards"', 3),
        ("ray_codelm_progress_total", 'unit="shards"', 8),
        ("ray_codelm_stage_running", 'stage="pack"', 0),
        ("ray_codelm_stage_seconds", 'stage="pack"', 12.5),
        ("ray_codelm_training_loss", 'experiment="e"', 2.5),
        ("ray_codelm_training_step", 'experiment="e"', 4),
        ("ray_codelm_training_tokens_per_second", 'experiment="e"', 100),
    }
    deadline = time.monotonic() + WAIT_SECONDS
    missing = wanted
    while missing and time.monotonic() < deadline:
        time.sleep(1)
        lines = [line for line in exported().splitlines() if not line.startswith("#")]
        missing = {
            (name, tag, value)
            for name, tag, value in wanted
            if not [x for x in lines if x.startswith(name + "{") and tag in x and float(x.split()[-1]) == value]
        }
    assert not missing
    assert "unknown" not in exported()
