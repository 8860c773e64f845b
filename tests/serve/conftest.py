"""A tiny model for the endpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference.conftest import one_thread
from tests.inference.tiny import make_tiny_model
from tests.serve.local import service_of, serving

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def local_url(tiny_model: Path) -> Iterator[str]:
    """The address of an application without Ray, with the tiny model."""
    with serving(service_of(tiny_model)) as url:
        yield url
