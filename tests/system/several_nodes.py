"""The quickstart's pipeline on several Ray nodes with S3, against the same on one node, and with what goes wrong there.
Run by hand as root, since it makes network namespaces; a case takes a minute or more:

    python -m tests.system.several_nodes              every case
    python -m tests.system.several_nodes NAME ...     the cases whose names begin so, such as `kill` or `disk-corpus`

The nodes are a head without CPUs and three workers, each with its own address, its own disk and its own processes
(`tests.system.machines`). Every case starts from what the calm run has published, and its result has to be equal.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import Popen

from codelm.run_dir import DIRECTORIES
from tests.system import serving_nodes
from tests.system.bench import WORK, Bench, Result, bench
from tests.system.refusals import refusals, refused
from tests.system.storage import KEYS

STAGES = ("corpus", "tokenizer", "pack", "pretrain", "export", "evaluate", "endpoint", "sweep")
OUTAGE_SECONDS = 30.0


@dataclass(frozen=True)
class Moment:
    """When something happens to a stage: in its midst.

    Attributes:
        stage: its name.
        key: what the name of an object matches that is in storage by then; empty for the first work that is seen.
    """

    stage: str
    key: str = ""


MOMENTS = {
    "corpus": Moment("corpus", r"\.texts$"),
    "tokenizer": Moment("tokenizer"),
    "pack": Moment("pack"),
    "pretrain": Moment("pretrain", r"step-0*20/"),
    "sweep": Moment("sweep", r"step-0*20/"),
    "generation": Moment("evaluate", r"parts/samples-0"),
    "judging": Moment("evaluate", r"parts/canonical-0"),
    "serving": Moment("endpoint"),
}
OUTAGES = ("corpus", "pack", "pretrain", "generation")
FULL_DISKS = ("corpus", "pretrain", "evaluate")


@dataclass(frozen=True)
class Verdict:
    """How a case ended.

    Attributes:
        case: its name.
        good: whether it held.
        nodes: that its stage used.
        text: what happened.
    """

    case: str
    good: bool
    nodes: int
    text: str

    def __str__(self) -> str:
        return f"{self.case:22} {'held' if self.good else 'FAILED':7} {self.nodes} nodes  {self.text}"


def calm(made: Bench, cases: Iterable[str]) -> list[Verdict]:
    """The pipeline by one submission, and a sweep if a case compares it; which nodes each stage used."""
    jobs = ("pipeline", "sweep") if COMPARE_SWEEPS.intersection(cases) else ("pipeline",)
    return [verdict for job in jobs for verdict in calm_job(made, job)]


def calm_job(made: Bench, job: str) -> list[Verdict]:
    """One of them."""
    before = made.known()
    result = made.run(job, "calm")
    assert result.status == 0, result.log
    used, verdicts = made.used(before), []
    for stage in STAGES[:-1] if job == "pipeline" else (job,):
        manifest = made.manifest(stage, "calm")
        assert manifest is not None, stage
        nodes = len(used[stage]) if stage in WORK else 1
        good = nodes > 1 or stage == "export"  # writes one file, in the driver
        verdicts.append(Verdict(f"calm-{stage}", good, nodes, f"{manifest.facts['seconds']:.0f} s"))
    return verdicts


def kill(made: Bench, name: str) -> list[Verdict]:
    """SIGKILL of a node that works for a stage. The others finish it; only then another node takes its place."""
    moment, run, before = MOMENTS[name], f"kill-{name}", made.known()
    process, began = begin(made, moment.stage, run)
    victim = wait_for(made, moment, run, process)
    if not victim:
        return [Verdict(run, False, 0, "the stage ended before a node was killed")]
    made.kill(victim)
    killed = time.monotonic() - began
    result = made.finish(process, moment.stage, run, began)
    nodes = len(made.used(before)[moment.stage])
    made.add()
    made.nodes.wait(4)
    return judged(made, run, moment.stage, nodes, result, f"{victim} killed after {killed:.0f} s")


def outage(made: Bench, name: str) -> list[Verdict]:
    """S3 answers 503 for half a minute."""
    moment, run, before = MOMENTS[name], f"storage-{name}", made.known()
    process, began = begin(made, moment.stage, run)
    if not wait_for(made, moment, run, process):
        return [Verdict(run, False, 0, "the stage ended before the outage")]
    made.storage.refused, made.storage.down = 0, True
    time.sleep(OUTAGE_SECONDS)
    made.storage.down = False
    result = made.finish(process, moment.stage, run, began)
    nodes = len(made.used(before)[moment.stage])
    return judged(made, run, moment.stage, nodes, result, f"{made.storage.refused} requests refused")


def full_disks(made: Bench, name: str) -> list[Verdict]:
    """The disks of all workers are full; when they have room again, the stage ends as it should."""
    run, before = f"disk-{name}", made.known()
    workers = made.workers()
    for machine in workers:
        machine.fill()
    try:
        process, began = begin(made, name, run)
        result = made.finish(process, name, run, began)
    finally:
        for machine in workers:
            machine.empty()
    nodes = len(made.used(before)[name])
    return judged(made, run, name, nodes, result, "no room on the workers' disks")


def one_node(made: Bench) -> list[Verdict]:
    """The same on one node with as many CPUs; run last, since it replaces the cluster."""
    made.nodes.close()
    made.nodes.start_head(on=made.machine(), cpus=3)
    for job in ("pipeline", "sweep"):
        result = made.run(job, "one")
        assert result.status == 0, result.log
    wrong = {stage: made.differing(stage, "calm", "one") for stage in STAGES}
    return [
        Verdict(f"one-node-{stage}", not names, 1, f"differing: {', '.join(names) or 'none'}")
        for stage, names in wrong.items()
    ]


def begin(made: Bench, stage: str, run: str) -> tuple["Popen[bytes]", float]:
    """Submit a stage on a copy of what the calm run made before it."""
    before = [name for name in STAGES if list(DIRECTORIES).index(name) < list(DIRECTORIES).index(stage)]
    made.storage.copy([DIRECTORIES[name] for name in before], "calm", run)
    return made.submit(stage, run), time.monotonic()


def wait_for(made: Bench, moment: Moment, run: str, process: "Popen[bytes]") -> str:
    """Wait for a moment; the address of a node that is at work then, empty where the stage ended before."""
    prefix = f"{run}/{DIRECTORIES[moment.stage]}/"
    while moment.key and not any(re.search(moment.key, key) for key in made.storage.keys(prefix)):
        if process.poll() is not None:
            return ""
        time.sleep(0.2)
    while process.poll() is None:
        at_work = made.busy(moment.stage)
        if at_work:
            return max(at_work)
        time.sleep(0.2)
    return ""


def judged(made: Bench, run: str, stage: str, nodes: int, result: Result, what: str) -> list[Verdict]:
    """Whether a stage has ended right, or in one clear error after which it goes on to the same result."""
    ended = f"{what}; exit status {result.status} after {result.seconds:.0f} s"
    said = [line for line in result.log.splitlines() if line.startswith("error: ")]
    clear = result.status == 0 or (len(said) == 1 and "Traceback" not in result.log)
    if result.status:
        print(result.log[-4000:], flush=True)
        ended += f", {said[0] if said else 'without a clear error'}"
        again = made.run(stage, run)
        ended += f"; again: {again.status} after {again.seconds:.0f} s"
        if again.status:
            print(again.log[-4000:], flush=True)
    wrong = made.differing(stage, "calm", run)
    return [Verdict(run, clear and not wrong, nodes, f"{ended}; differing: {', '.join(wrong) or 'none'}")]


def secrets(made: Bench) -> list[Verdict]:
    """Neither the cluster's token nor the storage's key are in anything that the calm run has left."""
    planted = [Path(made.environment["RAY_AUTH_TOKEN_PATH"]).read_bytes(), KEYS["AWS_SECRET_ACCESS_KEY"].encode()]
    places = dict(made.left_behind("calm"))
    found = sorted(name for name, content in places.items() if any(secret in content for secret in planted))
    size = sum(map(len, places.values())) / 1e6
    return [Verdict("secrets", not found, 4, f"{len(places)} files, {size:.0f} MB; in: {', '.join(found) or 'none'}")]


def bad_input(made: Bench) -> list[Verdict]:
    """What can be wrong with a submission, one after the other."""
    verdicts = []
    for one in refusals(made):
        good, text = refused(made, one)
        verdicts.append(Verdict(f"refused-{one.name}", good, 0, text))
    return verdicts


def live_service(made: Bench) -> list[Verdict]:
    """A service that is asked all the time loses a node."""
    return [Verdict("kill-live-service", *serving_nodes.kill(made))]


CASES: dict[str, Callable[[Bench], list[Verdict]]] = {
    "secrets": secrets,
    "refused": bad_input,
    **{f"kill-{name}": partial(kill, name=name) for name in MOMENTS},
    "kill-live-service": live_service,
    **{f"storage-{name}": partial(outage, name=name) for name in OUTAGES},
    **{f"disk-{name}": partial(full_disks, name=name) for name in FULL_DISKS},
    "one-node": one_node,
}
COMPARE_SWEEPS = {"kill-sweep", "one-node"}


def main() -> None:
    """Run the cases that are asked for, one after the other, and print the table."""
    asked = tuple(sys.argv[1:]) or ("",)
    cases = [case for case in CASES if case.startswith(asked)]
    with bench() as made:
        made.start()
        verdicts = calm(made, cases)
        print("\n".join(map(str, verdicts)), flush=True)
        for case in cases:
            new = CASES[case](made)
            verdicts += new
            print("\n".join(map(str, new)), flush=True)
    print("\n".join(map(str, verdicts)), flush=True)
    sys.exit(0 if all(verdict.good for verdict in verdicts) else 1)


if __name__ == "__main__":
    main()
