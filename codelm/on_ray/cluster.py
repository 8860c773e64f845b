"""Connects to a Ray cluster, or starts one on this machine for the time of the run."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

from codelm.config import Cluster
from codelm.console import say
from codelm.errors import UserError

CONNECT_SECONDS = 3.0
REMEDY = "Start one there with `ray start --head`, or leave the address out to run on this machine."


@contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Be connected to the cluster of the config; end what was started here.

    Inside a Ray job, and where a program has connected already, that cluster is used.

    Raises:
        UserError: the address does not answer.
    """
    if ray.is_initialized():
        yield
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        check_answers(address)
    quiet_libraries()
    if address is not None:
        try:
            ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
        except ConnectionError as error:
            raise UserError(f"cluster.address {address!r}: no cluster to connect to ({error}). {REMEDY}") from error
    else:
        # The dashboard stays on: Ray Train's placement-group cleaner asks it which runs have ended.
        # Without "local" Ray joins a cluster that someone has begun on this machine with `ray start`.
        ray.init(
            address="local",
            num_cpus=cluster.num_cpus,
            object_store_memory=cluster.object_store_mb * 2**20,
            include_dashboard=True,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
        say("ray", "started on this machine")
    try:
        yield
    finally:
        ray.shutdown()


def starts_here(cluster: Cluster) -> bool:
    """Whether a run will start a cluster on this machine, so that what this machine lacks is known before."""
    return cluster.address is None and "RAY_ADDRESS" not in os.environ


def check_answers(address: str) -> None:
    """Raise UserError unless something answers at `host:port` within three seconds."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(f"cluster.address {address!r} does not answer: {error}. {REMEDY}") from error


def quiet_libraries() -> None:
    """Keep Ray's progress bars and start-up notes out of the terminal; its errors stay."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    for noisy in ("ray.data", "ray.train", "ray.tune", "ray.serve"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Notes at every start: that progress bars are off, and that token authentication is on (the default).
    for noisy in ("ray.data._internal.progress", "ray._private.authentication"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
