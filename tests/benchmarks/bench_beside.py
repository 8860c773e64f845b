"""What Ray's processes take beside a training that runs here: `python -m tests.benchmarks.bench_beside [SECONDS]`.

It is taken from the training where there are few cores, and bounds from below what Ray costs, whatever the noise of a
machine does to a comparison of two rates (`bench_training ray`).
"""

import os
import sys
import time
from collections import Counter

import psutil

WORKER, ACTORS = "ray::RayTrainWorker", "ray::"
DAEMONS = "site-packages/ray/"


def kinds() -> Counter[str]:
    """CPU seconds so far of the processes of each kind."""
    seconds: Counter[str] = Counter()
    for process in psutil.process_iter():
        try:
            command, spent = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:
            continue
        if command.startswith(WORKER):
            kind = "workers of the training"
        elif command.startswith(ACTORS):
            kind = "actors of Ray Train and ours"
        elif DAEMONS in command:
            kind = "Ray's daemons"
        else:
            continue
        seconds[kind] += spent.user + spent.system
    return seconds


def main(duration: float) -> None:
    """Print the cores that each kind has taken."""
    before, began = kinds(), time.monotonic()
    time.sleep(duration)
    after, passed = kinds(), time.monotonic() - began
    if not any(kind.startswith("workers") for kind in after):
        sys.exit("no training runs on this machine; begin one with `codelm pretrain`")
    cores = os.cpu_count() or 1
    for kind, spent in sorted(after.items()):
        share = (spent - before[kind]) / passed
        print(f"{kind:<30} {share:6.3f} cores, {share / cores:6.2%} of {cores}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 120.0)
