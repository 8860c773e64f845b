"""What Prometheus reads at `/metrics`. Every figure carries its replica's name: a scrape reaches one of them."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)


class Metrics:
    """The figures of one replica, in a registry of their own."""

    def __init__(self, replica: str) -> None:
        self.registry = CollectorRegistry()
        self._replica = replica
        on, names = self.registry, ("replica",)
        self._requests = Counter(
            "codelm_requests", "Answered requests by path and status.", ("path", "status", *names), registry=on
        )
        self._seconds = Histogram(
            "codelm_request_seconds", "From a request to the end of its answer.", names, registry=on, buckets=SECONDS
        )
        self._first = Histogram(
            "codelm_time_to_first_token_seconds",
            "From a request to the first token of a completion.",
            names,
            registry=on,
            buckets=SECONDS,
        )
        self._each = Histogram(
            "codelm_time_per_output_token_seconds",
            "Between tokens after the first, the mean of a completion.",
            names,
            registry=on,
            buckets=(0.001, 0.002, *SECONDS),
        )
        self._prompt = Counter("codelm_prompt_tokens", "Tokens of prompts.", names, registry=on)
        self._generated = Counter("codelm_generated_tokens", "Tokens generated.", names, registry=on)
        self._cancelled = Counter("codelm_cancelled", "Completions whose client left.", names, registry=on)
        self._queue = Gauge("codelm_completions_waiting", "Completions without a token yet.", names, registry=on)
        self._running = Gauge("codelm_completions_running", "Completions being generated.", names, registry=on)
        for metric in (self._seconds, self._first, self._each, self._prompt, self._generated, self._cancelled):
            metric.labels(replica)
        self._queue.labels(replica)
        self._running.labels(replica)

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; `path` is a route's, so that there are few."""
        self._requests.labels(path, status, self._replica).inc()
        self._seconds.labels(self._replica).observe(seconds)

    def begin(self, prompt_tokens: int) -> "Progress":
        """A completion has been asked for."""
        self._prompt.labels(self._replica).inc(prompt_tokens)
        return Progress(self)


class Progress:
    """The figures of one completion on its way."""

    def __init__(self, metrics: Metrics, now: Callable[[], float] = time.perf_counter) -> None:
        self._metrics, self._now = metrics, now
        self._labels = (metrics._replica,)
        self._begun = now()
        self._first: float | None = None
        self._tokens = 0
        self._ended = False
        metrics._queue.labels(*self._labels).inc()

    def tokens(self, number: int) -> None:
        """So many tokens have come."""
        metrics = self._metrics
        if number and self._first is None:
            self._first = self._now()
            metrics._first.labels(*self._labels).observe(self._first - self._begun)
            metrics._queue.labels(*self._labels).dec()
            metrics._running.labels(*self._labels).inc()
        self._tokens += number
        metrics._generated.labels(*self._labels).inc(number)

    def end(self, cancelled: bool = False) -> None:
        """It has finished, or its client has left. May be called again."""
        if self._ended:
            return
        self._ended = True
        metrics = self._metrics
        (metrics._queue if self._first is None else metrics._running).labels(*self._labels).dec()
        if self._first is not None and self._tokens > 1:
            metrics._each.labels(*self._labels).observe((self._now() - self._first) / (self._tokens - 1))
        if cancelled:
            metrics._cancelled.labels(*self._labels).inc()
