import json
from pathlib import Path
from typing import Any

import pytest

from codelm.errors import UserError
from codelm.finetuning.reading import read_apps, read_pairs

STDIN = {
    "problem_id": 7,
    "question": "Add two numbers.",
    "solutions": json.dumps(["print(1)", "print(2)"]),
    "input_output": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}),
    "difficulty": "introductory",
    "starter_code": "",
}
CALL = {
    **STDIN,
    "problem_id": 8,
    "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}),
    "difficulty": "interview",
    "starter_code": "def add(a, b):",
}


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_prompts_are_those_of_hendrycks_apps(tmp_path: Path) -> None:
    """`generate_prompt` of eval/generate_gpt_codes.py, line by line."""
    examples = read_apps(lines(tmp_path / "apps.jsonl", [STDIN, CALL]), None)
    assert [(example.id, example.group, example.completion) for example in examples] == [
        ("APPS/7/0", "APPS/7", "print(1)"),
        ("APPS/7/1", "APPS/7", "print(2)"),
        ("APPS/8/0", "APPS/8", "print(1)"),
        ("APPS/8/1", "APPS/8", "print(2)"),
    ]
    assert examples[0].prompt == "\nQUESTION:\nAdd two numbers.\nUse Standard Input format\nANSWER:\n"
    assert examples[2].prompt == "\nQUESTION:\nAdd two numbers.\ndef add(a, b):\nUse Call-Based format\nANSWER:\n"

    untested = [{**CALL, "input_output": ""}, {**STDIN, "input_output": ""}]  # as some of APPS' training problems are
    call, _, stdin, _ = read_apps(lines(tmp_path / "untested.jsonl", untested), None)
    assert call.prompt == examples[2].prompt
    assert stdin.prompt == examples[0].prompt


def test_a_directory_of_problems_reads_as_the_file_does(tmp_path: Path) -> None:
    for row in (STDIN, CALL):
        directory = tmp_path / "train" / f"{row['problem_id']:04d}"
        directory.mkdir(parents=True)
        (directory / "question.txt").write_text(str(row["question"]))
        (directory / "solutions.json").write_text(str(row["solutions"]))
        (directory / "input_output.json").write_text(str(row["input_output"]))
        (directory / "metadata.json").write_text(json.dumps({"difficulty": row["difficulty"], "url": "x"}))
        if row["starter_code"]:
            (directory / "starter_code.py").write_text(str(row["starter_code"]))
    file = lines(tmp_path / "apps.jsonl", [STDIN, CALL])
    assert read_apps(str(tmp_path / "train"), None) == read_apps(file, None)


def test_difficulties(tmp_path: Path) -> None:
    file = lines(tmp_path / "apps.jsonl", [STDIN, CALL])
    assert {example.group for example in read_apps(file, ("interview",))} == {"APPS/8"}
    with pytest.raises(UserError, match=r"difficulties: \['hard'\] names none; the problems are interview, intro"):
        read_apps(file, ("hard",))


def test_pairs(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "completion": "b", "more": 1},
        {"prompt": "a", "completion": "c", "id": "own", "group": 3},
    ]
    examples = read_pairs(lines(tmp_path / "pairs.jsonl", rows))
    assert [(example.id, example.group) for example in examples] == [("pairs.jsonl:1", "a"), ("own", "3")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "finetuning.source: line 2 of .*: completion: Field required"),
        ({"completion": "a"}, "finetuning.source: line 2 of .*: prompt: Field required"),
        ({"prompt": 1, "completion": "a"}, "line 2 of .*: prompt: Input should be a valid string"),
    ],
)
def test_missing_fields_are_named_with_their_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = lines(tmp_path / "pairs.jsonl", [{"prompt": "a", "completion": "b"}, row])
    with pytest.raises(UserError, match=message):
        read_pairs(file)


def test_wrong_records_are_counted_and_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "a", "completion": "b"}] + [{"prompt": "a"}] * 5
    with pytest.raises(UserError) as caught:
        read_pairs(lines(tmp_path / "pairs.jsonl", rows))
    message = str(caught.value)
    assert message.startswith("finetuning.source: 5 of 6 records are wrong: line 2 of")
    assert message.count("completion: Field required") == 3
    assert "line 4 of" in message
    assert message.endswith("; ...")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finetuning.source: .* does not exist"):
        read_pairs(str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"finetuning.source: line 1 of .* is not JSON"):
        read_pairs(str(tmp_path / "bad.jsonl"))
    (tmp_path / "apps" / "x").mkdir(parents=True)
    (tmp_path / "apps" / "x" / "question.txt").write_text("q")
    with pytest.raises(UserError, match="is not named by a number"):
        read_apps(str(tmp_path / "apps"), None)
