"""The quickstart's project and a smaller version of its experiment, with all that it reads on S3."""

import json
import shutil
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from tests.system.storage import BUCKET, Storage

ROOT = Path(__file__).parent.parent.parent
CONFIG = "ray_jobs/configs/quickstart.yaml"
ARCHIVES = 2
ARCHIVE_BYTES = 8 << 20
"""Of sources in each: as much as the corpus stage reads in one task at least."""
PROBLEMS_FILE = "problems.jsonl"
PROBLEMS = 18
CHECK = "import time\ndef check(candidate):\n    time.sleep(1)\n    assert candidate({0}, 2) == {1}\n"
SOURCES = json.dumps([f"s3://{BUCKET}/sources/{number}.tar" for number in range(ARCHIVES)])

SMALL = (
    f"corpus.sources={SOURCES}",
    "corpus.shards=4",
    "tokenizer.vocab_size=1024",
    "model.hidden_size=96",
    "model.layers=2",
    "model.heads=4",
    "training.steps=40",
    "training.warmup_steps=10",
    "training.checkpoint_every=10",
    "training.validate_every=20",
    "training.log_every=5",
    "evaluation.benchmark=jsonl",
    f"evaluation.source={PROBLEMS_FILE}",
    "evaluation.problems=12",
    "evaluation.samples=6",
    "evaluation.max_new_tokens=200",
    "serving.replicas=2",
    'sweep={"trials": 1, "space": {"training.learning_rate": {"grid": [0.001, 0.003, 0.01]}}, "scheduler": "none"}',
)
"""The quickstart with fewer steps, and problems whose tests take a second."""


def put_sources(storage: Storage) -> None:
    """Archives of the standard library's files."""
    files = iter(sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")))
    with tempfile.TemporaryDirectory() as directory:
        for number in range(ARCHIVES):
            path = Path(directory) / f"{number}.tar"
            with tarfile.open(path, "w") as archive:
                size = 0
                while size < ARCHIVE_BYTES:
                    file = next(files)
                    if "site-packages" not in file.parts and file.is_file():
                        archive.add(file, str(file).removeprefix("/"))
                        size += file.stat().st_size
            storage.client.upload_file(str(path), BUCKET, f"sources/{number}.tar")


def project(directory: Path) -> Path:
    """A working directory as a user has it, with problems whose tests take a second."""
    root = directory / "project"
    root.mkdir()
    for name in ("codelm", "ray_jobs", "serve"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "vscode")
        )
    for name in ("pyproject.toml", ".rayignore"):
        shutil.copy(ROOT / name, root)
    problems = [
        {
            "task_id": f"slow/{number}",
            "prompt": f'def add_{number}(a, b):\n    """Add two numbers."""\n',
            "entry_point": f"add_{number}",
            "canonical_solution": "    return a + b\n",
            "test": CHECK.format(number, number + 2),
        }
        for number in range(PROBLEMS)
    ]
    (root / PROBLEMS_FILE).write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return root
