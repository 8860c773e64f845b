"""Tiny models with random weights, one for each architecture, in Hugging Face format."""

from pathlib import Path

import pytest

from tests.inference.tiny import ARCHITECTURES, make_tiny_model
from tests.threads import one_thread as one_thread


@pytest.fixture(scope="session", params=ARCHITECTURES)
def any_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def llama_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("llama"), "llama")
