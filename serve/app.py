"""The Ray Serve application: `serve deploy serve/config.yaml`, `codelm serve`, and the endpoint stage run it."""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig

from codelm.inference.engine import Engine, load_engine
from codelm.run_dir import RunDir
from serve.api import Service, make_api
from serve.errors import RETRY_AFTER_SECONDS
from serve.scheduler import Scheduler

HEAD_ROOM = 8
"""Requests that Serve lets through to a full replica, so that it can refuse them in the API's words and answer
`/health`. What is over that waits in Serve's queue, and Serve refuses the rest."""

PositiveInt = Annotated[int, Field(gt=0)]


class ServeArgs(BaseModel):
    """What `args` of `serve/config.yaml` may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_dir: str
    """Where the model is published: a run directory's path or URI."""
    directory: str = "model"
    """Which of the run's models: the one that was trained there, or `finetuned`."""
    model: str
    """Its name in the API. Without "gpt" in it: editors would send chat templates to it."""
    engine: str = "transformers"
    device: str = "cpu"
    """As torch names it; with `cuda` a replica takes a GPU of the cluster."""
    replicas: PositiveInt = 1
    max_ongoing_requests: PositiveInt = 16
    """Completions that a replica generates at the same time."""
    max_queued_requests: PositiveInt = 64
    """Requests that wait for that; more are refused."""
    max_prompt_tokens: PositiveInt | None = None
    """None takes the model's positions."""


class Completions:
    """One replica: it answers at once, with 503 until its model is loaded."""

    def __init__(self, args: ServeArgs) -> None:
        def load_model() -> Engine:
            directory = RunDir(args.run_dir).local_copy(args.directory)
            return load_engine(args.engine, directory, args.device, args.max_ongoing_requests)

        self._scheduler = Scheduler(load_model)
        self._service = Service(
            self._scheduler,
            args.model,
            args.max_ongoing_requests + args.max_queued_requests,
            args.max_prompt_tokens,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_api(self._service)

    def check_health(self) -> None:
        """Raise what ended the engine: Serve then replaces the replica."""
        if self._scheduler.failure is not None:
            raise self._scheduler.failure


def build(args: ServeArgs) -> Application:
    """The application for `serve.run` and for Serve's config files."""
    deployment = serve.deployment(
        name="completions",
        num_replicas=args.replicas,
        ray_actor_options={"num_cpus": 1, "num_gpus": int(args.device.startswith("cuda"))},
        max_ongoing_requests=args.max_ongoing_requests + args.max_queued_requests + HEAD_ROOM,
        max_queued_requests=args.max_queued_requests,
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_AFTER_SECONDS),
    )
    return deployment(serve.ingress()(Completions)).bind(args)
