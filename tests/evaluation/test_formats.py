"""Samples files of others, and what is wrong with some: every mistake has its sentence before anything runs."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codelm.errors import UserError
from codelm.evaluation.programs import source
from codelm.evaluation.samples import check_counts, complete_program, distinct, open_samples
from codelm.records import FunctionTest, Problem, Sample

PROBLEMS = [
    Problem("test/0", "def f():\n", FunctionTest("def check(f): assert f() == 1"), entry_point="f"),
    Problem("test/1", "def g():\n", FunctionTest("def check(g): assert g() == 2"), entry_point="g"),
]
BY_ID = {problem.task_id: problem for problem in PROBLEMS}
LINES = [
    {"task_id": "test/1", "completion": "    return 2\u2028", "temperature": 0.2},
    {"task_id": "test/0", "completion": "    return 1"},
    {"task_id": "test/1", "completion": ""},
]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES)

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: str | bytes) -> Path:
        path = tmp_path / "samples.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return written


def programs(path: Path) -> list[str]:
    samples = open_samples(path, PROBLEMS, "test")
    return [source(*complete_program(BY_ID[sample.task_id], sample)) for sample in samples]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_human_evals_lines(write: Write, compress: Callable[[bytes], bytes]) -> None:
    samples = open_samples(write(compress(f"\n{TEXT}\n".encode())), PROBLEMS, "test")
    assert list(samples) == [
        Sample("test/1", 0, "    return 2\u2028"),
        Sample("test/0", 0, "    return 1"),
        Sample("test/1", 1, ""),
    ]
    assert [samples.record(place) for place in range(3)] == LINES
    assert samples[1:] == list(samples)[1:]
    assert samples.per_problem == {"test/1": 2, "test/0": 1}


def test_a_file_without_a_last_newline_and_with_windows_ends(write: Write) -> None:
    assert programs(write(TEXT.rstrip("\n").replace("\n", "\r\n"))) == programs(write(TEXT))


def test_evalplus_whole_programs(write: Write) -> None:
    whole = "import math\ndef f():\n    return 1"
    assert programs(write(json.dumps({"task_id": "test/0", "solution": whole}))) == [whole]


def test_lists_of_codeparrot_and_bigcode(write: Write) -> None:
    generations = [["def f():\n    return 1", "def other(): pass"], ["def g():\n    return 2"]]
    path = write(json.dumps(generations, indent=1))
    assert programs(path) == [text for texts in generations for text in texts]
    assert [sample.task_id for sample in open_samples(path, PROBLEMS, "test")] == ["test/0", "test/0", "test/1"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_of_multipl_e(write: Write, indent: int | None) -> None:
    path = write(json.dumps({"name": "test/1", "prompt": "...", "completions": ["a", "b"]}, indent=indent))
    assert programs(path) == ["def g():\na", "def g():\nb"]


def test_a_directory_of_multipl_e(tmp_path: Path) -> None:
    for name, content in (("b.json", ["x"]), ("a.json.gz", ["y", "z"])):
        text = json.dumps({"name": f"test/{'ab'.index(name[0])}", "completions": content}).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    (tmp_path / "a.results.json").write_text("[]")
    assert programs(tmp_path) == ["def f():\ny", "def f():\nz", "def g():\nx"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no samples"),
        (TEXT + '{"task_id": \n', r"samples\.jsonl, line 4 is not JSON: Expecting value"),
        (TEXT + '{"task_id": "test/0"}', "line 4: no object with strings task_id and completion"),
        (TEXT + '["test/0"]', "line 4: no object with strings"),
        ('{"task_id": "test/0", "completion": 3}', "line 1: no object with strings"),
        (
            '{"task_id": "test/7", "completion": ""}',
            r"line 1: task_id 'test/7' is not a problem of test \(2 problems.*",
        ),
        (b'{"task_id": "\xff"}', "line 1 is not JSON"),
        ("[1, 2]", "a JSON list, but not one of lists"),
        ("[[], [], []]", "lists for 3 problems, but the benchmark has 2"),
        ("[[1]]", "line 1: no object with strings"),
        ("[[", "is not JSON"),
        ('{"name": "test/0", "completions": "a"}', "needs name and a list of completions"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-9], "cannot read"),
    ],
)
def test_what_is_wrong_is_said(write: Write, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_samples(write(content), PROBLEMS, "test")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        open_samples(tmp_path / "missing", PROBLEMS, "test")
    with pytest.raises(UserError, match=r"no files \*\.json"):
        open_samples(tmp_path, PROBLEMS, "test")


def test_missing_problems_and_large_ks_are_refused_before_anything_runs() -> None:
    check_counts({"test/0": 1, "test/1": 2}, PROBLEMS, [1], partial=False)
    check_counts({"test/1": 2}, PROBLEMS, [2], partial=True)
    with pytest.raises(UserError, match=r"1 of 2 problems have no sample, first 'test/0'.*--partial"):
        check_counts({"test/1": 2}, PROBLEMS, [1], partial=False)
    with pytest.raises(UserError, match="pass@2 needs 2 samples of each problem, but 'test/0' has 1"):
        check_counts({"test/0": 1, "test/1": 2}, PROBLEMS, [1, 2], partial=False)


def test_the_same_program_runs_once_and_only_the_same() -> None:
    twin = Problem("test/2", "def f():\n", PROBLEMS[0].test, entry_point="f")
    samples = [
        Sample("test/0", 0, "    return 1"),
        Sample("test/1", 0, "    return 1"),
        Sample("test/0", 1, "    return 1"),
        Sample("test/0", 2, "def f():\n    return 1", whole=True),
        Sample("test/0", 3, "    return '\ud800\x00'"),
        Sample("test/2", 0, "    return 1"),
    ]
    first, same_as = distinct(samples, BY_ID | {"test/2": twin})
    assert list(first) == [0, 1, 4]
    assert list(same_as) == [0, 1, 0, 0, 2, 0]


def test_surrogates_nuls_and_a_large_completion_survive(write: Write) -> None:
    odd = ["\ud800\x00", "x" * (5 << 20)]
    content = "".join(json.dumps({"task_id": "test/0", "completion": text}) + "\n" for text in odd)
    samples = open_samples(write(content), PROBLEMS, "test")
    assert [sample.completion for sample in samples] == odd
    assert list(distinct(samples, BY_ID)[0]) == [0, 1]
