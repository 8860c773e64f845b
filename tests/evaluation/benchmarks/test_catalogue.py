"""Benchmarks by name: their choice by language and difficulty, prompts with and without white space, bad files."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import get_args

import pytest

from codelm.config import Evaluation
from codelm.config.evaluation import BenchmarkName
from codelm.errors import UserError
from codelm.evaluation.benchmarks import catalogue
from codelm.evaluation.programs import program, source
from codelm.sandbox import toolchains
from codelm.sandbox.judge import Limits, judge_all

WRONG = {
    "codelm/run_lengths": "    return [(char, text.count(char)) for char in dict.fromkeys(text)]\n",
    "codelm/merge_spans": "    return sorted(spans)\n",
    "codelm/clock_angle": "    return abs(hour * 30 + minute * 0.5 - minute * 6)\n",
    "codelm/balanced_tags": "    return markup.count('</') * 2 == markup.count('<')\n",
    "codelm/top_words": "    return [word for word, _ in Counter(text.split()).most_common(count)]\n",
    "codelm/transpose_ragged": "    return [list(column) for column in zip(*rows)]\n",
    "codelm/matrix_spiral": "    return [value for row in rows for value in row]\n",
    "codelm/parse_duration": "    return sum(int(part[:-1]) * 60 for part in text.split('m'))\n",
    "codelm/unweave": "    return text, ''\n",
    "codelm/digit_steps": "    return len(str(number)) - 1\n",
    "codelm/shares": "    return [round(total * weight / sum(weights)) for weight in weights]\n",
    "codelm/vowel_groups": "    return {len(word): {word} for word in words}\n",
    "codelm/shelf": "    def put(self, name, count): pass\n    def take(self, name, count): return 0\n",
    "codelm/last_seen": "        self.get = {}.get\n        self.put = lambda key, value: None\n",
    "codelm/column_sums": "print(5, 7, 9)\n",
    "codelm/islands": "import sys\n\nprint(2)\nprint(sys.stdin.read().count('#'))\n",
    "codelm/mean_and_spread": "print(5.0)\nprint(2.0)\n",
    "codelm/between": "    if value == low:\n        return low\n",
    "codelm/js_chunks": "  return [items];\n}\n",
    "codelm/js_camel_case": "  return text;\n}\n",
    "codelm/js_rotate": "console.log('ed');\n",
    "codelm/java_vowel_runs": "        return word.length();\n",
    "codelm/java_sorted_pairs": "class Main { public static void main(String[] a) { System.out.println(1); } }\n",
    "codelm/cpp_prefix_peaks": "    return values;\n",
    "codelm/cpp_median": "int main() { return 0; }\n",
    "codelm/sh_sum": '    echo "$1"\n',
    "codelm/sh_longest": "head -n 1\n",
}


def test_solutions_of_the_packaged_problems_pass_and_wrong_ones_do_not() -> None:
    problems = catalogue.load("codelm")
    assert {problem.task_id for problem in problems} <= WRONG.keys()
    programs = [program(problem, problem.canonical_solutions[0]) for problem in problems]
    programs += [program(problem, WRONG[problem.task_id], 1) for problem in problems]
    programs.sort(key=lambda each: each.language)
    by_language = [list(some) for _, some in groupby(programs, lambda each: each.language)]
    with ThreadPoolExecutor(2) as pool:
        judged = list(pool.map(partial(judge_all, limits=Limits(cpu_seconds=10)), by_language))
    verdicts = [verdict for some in judged for verdict in some]
    assert len(verdicts) == 2 * len(problems)
    assert [(verdict.task_id, verdict.index) for verdict in verdicts if verdict.passed == bool(verdict.index)] == []


def test_packaged_problems_are_of_all_kinds_and_languages() -> None:
    every = [json.loads(line) for line in catalogue.OWN_PROBLEMS.read_text().splitlines()]
    assert len(every) == len(WRONG) == len({problem["task_id"] for problem in every})
    assert {problem.get("language", "python") for problem in every} == set(toolchains.LANGUAGES)


def test_every_name_has_a_benchmark() -> None:
    assert set(catalogue.BENCHMARKS) == set(get_args(BenchmarkName))


def test_choice_by_language_and_difficulty() -> None:
    shell = catalogue.load("codelm", languages=["shell"], difficulties=["easy"])
    assert [problem.task_id for problem in shell] == ["codelm/sh_sum"]
    with pytest.raises(
        UserError, match=r"difficulties = \['absurd'\] leave none of 27 problems, .* easy, hard, medium"
    ):
        catalogue.load("codelm", difficulties=["absurd"])


def test_languages_without_a_toolchain_are_left_out_aloud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toolchains, "found", lambda: {"python": "3", "shell": "5"})
    monkeypatch.setattr(toolchains, "missing", lambda: dict.fromkeys(("java", "cpp", "javascript"), "not here"))
    assert {problem.language for problem in catalogue.load("codelm")} == {"python", "shell"}
    assert "left out 2 problems: not here" in capsys.readouterr().err
    with pytest.raises(UserError, match="toolchains of java are missing"):
        catalogue.load("codelm", languages=["java"])


def test_stripped_prompts_are_another_benchmark_with_solutions_that_still_fit() -> None:
    plain, stripped = catalogue.load("humaneval"), catalogue.load("humaneval", prompt="stripped")
    # The reference: stripping changes all 164 prompts.
    assert all(a.prompt != b.prompt for a, b in zip(plain, stripped, strict=True))
    for before, after in zip(plain, stripped, strict=True):
        assert source(after, after.canonical_solutions[0]) == source(before, before.canonical_solutions[0]).lstrip()


def test_a_result_is_called_by_what_changes_scores() -> None:
    assert catalogue.label(Evaluation()) == "humaneval-unstripped"
    assert catalogue.label(Evaluation(prompt="stripped", truncation="stop")) == "humaneval-stripped-stop"
    assert catalogue.label(Evaluation(benchmark="mbpp", mbpp_prompt="bigcode")) == "mbpp-bigcode-unstripped"


def test_bad_files_are_refused(tmp_path: Path) -> None:
    line = json.dumps({"task_id": "a", "prompt": "p", "test_list": ["f()"]}) + "\n"
    path = tmp_path / "mine.jsonl"
    path.write_text(line + line)
    with pytest.raises(UserError, match="task id 'a' is there more than once"):
        catalogue.load("jsonl", str(path))
    path.write_text(json.dumps({"task_id": "a", "prompt": "\ud800", "test_list": ["f()"]}))
    with pytest.raises(UserError, match="a: its prompt is no Unicode text: surrogates"):
        catalogue.load("jsonl", str(path))
    with pytest.raises(UserError, match="jsonl has no problems of its own"):
        catalogue.load("jsonl")
    with pytest.raises(UserError, match=r"line 1 of .*: task_id: .* \(and 1 more\)"):
        catalogue.load("mbpp", str(path))
