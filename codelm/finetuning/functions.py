"""Functions of a corpus as examples: signature and docstring -> body, as HumanEval asks for them.

Found by Python's own parser, in files that are no tests: functions at the top level of a module. Each has one fate,
an example or a reason to be dropped, so that the counts add up.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from codelm.config.finetuning import Functions

TEST_DIRECTORY = re.compile(r"^(tests?|testing)$")
TEST_FILE = re.compile(r"^(test_.*|.*_test|tests?|conftest)\.py$")
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Found:
    """One function of a file.

    Attributes:
        name: its name.
        line: where it begins in the file, from 1.
        prompt: from `def` to the end of the docstring, with the line's end.
        completion: its body, indented.
        dropped: why it is no example; None for one.
    """

    name: str
    line: int
    prompt: str = ""
    completion: str = ""
    dropped: str | None = None


def is_test_file(path: str) -> bool:
    """Whether a path is that of a test: `tests/a.py`, `a/test_b.py`, `b_test.py`, `conftest.py`."""
    *directories, name = PurePosixPath(path).parts or ("",)
    return any(map(TEST_DIRECTORY.match, directories)) or TEST_FILE.match(name) is not None


def functions(text: str, rules: Functions) -> Iterator[Found] | None:
    """The functions with a docstring at the top level of a file; None where it does not parse.

    Args:
        text: of a Python file.
        rules: which functions become examples.
    """
    tree = _parsed(text)
    if tree is None:
        return None
    lines = text.split("\n")
    return (
        _found(node, lines, rules)
        for node in tree.body
        if isinstance(node, FunctionNode) and ast.get_docstring(node, clean=False) is not None
    )


def _found(node: FunctionNode, lines: list[str], rules: Functions) -> Found:
    where = Found(node.name, node.lineno)
    docstring = ast.get_docstring(node) or ""
    reason = _reason(node, docstring, rules)
    if reason is not None:
        return Found(node.name, node.lineno, dropped=reason)
    end_of_docstring, end = node.body[0].end_lineno or 0, node.end_lineno or 0
    prompt = "\n".join(lines[node.lineno - 1 : end_of_docstring]) + "\n"
    body = [line.rstrip() for line in lines[end_of_docstring:end]]
    while body and not body[0]:
        del body[0]
    completion = "\n".join(body) + "\n"
    code = sum(bool(line.strip()) for line in body)
    if not rules.min_body_lines <= code <= rules.max_body_lines:
        return Found(where.name, where.line, dropped="body_length")
    if not _same_function(prompt + completion, node):
        return Found(where.name, where.line, dropped="not_apart")
    return Found(where.name, where.line, prompt, completion)


def _reason(node: FunctionNode, docstring: str, rules: Functions) -> str | None:
    if node.name.startswith("test"):
        return "test"
    if not rules.min_docstring <= len(docstring) <= rules.max_docstring:
        return "docstring_length"
    if all(isinstance(part, ast.Pass | ast.Expr) or _not_implemented(part) for part in node.body[1:]):
        return "no_body"
    if node.body[1].lineno <= (node.body[0].end_lineno or 0):
        return "not_apart"  # the body begins on the line where the docstring ends
    return None


def _not_implemented(part: ast.stmt) -> bool:
    return isinstance(part, ast.Raise) and part.exc is not None and "NotImplemented" in ast.dump(part.exc)


def _same_function(text: str, node: FunctionNode) -> bool:
    """Whether prompt and completion together are the function that was found, without its decorators."""
    tree = _parsed(textwrap.dedent(text))
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], FunctionNode):
        return False
    first = tree.body[0]
    return ast.dump(ast.Module(first.body, [])) == ast.dump(ast.Module(node.body, []))


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the file's escapes and comparisons, at the place of this one
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
