"""Fixtures that all tests share: one local Ray cluster for the session, and small experiments."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from codelm import config
from codelm.config import Experiment

# The same examples each time, and no limit on an example's time: machines are slow at times.
settings.register_profile("codelm", derandomize=True, deadline=None)
settings.load_profile("codelm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the cluster, so that `pytest -m "not ray"` is the quick half; run it last, the longest first."""
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)

    def rank(item: pytest.Item) -> int:
        if item.get_closest_marker("ray") is None:
            return 0
        return 1 if item.nodeid.startswith("tests/system/") else 2

    items.sort(key=rank)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local cluster for the whole session: four logical CPUs, a small object store."""
    import ray

    from codelm.on_ray.cluster import connected

    with connected(config.Cluster(num_cpus=4, object_store_mb=256)):
        yield
    assert not ray.is_initialized()


@pytest.fixture
def make_experiment(tmp_path: Path) -> Callable[..., Experiment]:
    """A small experiment in a fresh run directory: `make_experiment(["training.steps=3"], data={...})`."""

    def make(overrides: list[str] | None = None, **sections: Any) -> Experiment:
        tree: dict[str, Any] = {
            "name": "test",
            "run_dir": str(tmp_path / "run"),
            "accelerator": "cpu",
            "corpus": {"sources": [str(tmp_path / "source")], "shards": 2},
            "tokenizer": {"vocab_size": 512},
            "data": {"sequence_length": 64, "validation_fraction": 0.1},
            "model": {
                "hidden_size": 64,
                "layers": 2,
                "heads": 4,
                "kv_heads": 2,
                "intermediate_size": 128,
                "max_positions": 128,
            },
            "training": {
                "steps": 8,
                "batch_size": 4,
                "micro_batch_size": 2,
                "warmup_steps": 2,
                "precision": "fp32",
                "validate_every": 4,
                "checkpoint_every": 4,
                "log_every": 2,
            },
            # Openvino would be compiled in every worker of every test.
            "evaluation": {"problems": 2, "samples": 2, "max_new_tokens": 8, "engine": "transformers"},
            "serving": {"engine": "transformers"},
        }
        for section, values in sections.items():
            tree[section] = {**tree.get(section, {}), **values} if isinstance(values, dict) else values
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(tree))
        return config.load(path, overrides or [])

    return make
