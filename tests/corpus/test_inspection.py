"""`codelm corpus inspect` on a corpus that lies on disk as the stage publishes it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import yaml

from codelm import cli
from codelm.config import Corpus
from codelm.corpus.hashing import content_id
from codelm.corpus.inspection import diff, explained
from codelm.corpus.ledger import DROPPED
from codelm.corpus.shards import DOCUMENTS, write_table
from codelm.run_dir import Manifest, RunDir

KEPT = "def area(r):\n    return 3.14159 * r * r\n\n\nprint(area(2))\n"
NEAR = KEPT.replace("area(2)", "area(3)")
OTHER = "x = 1\n"
ID, NEAR_ID = content_id(KEPT.encode()), content_id(NEAR.encode())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a corpus, and the source that it was made of."""
    source = tmp_path / "source"
    for name, text in {
        "a/area.py": KEPT,
        "b/near.py": NEAR,
        "b/copy.py": KEPT,
        "long.py": "x = '" + "a" * 2000,
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    run_dir = RunDir(str(tmp_path / "run"))
    workspace = Path(run_dir.workspace("corpus"))
    (workspace / "data").mkdir()
    given = {"source": str(source), "size": len(KEPT), "language": "Python", "licence": "MIT", "attribution": "LICENSE"}
    rows = [{**given, "id": ID, "path": "a/area.py", "content": KEPT, "cluster": ID}]
    rows += [{**given, "id": content_id(OTHER.encode()), "path": "gone.py", "content": OTHER, "cluster": "g"}]
    for number, row in enumerate(rows):
        pq.write_table(pa.Table.from_pylist([row], DOCUMENTS), workspace / f"data/part-{number:05d}.parquet")
    dropped: list[dict[str, Any]] = [
        {"path": "b/copy.py", "id": ID, "reason": "exact_duplicate", "witness": ID, "similarity": 1.0},
        {"path": "b/near.py", "id": NEAR_ID, "reason": "near_duplicate", "witness": ID, "similarity": 0.875},
        {"path": "gone2.py", "id": "f" * 32, "reason": "near_duplicate", "witness": ID, "similarity": 0.75},
        {"path": "leak.py", "id": "e" * 32, "reason": "contaminated", "witness": "HumanEval/3 (prompt, 13 words)"},
        {"path": "long.py", "id": "d" * 32, "reason": "long_line"},
        {"path": "bytes.py", "reason": "binary"},
    ]
    dropped = [{"source": str(source), "size": 10, **row} for row in dropped]
    write_table(pafs.LocalFileSystem(), f"{workspace}/dropped.parquet", pa.Table.from_pylist(dropped, DROPPED))
    corpus = Corpus(sources=(str(source),)).model_dump(mode="json")
    run_dir.publish("corpus", Manifest("corpus", {"corpus": corpus, "seed": 0}, {}))
    return tmp_path / "run"


@pytest.fixture
def inspect(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`codelm corpus inspect RUN ...` in this process: the exit status and what it printed."""

    def call(what: str, where: Path | None = None) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["codelm", "corpus", "inspect", str(where or run), what])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out + printed.err

    return call


Inspect = Callable[..., tuple[int, str]]


def test_a_near_duplicate_is_shown_with_its_witness_and_the_difference(inspect: Inspect) -> None:
    status, text = inspect("b/near.py")
    assert status == 0
    assert "near_duplicate: resembles a kept file" in text
    assert f"a/area.py (Jaccard similarity 0.875; id {ID})" in text
    assert text.endswith("--- a/area.py\n+++ b/near.py\n@@ -2,4 +2,4 @@\n     return 3.14159 * r * r\n \n \n"
                         "-print(area(2))\n+print(area(3))\n")  # fmt: skip


def test_the_experiment_names_the_run_too(inspect: Inspect, run: Path, tmp_path: Path) -> None:
    config = {"name": "t", "run_dir": str(run), "corpus": {"sources": ["stdlib"]}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(config))
    assert inspect("b/near.py", tmp_path / "e.yaml") == inspect("b/near.py")


def test_an_exact_duplicate_needs_no_difference(inspect: Inspect) -> None:
    status, text = inspect("b/copy.py")
    assert status == 0
    assert "exact_duplicate: the same text" in text
    assert "witness     a/area.py (the same text" in text
    assert "---" not in text


def test_what_is_no_longer_in_the_source_has_no_difference(inspect: Inspect) -> None:
    status, text = inspect("gone2.py")
    assert status == 0
    assert "Jaccard similarity 0.750" in text
    assert "no longer has this text at gone2.py" in text


def test_a_changed_witness_is_shown_as_the_corpus_has_it(inspect: Inspect, tmp_path: Path) -> None:
    (tmp_path / "source/a/area.py").write_text("changed\n")
    status, text = inspect("b/near.py")
    assert status == 0
    assert "shown as the corpus has it" in text
    assert "-print(area(2))\n+print(area(3))" in text


def test_a_source_that_is_gone_is_said(inspect: Inspect, tmp_path: Path) -> None:
    (tmp_path / "source").rename(tmp_path / "moved")
    status, text = inspect("b/near.py")
    assert status == 0
    assert "no diff: corpus.sources" in text


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("leak.py", ["contaminated: holds a problem", "witness     HumanEval/3 (prompt, 13 words)"]),
        ("long.py", ["long_line: a line longer than `max_line_length` (max_line_length = 1000)"]),
        ("bytes.py", ["binary: has a NUL byte", "id          none: it has no text"]),
        (
            "a/area.py",
            ["kept        language Python, licence MIT by LICENSE", "stands for  b/copy.py, b/near.py, gone2.py"],
        ),
        (NEAR_ID, ["file        b/near.py"]),
        (NEAR_ID[:8], ["file        b/near.py"]),
        (ID, ["file        b/copy.py", "\n\nfile        a/area.py"]),
    ],
)
def test_why_by_path_and_by_id(inspect: Inspect, what: str, said: list[str]) -> None:
    status, text = inspect(what)
    assert status == 0
    for part in said:
        assert part in text


def test_source_and_path_together_name_a_file(inspect: Inspect, tmp_path: Path) -> None:
    assert inspect(f"{tmp_path}/source/long.py") == inspect("long.py")


@pytest.mark.parametrize(
    ("what", "hint"),
    [("x/near.py", "did you mean b/near.py?"), ("b/nera.py", "did you mean b/near.py"), ("zzz", "id\n")],
)
def test_an_unknown_file_is_named_with_the_nearest(inspect: Inspect, what: str, hint: str) -> None:
    status, text = inspect(what)
    assert status == 2
    assert f"error: no file of the corpus is called {what!r}" in text
    assert hint in text


def test_a_run_without_a_corpus_is_named(inspect: Inspect, tmp_path: Path) -> None:
    status, text = inspect("a.py", tmp_path / "none")
    assert status == 2
    assert "has no finished corpus" in text


def test_a_corpus_of_another_version_is_named(inspect: Inspect, run: Path) -> None:
    manifest = run / "corpus/manifest.json"
    manifest.write_text(manifest.read_text().replace('"preset"', '"of_old"'))
    status, text = inspect("b/near.py")
    assert status == 2
    assert "made by another version of codelm" in text


def test_colours_on_a_terminal(inspect: Inspect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, text = inspect("b/near.py")
    assert "\x1b[32m+print(area(3))\x1b[0m" in text
    assert "\x1b[31m-print(area(2))\x1b[0m" in text


def test_explanations_give_the_settings() -> None:
    corpus = Corpus.model_validate({"sources": ["s"], "preset": "codelm", "filters": {"max_encoded_run": 7}})
    assert explained("encoded_data", corpus).endswith("(max_encoded_run = 7, max_encoded_share = 0.5)")
    assert explained("binary", corpus) == "has a NUL byte"


def test_equal_texts_differ_in_nothing() -> None:
    assert list(diff("a\n", "a\n", "x", "y")) == []
