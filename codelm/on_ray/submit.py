"""`codelm submit`, `jobs`, `logs` and `stop`: Ray's job API, with live logs and the job's own exit status."""

import asyncio
import logging
import os
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType

from codelm import __version__
from codelm.console import say
from codelm.errors import UserError
from codelm.submission.preflight import Asked, Ready
from codelm.submission.server import headers

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Ray prefers it, and RAY_ADDRESS, to the address that its client is given."""
POLL_SECONDS = 0.5
AGENT_SECONDS = 60.0
"""The dashboard answers some seconds before the agent that starts jobs."""
SAY_AGAIN_SECONDS = 10.0
LOST_SECONDS = 120.0
"""That the cluster may not answer, as while its head restarts, before following ends."""
OWN = "CODELM_SUBMISSION"
"""Makes each job's environment another one for Ray: where one could not be made on a node, as on a full disk, Ray
refuses the same one there for ten minutes more, whatever has been mended."""
INTERRUPTED = 130
"""The exit status of what Ctrl-C has ended, by custom of shells."""
NOISY = ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")


def connect(address: str, token: str | None) -> JobSubmissionClient:
    """A client of the job API at an address that `codelm.submission.server` has found to answer."""
    os.environ[ADDRESS_VARIABLE] = address
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    return JobSubmissionClient(address, headers=headers(token))


def submit(client: JobSubmissionClient, asked: Asked, ready: Ready) -> str:
    """Upload the working directory and start the job; its id.

    Raises:
        UserError: the cluster refuses it.
    """
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return client.submit_job(
                entrypoint=ready.entrypoint,
                runtime_env={"working_dir": str(asked.working_dir), "env_vars": {OWN: uuid.uuid4().hex}},
                metadata={"codelm": __version__, "stage": asked.stage, "experiment": ready.experiment.name},
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise UserError(f"{asked.address} refused the job: {error}; its dashboard says more") from error
            time.sleep(POLL_SECONDS)


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print a job's log as it grows until the job ends; its exit status.

    Ctrl-C asks whether to stop the job or to leave it running.

    Raises:
        UserError: there is no such job, or the cluster has not answered for two minutes.
    """
    printer = _Printer(client, job)
    while True:
        try:
            asyncio.run(printer.run())
            return ending(_details(client, job))
        except KeyboardInterrupt:
            if not _stop_wanted(job):
                say("job", f"{job} goes on; `codelm logs {job}` follows it again, `codelm stop {job}` ends it")
                return 0
            stop(client, job)
            return INTERRUPTED


def stop(client: JobSubmissionClient, job: str) -> None:
    """End a job and wait until it has ended.

    Raises:
        UserError: there is no such job.
    """
    if not _details(client, job).status.is_terminal():
        client.stop_job(job)
        say("job", f"stopping {job}")
        while not client.get_job_status(job).is_terminal():
            time.sleep(POLL_SECONDS)
    say("job", f"{job} has ended: {client.get_job_status(job).value.lower()}")


def ending(details: JobDetails) -> int:
    """Say how a job ended, where not well; the exit status of its program, or 1 where it had none."""
    if details.status == JobStatus.SUCCEEDED:
        return 0
    # After its first line the message repeats the log.
    reason = (details.message or "no reason is known").partition(", last available logs")[0]
    say("job", f"{details.submission_id} {details.status.value.lower()}: {reason}")
    if details.status == JobStatus.STOPPED:
        return INTERRUPTED
    return details.driver_exit_code or 1


def listing(client: JobSubmissionClient) -> Sequence[tuple[str, ...]]:
    """The submitted jobs, newest first: id, status, stage and experiment, start, seconds, command."""
    jobs = [job for job in client.list_jobs() if job.type == JobType.SUBMISSION]
    return [_row(job) for job in sorted(jobs, key=lambda job: -(job.start_time or 0))]


def _row(job: JobDetails) -> tuple[str, ...]:
    metadata = job.metadata or {}
    start = datetime.fromtimestamp((job.start_time or 0) / 1000)
    seconds = (job.end_time or time.time() * 1000) / 1000 - (job.start_time or 0) / 1000
    return (
        job.submission_id or "",
        job.status.value.lower(),
        f"{metadata.get('stage', '')} {metadata.get('experiment', '')}".strip(),
        f"{start:%Y-%m-%d %H:%M:%S}",
        f"{seconds:,.0f} s",
        job.entrypoint,
    )


def _details(client: JobSubmissionClient, job: str) -> JobDetails:
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        raise UserError(f"there is no job {job!r} on this cluster; `codelm jobs` lists those that there are") from error


def _stop_wanted(job: str) -> bool:
    """Ask at a terminal; elsewhere nobody can answer, and the job goes on."""
    if not sys.stdin.isatty():
        return False
    with suppress(EOFError, KeyboardInterrupt):
        return input(f"\nStop {job}, or leave it running and detach? [s/D] ").strip().lower().startswith("s")
    return False


class _Printer:
    """Prints a job's log once, whatever happens to the connection."""

    def __init__(self, client: JobSubmissionClient, job: str) -> None:
        self._client, self._job = client, job
        self._printed = 0
        self._told = ""
        self._told_at = 0.0

    async def run(self) -> None:
        """Print until the job has ended and its log is all there.

        Raises:
            UserError: the cluster has not answered for two minutes.
        """
        answered = time.monotonic()
        while True:
            try:
                details = _details(self._client, self._job)
                if details.status != JobStatus.PENDING:
                    await self._tail()
                elif details.message:
                    self._tell(details.message)
                answered = time.monotonic()
                if details.status.is_terminal():
                    return
            except (RuntimeError, OSError) as error:
                if time.monotonic() - answered > LOST_SECONDS:
                    raise UserError(
                        f"the cluster has not answered for {LOST_SECONDS:.0f} s ({error}); `codelm logs {self._job}` "
                        "goes on when it does"
                    ) from error
            await asyncio.sleep(POLL_SECONDS)

    async def _tail(self) -> None:
        """Ray sends the whole log again to each new connection."""
        seen = 0
        async for text in self._client.tail_job_logs(self._job):
            fresh = text[max(0, self._printed - seen) :]
            seen += len(text)
            if fresh:
                sys.stdout.write(fresh)
                sys.stdout.flush()
            self._printed = max(self._printed, seen)

    def _tell(self, message: str) -> None:
        """Say why the job has not started; again after a while, for a wait without a word looks like a hang."""
        now = time.monotonic()
        if message != self._told or now - self._told_at > SAY_AGAIN_SECONDS:
            self._told, self._told_at = message, now
            say("job", message)
