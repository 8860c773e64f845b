"""The thread round an engine: cancelling, refusing, failing, loading."""

import asyncio
import threading
from contextlib import aclosing

import pytest

from codelm.inference.engine import Engine, Request, generate, load_engine
from serve.scheduler import Scheduler
from tests.serve.fake import EndlessEngine

ONE = Request((40, 41), 8)


async def loaded(scheduler: Scheduler) -> Engine:
    while scheduler.engine is None:
        await asyncio.sleep(0.001)
    return scheduler.engine


def test_closing_cancels_in_the_engine() -> None:
    engine = EndlessEngine()

    async def leave() -> None:
        scheduler = Scheduler(lambda: engine)
        async with aclosing(scheduler.run([ONE, ONE])) as deltas:
            async for _ in deltas:
                assert scheduler.active == 1
                break
        assert scheduler.active == 0
        assert await asyncio.to_thread(engine.cancelled.wait, 30)
        while engine.running:
            await asyncio.sleep(0.001)
        scheduler.close()

    asyncio.run(leave())


def test_cancelling_the_task_cancels_in_the_engine() -> None:
    engine = EndlessEngine()

    async def read(scheduler: Scheduler) -> None:
        async for _ in scheduler.run([ONE]):
            pass

    async def cancel() -> None:
        scheduler = Scheduler(lambda: engine)
        task = asyncio.create_task(read(scheduler))
        while not engine.running:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(engine.cancelled.wait, 30)
        scheduler.close()

    asyncio.run(cancel())


def test_a_failed_step_reaches_those_who_wait_and_those_who_come() -> None:
    engine = EndlessEngine()

    async def fail() -> None:
        scheduler = Scheduler(lambda: engine)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the engine has failed: no room"):
                async for _ in scheduler.run([Request(engine.codec.encode("fail"), 1)]):
                    pass
        assert isinstance(scheduler.failure, MemoryError)
        assert scheduler.active == 0

    asyncio.run(fail())


def test_a_model_that_cannot_be_loaded_is_a_failure() -> None:
    async def fail() -> None:
        def load() -> Engine:
            raise FileNotFoundError("no tokenizer.json")

        scheduler = Scheduler(load)
        while scheduler.failure is None:
            await asyncio.sleep(0.001)
        assert scheduler.engine is None

    asyncio.run(fail())


def test_requests_wait_while_the_engine_is_loaded() -> None:
    engine, may_load = EndlessEngine(), threading.Event()
    engine.ending.set()

    def load() -> Engine:
        may_load.wait()
        return engine

    async def wait() -> None:
        scheduler = Scheduler(load)
        task = asyncio.ensure_future(anext(scheduler.run([ONE])))
        await asyncio.sleep(0)
        assert scheduler.engine is None
        may_load.set()
        ((place, delta),) = await task
        assert (place, delta.text) == (0, "x")
        scheduler.close()

    asyncio.run(wait())


def test_requests_at_the_same_time_are_answered_as_alone(tiny_model) -> None:  # type: ignore[no-untyped-def]
    requests = [Request((40 + seed, 41), 20, seed=seed) for seed in range(6)]
    alone = [generate(load_engine("transformers", tiny_model), [request])[0].text for request in requests[:1]]
    alone += [done.text for done in generate(load_engine("transformers", tiny_model), requests[1:])]

    async def text(scheduler: Scheduler, request: Request) -> str:
        return "".join([delta.text async for items in scheduler.run([request]) for _, delta in items])

    async def together() -> list[str]:
        scheduler = Scheduler(lambda: load_engine("transformers", tiny_model, max_batch=3))
        texts = await asyncio.gather(*(text(scheduler, request) for request in requests))
        scheduler.close()
        return texts

    assert asyncio.run(together()) == alone


def test_what_the_engine_refuses_is_a_value_error(tiny_model) -> None:  # type: ignore[no-untyped-def]
    async def refuse() -> None:
        scheduler = Scheduler(lambda: load_engine("transformers", tiny_model))
        with pytest.raises(ValueError, match="outside"):
            async for _ in scheduler.run([ONE, Request((9999,), 4)]):
                pass
        engine = await loaded(scheduler)
        while engine.busy():
            await asyncio.sleep(0.001)
        scheduler.close()

    asyncio.run(refuse())
