"""What `codelm submit` refuses, asked of a real cluster: one sentence each, exit status 2, at once."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.bench import Bench
from tests.system.nodes import BIN
from tests.system.quickstart import CONFIG

NOBODY = 250
"""The last number of an address in the network that no machine has."""
RAY = "ray[data,default,serve,train,tune]>=2.60,<2.61"
LARGE_BYTES = 200 << 20
AT_ONCE_SECONDS = 10.0
"""On a machine that is busy; 5 s of it are the wait for an address that does not answer."""


@dataclass(frozen=True)
class Refusal:
    """A wrong submission.

    Attributes:
        name: of the mistake.
        project: the working directory.
        said: a part of the sentence.
        address: of the cluster, where it is another.
        overrides: of the config.
        environment: that differs.
    """

    name: str
    project: Path
    said: str
    address: str = ""
    overrides: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def refusals(made: Bench) -> Iterator[Refusal]:
    """All of them; each working directory is there while it is asked for."""
    project, network = made.project, made.nodes.dashboard.rpartition(".")[0]
    yield Refusal("no-such-address", project, "does not answer", f"{network}.{NOBODY}:8265")
    yield Refusal("closed-port", project, "does not answer", made.nodes.dashboard.replace("8265", "8266"))
    yield Refusal("wrong-token", project, "does not accept the token", environment={"RAY_AUTH_TOKEN": "0" * 64})
    without = {"RAY_AUTH_TOKEN_PATH": str(project.parent / "empty")}
    Path(without["RAY_AUTH_TOKEN_PATH"]).touch()
    yield Refusal("no-token", project, "asks for a token and none was found", environment=without)
    yield Refusal("no-gpus", project, "needs 2 GPU", overrides=("accelerator=gpu",))
    workers = ("training.workers=40", "training.batch_size=40", "training.micro_batch_size=1")
    yield Refusal("too-many-workers", project, "needs 40 CPU", overrides=workers)
    other = project.parent / "other"
    shutil.copytree(project, other)
    text = (other / "pyproject.toml").read_text()
    (other / "pyproject.toml").write_text(text.replace(RAY, "ray>=9", 1))
    yield Refusal("other-version", other, "and codelm needs Ray >=9")
    (other / "pyproject.toml").write_text(text)
    with (other / "data.bin").open("wb") as out:
        out.truncate(LARGE_BYTES)
    yield Refusal("large-upload", other, "and Ray takes 100")
    shutil.rmtree(other)


def refused(made: Bench, refusal: Refusal) -> tuple[bool, str]:
    """Submit it; whether it was refused as it should be, and the sentence with the seconds that it took."""
    command = [str(BIN / "codelm"), "submit", "pretrain", CONFIG, "--address", refusal.address or made.nodes.dashboard]
    for override in refusal.overrides:
        command += ["--set", override]
    environment = made.environment | {"PYTHONPATH": str(refusal.project)} | refusal.environment
    began = time.monotonic()
    done = subprocess.run(command, cwd=refusal.project, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    one_sentence = done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    good = done.returncode == 2 and one_sentence and refusal.said in done.stderr and seconds < AT_ONCE_SECONDS
    return good, f"status {done.returncode} after {seconds:.1f} s: {done.stderr.strip()}"
