"""The endpoint stage, and what it says when it cannot serve."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from ray import serve

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray import endpoint, pipeline
from codelm.run_dir import RunDir
from tests.inference.tiny import publish_tiny_model
from tests.serve.local import free_port

Make = Callable[..., Experiment]


def test_a_real_request_is_kept(ray_cluster: None, make_experiment: Make, capfd: pytest.CaptureFixture[str]) -> None:
    experiment = make_experiment(serving={"port": free_port()})
    run_dir = RunDir(experiment.run_dir)
    publish_tiny_model(run_dir)
    capfd.readouterr()
    manifest = pipeline.run(experiment, ["endpoint"])["endpoint"]
    directory = Path(run_dir.path("endpoint"))
    asked, answered = (json.loads((directory / f"{name}.json").read_text()) for name in ("request", "response"))
    assert sorted(manifest.files) == ["request.json", "response.json"]
    assert manifest.metrics == {"prompt": asked["prompt"], "completion": answered["choices"][0]["text"]}
    assert answered["usage"]["completion_tokens"] <= 32
    assert not {"id", "created"} & answered.keys()
    # Serve has gone, with its address, and said nothing.
    endpoint.check(experiment)
    assert serve.status().applications == {}
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split(maxsplit=1)[0] for line in err.splitlines()] == ["ray", "mlflow", "endpoint"]


def test_a_taken_port_is_named(make_experiment: Make) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot serve at 127\.0\.0\.1:{port}: .*Set serving\.port"):
            endpoint.check(make_experiment(serving={"port": port}))


def test_a_foreign_address_is_named(make_experiment: Make) -> None:
    with pytest.raises(UserError, match=r"cannot serve at 192\.0\.2\.1:8000"):
        endpoint.check(make_experiment(serving={"host": "192.0.2.1"}))


def test_serving_needs_a_model(make_experiment: Make) -> None:
    with pytest.raises(UserError, match=r"no model in .*run `codelm export"):
        endpoint.serve_forever(make_experiment())


def test_a_model_that_cannot_be_loaded_is_told(ray_cluster: None, make_experiment: Make) -> None:
    experiment = make_experiment(serving={"port": free_port()})
    run_dir = RunDir(experiment.run_dir)
    (publish_tiny_model(run_dir) / "tokenizer.json").unlink()
    with pytest.raises(RuntimeError, match=r"no tokenizer\.json in"), endpoint.served(experiment, "test"):
        pass
    assert serve.status().applications == {}


@serve.deployment
class Other:
    def __call__(self) -> str:
        return "still here"


@pytest.fixture
def another_application(ray_cluster: None) -> Iterator[str]:
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(Other.bind(), name="other", route_prefix="/other")
    yield f"http://127.0.0.1:{port}/other"
    serve.shutdown()


def test_another_ray_serve_is_left_alone(another_application: str, make_experiment: Make) -> None:
    experiment = make_experiment(serving={"port": free_port()})
    with pytest.raises(UserError, match="Ray Serve runs on this cluster already"), endpoint.served(experiment, "mine"):
        pass
    assert httpx.get(another_application).text == "still here"


def test_what_an_interrupted_run_left_is_swept_away(ray_cluster: None, make_experiment: Make) -> None:
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(Other.bind(), name=endpoint.CHECK)
    experiment = make_experiment(serving={"port": port})
    with pytest.raises(UserError, match=f"cannot serve at 127.0.0.1:{port}"):
        endpoint.check(experiment)
    run_dir = RunDir(experiment.run_dir)
    run_dir.write_note("endpoint", {})
    endpoint.check(experiment)
    publish_tiny_model(run_dir)
    with endpoint.served(experiment, endpoint.CHECK) as url:
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "test"
