"""A service on several nodes that loses one while it is asked."""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

from tests.system.bench import Bench
from tests.system.nodes import BIN
from tests.system.quickstart import CONFIG, SMALL
from tests.system.storage import BUCKET

PORT = 8000
JOB = "live"
START_SECONDS, STOP_SECONDS = 240.0, 60.0
BACK_SECONDS = 180.0
EVERY_SECONDS = 0.25
QUESTION = {"model": "quickstart", "prompt": "def add(a, b):\n", "max_tokens": 8, "temperature": 0}


def kill(made: Bench) -> tuple[bool, int, str]:
    """Ask a service of two replicas all the time, kill the node of one, and wait until there are two again.

    Returns:
        Whether all answers were equal and no request failed but those within ten seconds of the kill; the nodes that
        had a replica; what happened.
    """
    made.storage.copy(["model"], "calm", "live")
    address = made.nodes.dashboard
    url = f"{address.rpartition(':')[0]}:{PORT}/v1/completions"
    command = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--no-wait"]
    command += ["--submission-id", JOB, "--"]
    command += ["codelm", "serve", CONFIG]
    for override in (*SMALL, f"run_dir=s3://{BUCKET}/live", "serving.host=0.0.0.0", f"serving.port={PORT}"):
        command += ["--set", override]
    subprocess.run(command, cwd=made.project, env=made.environment, check=True, capture_output=True)
    expected = until(lambda: ask(url), START_SECONDS)
    until(lambda: len(made.busy("endpoint")) == 2, START_SECONDS)
    victim = max(made.busy("endpoint"))
    made.kill(victim)
    killed = time.monotonic()
    failures, other, asked, back = [], 0, 0, 0.0
    looked = killed
    while time.monotonic() - killed < BACK_SECONDS and not back:
        began = time.monotonic()
        answer = ask(url)
        asked += 1
        if not answer:
            failures.append(began - killed)
        elif answer != expected:
            other += 1
        if time.monotonic() - looked > 5:
            looked = time.monotonic()
            if len(made.busy("endpoint") - {victim}) == 2:
                back = looked - killed
        time.sleep(EVERY_SECONDS)
    stop = [str(BIN / "codelm"), "stop", JOB, "--address", address]
    subprocess.run(stop, cwd=made.project, env=made.environment, check=True, capture_output=True)
    until(lambda: not made.busy("endpoint"), STOP_SECONDS)
    made.add()
    made.nodes.wait(4)
    good = bool(back) and not other and all(moment < 10 for moment in failures)
    last = f", the last {max(failures):.0f} s after it" if failures else ""
    text = f"{victim} killed; {asked} requests, {len(failures)} failed{last}, {other} answered otherwise; two replicas "
    return good, 2, f"{text}{f'again after {back:.0f} s' if back else f'not again in {BACK_SECONDS:.0f} s'}"


def ask(url: str) -> str:
    """The service's completion, or nothing."""
    try:
        response = httpx.post(url, json=QUESTION, timeout=20)
        return str(response.raise_for_status().json()["choices"][0]["text"])
    except httpx.HTTPError:
        return ""


Found = TypeVar("Found")


def until(look: Callable[[], Found], seconds: float) -> Found:
    """Look until there is something; what it is."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, look
        time.sleep(0.5)
    return found
