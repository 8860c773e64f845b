"""The replica without Ray Serve: when it lets itself be asked."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import serve

from serve import app


@pytest.fixture
def replica(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> app.Completions:
    context = SimpleNamespace(replica_id=SimpleNamespace(unique_id="0"))
    monkeypatch.setattr(serve, "get_replica_context", lambda: context)
    return app.Completions(app.ServeArgs(source=str(tiny_model), model="tiny", cache_mb=64))


def loaded(replica: app.Completions) -> bool:
    current = replica._service.current
    return current is not None and current.engine is not None


def test_the_first_replica_answers_while_it_loads(
    replica: app.Completions, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "others_answer", lambda: False)

    async def begin() -> bool:
        await replica.reconfigure({"source": str(tiny_model)})
        at_once = loaded(replica)
        await asyncio.gather(*replica._tasks)
        return at_once

    assert not asyncio.run(begin())
    assert loaded(replica)


def test_one_more_replica_is_asked_when_its_model_is_loaded(
    replica: app.Completions, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "others_answer", lambda: True)
    asyncio.run(replica.reconfigure({"source": str(tiny_model)}))
    assert loaded(replica)


def test_one_more_replica_that_cannot_load_is_none(
    replica: app.Completions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "others_answer", lambda: True)
    with pytest.raises(Exception, match="missing"):
        asyncio.run(replica.reconfigure({"source": str(tmp_path / "missing")}))
