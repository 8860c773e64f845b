"""The application on a real socket, without Ray: `python -m tests.serve.local MODEL_DIR PORT` serves until killed."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn

from codelm.inference.engine import load_engine
from serve.api import Access, make_api
from serve.scheduler import Scheduler
from serve.service import Service


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server(service: Service, port: int, access: Access | None = None) -> uvicorn.Server:
    config = uvicorn.Config(make_api(service, access or Access()), port=port, log_level="error", lifespan="off")
    return uvicorn.Server(config)


@contextmanager
def serving(service: Service, access: Access | None = None) -> Iterator[str]:
    """The address of the service, which listens until the block ends."""
    port = free_port()
    running = server(service, port, access)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started or (service.current is not None and service.current.engine is None):
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join()


def service_of(model: Path, max_active: int = 64, engine: str = "transformers", **keys: Any) -> Service:
    return Service(Scheduler(lambda: load_engine(engine, model, max_batch=16)), "tiny", max_active, **keys)


if __name__ == "__main__":
    torch.set_num_threads(1)
    server(service_of(Path(sys.argv[1])), int(sys.argv[2])).run()
