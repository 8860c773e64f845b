"""A tiny model for the endpoint."""

from pathlib import Path

import pytest

from tests.inference.conftest import one_thread
from tests.inference.tiny import make_tiny_model

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("served"))
