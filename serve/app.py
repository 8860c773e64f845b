"""The Ray Serve application: `serve deploy serve/config.yaml`, `codelm serve`, and the endpoint stage run it."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from codelm.config.engines import EngineName, Precision
from codelm.inference.engine import Engine, Options, load_engine
from codelm.inference.extent import Extent
from serve.api import Access, make_api
from serve.errors import RETRY_AFTER_SECONDS
from serve.guard import read_keys
from serve.metrics import Metrics
from serve.models import Found, find_model, version_of
from serve.scheduler import Scheduler
from serve.service import Service

LOG = logging.getLogger("ray.serve.codelm")
HEAD_ROOM = 512
"""Requests that Serve lets through to a full replica, so that it can refuse them in the API's words and answer
`/health`; and those that wait in Serve while it looks for a replica. Only what is over both Serve refuses itself, in
plain text."""
HEALTH_SECONDS = 2.0
"""Between Serve's looks at a replica: so long it takes at most until a dead one is noticed."""

POLL_SECONDS = 0.05
"""Between looks whether a model has been loaded."""

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class ServeArgs(BaseModel):
    """What `args` of `serve/config.yaml` may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    """The model: its directory, a run directory (path or URI), `models:/NAME@ALIAS` of MLflow's registry, or a name on
    the hub. `user_config: {source: ...}` of the deployment takes its place, and can be changed while it runs."""
    model: str
    """Its name in the API. Without "gpt" in it: editors would send chat templates to it."""
    engine: EngineName = "auto"
    precision: Precision = "auto"
    cache_mb: PositiveInt = 1024
    """MiB for keys and values."""
    threads: PositiveInt | None = None
    """Of a CPU; None takes all cores of the machine."""
    device: str = "cpu"
    """As torch names it; with `cuda` a replica takes a GPU of the cluster."""
    replicas: PositiveInt = 1
    autoscaling: AutoscalingConfig | None = None
    """Ray Serve's, in place of `replicas`."""
    max_ongoing_requests: PositiveInt = 16
    """Completions that a replica generates at the same time."""
    max_queued_requests: PositiveInt = 64
    """Requests that wait for that; more are refused."""
    max_prompt_tokens: PositiveInt | None = None
    """None takes the model's positions."""
    max_seconds: PositiveFloat | None = None
    """An answer is what there is by then; None waits for its end."""
    max_body_bytes: PositiveInt = 2 << 20
    """More is refused."""
    api_keys_file: str | None = None
    """One key a line; those of CODELM_API_KEYS, separated by commas, count as well. Without any, none is asked for."""
    cors_origins: tuple[str, ...] = ()
    """Origins of pages that browsers let ask, `*` for all."""
    editor_extent: Extent = "block"
    """How far completions go where the editor's protocol does not say."""
    log_requests: bool = False
    """Log path, status and time of each answer."""
    log_prompts: bool = False
    """Log what users wrote."""
    tracking_uri: str | None = None
    """MLflow's address, for its registry; None takes MLFLOW_TRACKING_URI."""
    refresh_seconds: PositiveFloat | None = None
    """Look so often whether the source has another version, and serve that; None stays with the first."""
    drain_seconds: PositiveFloat = 30.0
    """What runs when a replica is to end may go on so long."""


class Completions:
    """One replica. The first one answers at once, with 503 until its model is loaded."""

    def __init__(self, args: ServeArgs) -> None:
        if args.log_requests or args.log_prompts:
            LOG.setLevel(logging.INFO)  # however little Ray Serve is to tell of itself
        self._args = args
        self._source: str | None = None
        self._swapping = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._service = Service(
            None,
            args.model,
            max_active=args.max_ongoing_requests + args.max_queued_requests,
            max_prompt_tokens=args.max_prompt_tokens,
            max_seconds=args.max_seconds,
            editor_extent=args.editor_extent,
            log_prompts=args.log_prompts,
            device=args.device,
            metrics=Metrics(serve.get_replica_context().replica_id.unique_id),
        )
        self._access = Access(
            read_keys(args.api_keys_file), args.cors_origins, args.max_body_bytes, log=args.log_requests
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_api(self._service, self._access)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve another source's model; Serve calls this at the start, and when `user_config` changes.

        It returns at once: what is served goes on until the other model is loaded, and then ends what it has begun.
        A replica that starts beside others returns when its model is loaded: Serve asks the others until then.

        Raises:
            Exception: what ended the load of such a replica.
        """
        begins = self._source is None
        if begins and self._args.refresh_seconds is not None:
            self._begin(self._refresh(self._args.refresh_seconds))
        self._source = user_config["source"]
        swap = self._begin(self._swap(self._source))
        if begins and await asyncio.to_thread(others_answer):
            await swap
            if self._service.current is not None and self._service.current.failure is not None:
                raise self._service.current.failure

    def check_health(self) -> None:
        """Raise what ended the engine: Serve then replaces the replica.

        A model that could not be loaded another replica could not load either: `/health` says why.
        """
        current = self._service.current
        if current is not None and current.engine is not None and current.failure is not None:
            raise current.failure

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _refresh(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            if self._source is None or self._swapping.locked():
                continue
            try:
                version = await asyncio.to_thread(version_of, self._source, self._args.tracking_uri)
            except Exception as error:  # noqa: BLE001  (a registry that is away: what is served stays)
                LOG.warning("cannot look for another version of %s: %s", self._source, error)
                continue
            if version not in (None, self._service.version):
                await self._swap(self._source)

    async def _swap(self, source: str) -> None:
        async with self._swapping:
            found: list[Found] = []

            def load() -> Engine:
                found.append(find_model(source, self._args.tracking_uri))
                args = self._args
                options = Options(
                    max_batch=args.max_ongoing_requests,
                    precision=args.precision,
                    cache_mb=args.cache_mb,
                    # Not as many as Ray counts CPUs for the replica: that is one.
                    threads=args.threads or len(os.sched_getaffinity(0)),
                )
                return load_engine(args.engine, found[0].directory, args.device, options=options)

            old, new = self._service.current, Scheduler(load)
            if old is None or old.engine is None:
                self._service.current = new  # there is nothing better to answer with
            while new.engine is None and new.failure is None:
                await asyncio.sleep(POLL_SECONDS)
            if new.failure is not None:
                LOG.error("cannot load %s: %s", source, new.failure)
                return
            self._service.current, self._service.version = new, found[0].version
            LOG.info("serving version %s of %s", found[0].version, source)
            if old is not None:
                self._begin(old.drain())


def others_answer() -> bool:
    """Whether this replica begins beside others."""
    here = serve.get_replica_context()
    if here.rank.rank > 0:
        return True
    # The first of them all, or one in the place of a lost one, or of a new version of the application.
    application = serve.status().applications[here.app_name]
    return "RUNNING" in application.deployments[here.deployment].replica_states


def build(args: ServeArgs) -> Application:
    """The application for `serve.run` and for Serve's config files."""
    deployment = serve.deployment(
        name="completions",
        num_replicas=args.replicas if args.autoscaling is None else None,
        autoscaling_config=args.autoscaling,
        user_config={"source": args.source},
        ray_actor_options={"num_cpus": 1, "num_gpus": int(args.device.startswith("cuda"))},
        max_ongoing_requests=args.max_ongoing_requests + args.max_queued_requests + HEAD_ROOM,
        max_queued_requests=HEAD_ROOM,
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_AFTER_SECONDS),
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=args.drain_seconds,
    )
    return deployment(serve.ingress()(Completions)).bind(args)
