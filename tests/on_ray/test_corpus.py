import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from codelm import config
from codelm.config import Experiment
from codelm.corpus import blocks
from codelm.corpus.source_file import Split
from codelm.corpus.sources import directories, plan
from codelm.errors import UserError
from codelm.on_ray import corpus as module
from codelm.on_ray import near_dedup
from codelm.on_ray.corpus import STAGE
from codelm.on_ray.stage import run_stage
from codelm.run_dir import Manifest, RunDir
from tests.corpus.exact import jaccard, shingle_set
from tests.on_ray import killing_corpus

Make = Callable[..., Experiment]
STDLIB = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A few real files, near-duplicates and copies of some, and files without text."""
    source = tmp_path / "source"
    for path in sorted(STDLIB.glob("[a-c]*.py")):
        text = path.read_text(encoding="utf-8")
        target = source / path.stem[0] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        if path.stem[1] in "acdo":
            (source / f"copy_{path.name}").write_text(text)
            (source / f"near_{path.name}").write_text(text + "\n# One more line at the end.\n")
    (source / "empty.py").write_text("\n")
    (source / "binary.py").write_bytes(b"\0\1")
    (source / "latin.py").write_bytes(b"x = '\xe9'\n")
    (source / "loop").symlink_to(source, target_is_directory=True)
    return source


def make_corpus(experiment: Experiment) -> tuple[Manifest, Path]:
    run_dir = RunDir(experiment.run_dir)
    return run_stage(STAGE, experiment, run_dir), Path(run_dir.path("corpus"))


def rows(directory: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(directory.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_the_corpus_is_whole_and_its_parts_agree(ray_cluster: None, make_experiment: Make, source: Path) -> None:
    experiment = make_experiment()
    manifest, directory = make_corpus(experiment)
    kept, dropped = rows(directory), pq.read_table(directory / "dropped.parquet").to_pylist()
    ledger = json.loads((directory / "ledger.json").read_text())

    listed = {str(path.relative_to(source)): path.stat().st_size for path in source.rglob("*.py") if path.is_file()}
    assert sorted(row["path"] for row in kept + dropped) == sorted(listed)
    assert ledger["input"] == {"files": len(listed), "bytes": sum(listed.values())}
    assert ledger["kept"]["files"] == len(kept) == manifest.metrics["files_kept"] > 10
    assert {row["path"]: row["reason"] for row in dropped}["latin.py"] == "undecodable"
    assert {"binary", "empty", "exact_duplicate", "near_duplicate"} <= manifest.metrics["dropped"].keys()
    assert len(list(directory.glob("data/*.parquet"))) == experiment.corpus.shards

    assert [row["id"] for row in kept] == sorted(row["id"] for row in kept)
    texts = {row["id"]: row["content"] for row in kept}
    for row in kept:
        assert row["content"] == (source / row["path"]).read_text(encoding="utf-8")
        assert row["source"] == str(source)
    for row in dropped:
        if row["reason"] == "near_duplicate":
            own = shingle_set((source / row["path"]).read_bytes(), 5)
            exact = jaccard(own, shingle_set(texts[row["witness"]].encode(), 5))
            assert exact == row["similarity"] >= experiment.corpus.near_dedup.threshold
        elif row["reason"] == "exact_duplicate":
            assert row["witness"] in texts
        else:
            assert row["witness"] is None
    assert (directory / "README.md").read_text().startswith("---\n")


@pytest.fixture
def second_source(tmp_path: Path, source: Path) -> Path:
    """Copies and near-copies of files of the first source, under names that sort before and after it."""
    second = tmp_path / "another"
    for number, path in enumerate(sorted(source.glob("b/*.py"))):
        target = second / ("0" if number % 2 else "z") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8") + "\n# One line more\n" * (number % 3))
    return second


def test_sources_are_listed_once_a_run(make_experiment: Make, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = make_experiment()
    digests = STAGE.sources(experiment)
    with monkeypatch.context() as patched:
        patched.setattr(blocks, "plan", lambda *given: pytest.fail("listed again"))
        listing = module._listed(experiment.corpus)
    assert {f"source {source}": digest for source, digest in listing.digests.items()}.items() <= digests.items()
    assert module._listed(experiment.corpus) == listing, "what was taken is listed anew"


def test_nothing_but_the_content_decides_the_bytes(
    ray_cluster: None,
    make_experiment: Make,
    source: Path,
    second_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(name: str, *names: Path) -> Manifest:
        listed = ",".join(map(str, names))
        return make_corpus(make_experiment([f"run_dir={tmp_path}/{name}", f"corpus.sources=[{listed}]"]))[0]

    first = make("four", source, second_source)
    assert first.metrics["dropped"]["exact_duplicate"] > 5
    assert first.metrics["dropped"]["near_duplicate"] > 5
    monkeypatch.setattr(near_dedup, "JOB_BYTES", 20_000)
    make_small_blocks(monkeypatch)
    for workers in (1, 2):
        # Less of the cluster than it has, other blocks, other batches, and another order of all that is listed.
        with busy(4 - workers):
            monkeypatch.setattr(blocks, "plan", lambda *given: shuffled(plan(*given), seed=workers))  # noqa: B023
            monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": float(workers)})  # noqa: B023
            again = make(str(workers), second_source, source)
        assert again.files == first.files
        assert again.metrics == first.metrics


def shuffled(splits: Iterator[Split], seed: int) -> list[Split]:
    """The same files dealt out to other splits."""
    found = list(splits)
    entries = [entry for split in found for entry in split.entries or ()]
    random.Random(seed).shuffle(entries)
    cuts = range(0, len(entries), 3 * seed)
    return [replace(found[0], entries=tuple(entries[at : at + 3 * seed]), size=15_000) for at in cuts]


@contextmanager
def busy(cpus: int) -> Iterator[None]:
    """Take so many CPUs of the cluster away."""
    actor = ray.remote(num_cpus=cpus)(type("Busy", (), {"here": lambda self: True})).remote()
    assert ray.get(actor.here.remote())
    try:
        yield
    finally:
        ray.kill(actor)


def make_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the driver that is killed cuts them."""
    monkeypatch.setattr(blocks, "SMALLEST_BLOCK", killing_corpus.SMALL_BLOCK)
    monkeypatch.setattr(blocks, "FILE_COST", 0)
    monkeypatch.setattr(directories, "SPLIT_BYTES", killing_corpus.SMALL_SPLIT)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_killed_driver_leaves_what_a_rerun_goes_on_with(
    ray_cluster: None, make_experiment: Make, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small_blocks(monkeypatch)
    whole, _ = make_corpus(make_experiment([f"run_dir={tmp_path}/whole", "corpus.redact=true"]))
    address = ray.get_runtime_context().gcs_address
    settings = [f"run_dir={tmp_path}/killed", "corpus.redact=true", f"cluster.address={address}", "corpus.shards=2"]
    killed = make_experiment(settings)
    (tmp_path / "killed.yaml").write_text(config.to_yaml(killed))
    store = tmp_path / "killed" / ".work" / "corpus" / module.STORE

    program = [sys.executable, "-m", "tests.on_ray.killing_corpus", tmp_path / "killed.yaml", "read and filtered", "5"]
    ended = subprocess.run(program, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    done = list(store.glob("*.arrow"))
    assert len(done) >= 5
    # What was read must not be read again: other texts, of the same size and time, are put in its place.
    for path in {path for table in done for path in pa.ipc.open_file(table).read_all()["path"].to_pylist()}:
        info = (source / path).stat()
        (source / path).write_bytes(b"#" * info.st_size)
        os.utime(source / path, ns=(info.st_atime_ns, info.st_mtime_ns))

    with monkeypatch.context() as patched:
        patched.setattr(module, "redaction_counts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_corpus(killed)
    assert len(list(store.glob("shard-*.parquet"))) == 2
    written = {path.name: path.stat().st_mtime_ns for path in (store.parent / "data").iterdir()}
    manifest, directory = make_corpus(killed)
    assert {path.name: path.stat().st_mtime_ns for path in (directory / "data").iterdir()} == written
    assert manifest.files == whole.files
    assert manifest.metrics == whole.metrics
    assert not list(directory.rglob("*.texts"))


@pytest.mark.usefixtures("source")
def test_without_near_dedup_every_text_is_its_own_cluster(ray_cluster: None, make_experiment: Make) -> None:
    manifest, directory = make_corpus(make_experiment(["corpus.near_dedup.enabled=false"]))
    assert "near_duplicate" not in manifest.metrics["dropped"]
    assert all(row["cluster"] == row["id"] for row in rows(directory))


def test_nothing_kept_is_the_users_to_mend(ray_cluster: None, make_experiment: Make, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.py").write_text("\n")
    with pytest.raises(UserError, match=r"no file is kept \(empty 1\); loosen corpus.filters"):
        make_corpus(make_experiment())


@pytest.mark.usefixtures("source")
def test_a_mistake_that_a_task_finds_is_told_as_one(ray_cluster: None, make_experiment: Make, tmp_path: Path) -> None:
    # The list is deleted after it was checked.
    experiment = make_experiment([f"corpus.opt_out={tmp_path}/gone.txt"])
    with pytest.raises(UserError, match=r"^corpus.opt_out: cannot read '.*gone.txt'"):
        run_stage(replace(STAGE, sources=lambda _: {}), experiment, RunDir(experiment.run_dir))


def test_check_names_a_missing_source(make_experiment: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source' does not exist"):
        STAGE.check(make_experiment())


def test_check_names_a_filter_without_tokenizer(make_experiment: Make, tmp_path: Path, source: Path) -> None:
    STAGE.check(make_experiment())
    with pytest.raises(UserError, match=r"corpus.filters.tokenizer: no tokenizer.json in '.*nothing'"):
        STAGE.check(make_experiment([f"corpus.filters.tokenizer={tmp_path}/nothing"]))


def test_check_names_an_unknown_language(make_experiment: Make, source: Path) -> None:
    STAGE.check(make_experiment(["corpus.languages=[Python,Go]"]))
    with pytest.raises(UserError, match=r"corpus.languages: 'python' is not one of .*Python"):
        STAGE.check(make_experiment(["corpus.languages=[Go,python]"]))


def test_a_changed_source_is_another_input(make_experiment: Make, source: Path) -> None:
    experiment = make_experiment()
    before = STAGE.sources(experiment)
    assert STAGE.sources(experiment) == before
    (source / "new.py").write_text("x = 1\n")
    assert STAGE.sources(experiment) != before


def test_what_is_redacted_is_in_the_ledger_and_the_same_again(
    ray_cluster: None, make_experiment: Make, source: Path, tmp_path: Path
) -> None:
    (source / "mail.py").write_text("def f():\n" + "    a = 'jane.doe@gmail.com'\n" * 9)
    first, directory = make_corpus(make_experiment([f"run_dir={tmp_path}/one", "corpus.redact=true"]))
    second, _ = make_corpus(make_experiment([f"run_dir={tmp_path}/two", "corpus.redact=true", "corpus.shards=2"]))
    assert first.files == second.files
    [mail] = [row for row in rows(directory) if row["path"] == "mail.py"]
    assert "jane.doe" not in mail["content"]
    assert mail["content"].count("@example.com") == 9
    assert mail["language"] == "Python"
    redacted = json.loads((directory / "ledger.json").read_text())["redacted"]
    assert redacted["email"]["places"] >= 9
