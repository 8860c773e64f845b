"""Stage `endpoint`: the served model answers one real request. And `serve_forever`, for `codelm serve`."""

import importlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import ray
from ray import serve
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.schema import LoggingConfig

from codelm.config import Experiment
from codelm.console import say
from codelm.errors import UserError
from codelm.on_ray.cluster import connected
from codelm.on_ray.stage import Context, Outcome, Stage, published
from codelm.run_dir import DIRECTORIES, RunDir
from codelm.tracking import tracking_uri

NAME = "endpoint"
APPLICATION = "serve.app"
"""Named, not imported: the application is above this package. Its `build` and `ServeArgs` are used."""

REQUEST = {
    "prompt": "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y =",
    "temperature": 0,
    "max_tokens": 16,
}
CHECK = "endpoint-check"
"""The stage's application on Ray Serve. It outlives a driver that is killed, and the next one sweeps it away."""
VOLATILE = ("id", "created")
"""Keys of an answer that differ between equal answers."""
SHUT_DOWN_SECONDS = 30.0
READY_SECONDS = 300.0
"""To load a model of some billions of parameters from a slow disk; a failure to load is told at once."""


def check(experiment: Experiment) -> None:
    """Refuse an address that is taken or not ours; an interrupted run of this stage may hold it still."""
    if RunDir(experiment.run_dir).read_note(DIRECTORIES[NAME]) is None:
        check_address(experiment.serving.host, experiment.serving.port)


def check_address(host: str, port: int) -> None:
    """Raise UserError unless a server can listen at `host:port`."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a connection that has just been closed does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot serve at {host}:{port}: {error.strerror or error}. Set serving.port (or serving.host) to one "
            "that is free, or stop what listens there."
        ) from error


def run(context: Context) -> Outcome:
    """Serve the model, make one request over HTTP, keep question and answer, and shut down."""
    body = {"model": context.experiment.name, **REQUEST}
    with served(context.experiment, CHECK) as url:
        response = httpx.post(f"{url}/v1/completions", json=body, timeout=READY_SECONDS)
    response.raise_for_status()
    answer = {key: value for key, value in response.json().items() if key not in VOLATILE}
    for name, content in (("request.json", body), ("response.json", answer)):
        with context.run_dir.fs.open_output_stream(f"{context.workspace}/{name}") as out:
            out.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    return Outcome({"prompt": REQUEST["prompt"], "completion": answer["choices"][0]["text"]})


def serve_forever(experiment: Experiment) -> None:
    """Serve the published model until Ctrl-C.

    Raises:
        UserError: no model is published, or the address is taken.
    """
    if experiment.serving.source is None:
        published(experiment.model_stage, RunDir(experiment.run_dir))
    check_address(experiment.serving.host, experiment.serving.port)
    with connected(experiment.cluster), served(experiment, experiment.name) as url:
        say("serve", f"{experiment.name} at {url}/v1, to try in a browser at {url}, Ctrl-C to stop; or try")
        body = json.dumps({"model": experiment.name, **REQUEST})
        say("serve", f"curl {url}/v1/completions -H 'Content-Type: application/json' -d '{body}'")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            say("serve", "stopping")


@contextmanager
def served(experiment: Experiment, name: str) -> Iterator[str]:
    """The application, ready to answer, on the connected cluster; its URL.

    Args:
        experiment: the whole config.
        name: of the application, unique on the cluster.

    Raises:
        UserError: Serve is in use on this cluster.
        RuntimeError: the model cannot be loaded.
    """
    if _controller() is not None and set(serve.status().applications) <= {CHECK}:
        say(NAME, "ending the service that an interrupted run left")
        _shut_down()
    if _controller() is not None:
        raise UserError(
            "Ray Serve runs on this cluster already, for other applications; add this one to them with "
            "`serve deploy` and a file like serve/config.yaml, or take another cluster.address"
        )
    serving = experiment.serving
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    _silence_notes()
    serve.start(
        http_options={"host": serving.host, "port": serving.port},
        logging_config=quiet,
    )
    _silence_notes()  # `start` has given the logger a level and a handler of its own
    try:
        application: Any = importlib.import_module(APPLICATION)
        on_gpu = experiment.accelerator in ("auto", "gpu") and ray.cluster_resources().get("GPU", 0) >= 1
        run_dir = RunDir(experiment.run_dir)
        shared = (set(type(serving).model_fields) & set(application.ServeArgs.model_fields)) - {"source"}
        arguments = application.ServeArgs(
            source=serving.source or f"{run_dir.uri}/{DIRECTORIES[experiment.model_stage]}",
            model=experiment.name,
            device="cuda" if on_gpu else "cpu",
            tracking_uri=tracking_uri(experiment, run_dir),
            **{key: getattr(serving, key) for key in shared},
        )
        serve.run(application.build(arguments), name=name, route_prefix="/", logging_config=quiet)
        url = f"http://{serving.host}:{serving.port}"
        _wait_until_ready(url)
        yield url
    finally:
        _shut_down()


def _wait_until_ready(url: str) -> None:
    """Wait until `/health` says that the model is loaded.

    Raises:
        RuntimeError: it cannot be loaded, or is not loaded in time.
    """
    deadline = time.monotonic() + READY_SECONDS
    said = "nothing"
    while time.monotonic() < deadline:
        try:
            response = httpx.get(f"{url}/health", timeout=10)
        except httpx.TransportError as error:
            said = str(error)
        else:
            if response.status_code == 200:
                return
            said = response.text
            if "engine_failed" in said:
                break
        time.sleep(0.2)
    raise RuntimeError(f"the endpoint at {url} is not ready; it last said: {said}")


def _shut_down() -> None:
    """End the application and Serve with it, which knows one address only.

    `serve.shutdown` alone waits for an answer of a controller that ends itself, and Ray then prints that the call
    failed; so the controller is told to end without an answer first.
    """
    controller = _controller()
    if controller is not None:
        ray.get(controller.graceful_shutdown.remote(wait=False))
    deadline = time.monotonic() + SHUT_DOWN_SECONDS
    while _controller() is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    serve.shutdown()


def _controller() -> Any:
    """Serve's controller on this cluster, or None where Serve does not run."""
    try:
        return ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return None


def _silence_notes() -> None:
    """Ray Serve tells of every step at INFO; warnings and errors stay."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


STAGE = Stage(
    name=NAME,
    inputs=lambda experiment: (experiment.model_stage,),
    config=lambda experiment: {"name": experiment.name, "serving": {"engine": experiment.serving.engine}},
    run=run,
    check=check,
)
