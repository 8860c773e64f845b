"""Seconds of the parts of a stage."""

import time


class Stopwatch:
    """Seconds that the parts of the work took, one after the other, by name.

    Args:
        elapsed: seconds that the first part has taken already.
    """

    def __init__(self, elapsed: float = 0.0) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic() - elapsed

    def lap(self, name: str, at: float | None = None) -> None:
        """End a part, now or at a time in seconds since 1970."""
        now = time.monotonic() - (0.0 if at is None else time.time() - at)
        self.laps[name], self._last = round(now - self._last, 2), now
