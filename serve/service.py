"""What the routes share: the model that is served, how much work is let in, and the figures."""

import time
from dataclasses import dataclass, field

from codelm.inference.engine import Engine
from codelm.inference.extent import Extent
from serve.errors import ApiError, unavailable
from serve.metrics import Metrics
from serve.scheduler import Scheduler


@dataclass
class Service:
    """What the routes need.

    Attributes:
        current: the engine's scheduler; another takes its place when another version of the model has been loaded.
            None before it is known what to load.
        model: its name in the API.
        max_active: requests at a time, those that wait for the engine among them; more are refused.
        max_prompt_tokens: None for as many as the model has positions.
        max_completions: of one request, over all its prompts.
        max_seconds: a request's answer is what there is by then; None for no end.
        editor_extent: how far completions go that editors ask for by their own protocols.
        log_prompts: whether logs may hold what users wrote.
        version: of the model, where its source has versions.
        device: what the model runs on, as torch names it.
    """

    current: Scheduler | None
    model: str
    max_active: int
    max_prompt_tokens: int | None = None
    max_completions: int = 256
    max_seconds: float | None = None
    editor_extent: Extent = "block"
    log_prompts: bool = False
    version: str | None = None
    device: str = "cpu"
    metrics: Metrics = field(default_factory=lambda: Metrics("0"))
    created: int = field(default_factory=lambda: int(time.time()))
    admitted: int = 0

    @property
    def scheduler(self) -> Scheduler:
        """The engine's scheduler, or a 503 while there is none whose engine is loaded."""
        scheduler = self.current
        if scheduler is not None and scheduler.failure is not None:
            raise unavailable(f"the model cannot be served: {scheduler.failure}", "engine_failed")
        if scheduler is None or scheduler.engine is None:
            raise unavailable(f"model {self.model!r} is being loaded; try again soon", "loading")
        return scheduler

    def engine(self) -> Engine:
        """The engine, or a 503 while there is none."""
        engine = self.scheduler.engine
        assert engine is not None
        return engine

    def allowed_prompt(self) -> int:
        """Tokens that a prompt may have."""
        room = self.engine().max_positions
        return min(self.max_prompt_tokens or room, room - 1)

    def seconds(self, milliseconds: int | None) -> float | None:
        """The time for an answer: what was asked for, and no more than the service gives."""
        limits = [self.max_seconds, None if milliseconds is None else milliseconds / 1000]
        return min((limit for limit in limits if limit is not None), default=None)

    def check_model(self, name: str | None) -> None:
        """Refuse to answer for another model."""
        if name not in (None, "", self.model):
            message = f"no model {name!r} here; this endpoint serves {self.model!r}"
            raise ApiError(404, message, "model", "model_not_found")

    def admit(self) -> "Slot":
        """A place for one request, to be given back; a 503 if there is none."""
        if self.admitted >= self.max_active:
            raise unavailable(f"{self.max_active} requests are under way, which is all there is room for", "busy")
        return Slot(self)


class Slot:
    """A request's place among those that are under way."""

    def __init__(self, service: Service) -> None:
        self._service: Service | None = service
        service.admitted += 1

    def free(self) -> None:
        """Give the place back. May be called again."""
        if self._service is not None:
            self._service.admitted -= 1
            self._service = None
