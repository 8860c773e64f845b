"""An engine without a model, whose completions go on until they are let end or cancelled."""

import threading

from codelm.inference.codec import Codec
from codelm.inference.engine import Delta, Request, TokenScore
from tests.inference.tiny import tiny_tokenizer


class EndlessEngine:
    """Each step gives each request an "x"; once `ending` is set it is the last. Fails on a prompt "fail"."""

    max_positions = 64

    def __init__(self) -> None:
        self.codec = Codec(tiny_tokenizer())
        self.running: dict[int, Request] = {}
        self.cancelled = threading.Event()
        self.ending = threading.Event()
        self._added = 0

    def busy(self) -> bool:
        return bool(self.running)

    def add(self, request: Request) -> int:
        self._added += 1
        self.running[self._added] = request
        return self._added

    def step(self) -> list[tuple[int, Delta]]:
        if any(request.prompt == self.codec.encode("fail") for request in self.running.values()):
            raise MemoryError("no room")
        ended = self.ending.is_set()
        deltas = [(number, Delta("x", (50,), "stop" if ended else None)) for number in self.running]
        if ended:
            self.running.clear()
        return deltas

    def cancel(self, number: int) -> None:
        if self.running.pop(number, None) is not None:
            self.cancelled.set()

    def score(self, ids: tuple[int, ...], top: int = 0) -> list[TokenScore]:
        if ids == self.codec.encode("fail"):
            raise MemoryError("no room")
        return [TokenScore(ids[0], None), *(TokenScore(token, -1.0, ((token, -1.0),)[:top]) for token in ids[1:])]
