"""Where a model comes from, and which version it is."""

import os
import shutil
from pathlib import Path

import pytest

from codelm.errors import UserError
from codelm.run_dir import RunDir
from serve.models import find_model, version_of
from tests.inference.tiny import publish_tiny_model


def test_a_model_is_found_by_its_directory_or_its_runs(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path / "run"))
    model = publish_tiny_model(run)
    for source in (str(model), run.uri, f"{run.uri}/model"):
        found = find_model(source)
        assert (found.directory.samefile(model), found.version) == (True, version_of(source))
    before = version_of(run.uri)
    os.utime(model / "config.json", (1, 1))
    assert version_of(run.uri) != before


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json in"):
        find_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"no tokenizer\.json in"):
        find_model(str(tmp_path))
    with pytest.raises(UserError, match=r"names no registered model; write models:/NAME@ALIAS"):
        find_model("models:/code")


def test_a_name_that_is_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="'nobody/nothing' is no directory, and the hub gives no such model"):
        find_model("nobody/nothing")
    assert version_of("nobody/nothing") is None


def test_a_model_comes_from_mlflows_registry_by_its_alias(tmp_path: Path) -> None:
    from codelm.tracking import open_run

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    model = publish_tiny_model(RunDir(str(tmp_path / "run")))
    run = open_run(uri, "experiment", "export", None)
    assert run.register_model(model, "code", "best") == "1"
    found = find_model("models:/code@best", uri)
    assert found.version == version_of("models:/code@best", uri) == "1"
    assert (found.directory / "config.json").read_bytes() == (model / "config.json").read_bytes()
    shutil.copytree(model, tmp_path / "second")
    run.register_model(tmp_path / "second", "code", "best")
    assert (version_of("models:/code@best", uri), version_of("models:/code/1", uri)) == ("2", "1")
    with pytest.raises(UserError, match="has no models:/code@worst"):
        version_of("models:/code@worst", uri)
