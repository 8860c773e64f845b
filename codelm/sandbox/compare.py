"""Whether what a program gave is what was expected: one strict rule for printed text, and one for values.

Pure, and on plain builtins alone: it runs in the trusted process that holds the tests.

APPS' own evaluator (`testing_util.py`) tries a ladder of ever weaker comparisons, which in the end takes lines in any
order, each line for the set of its words, and numbers rounded to three places. Its sound steps are kept here: white
space is normalised, then numbers are compared as numbers. Where it compares 1000001 to 1000002 within a relative
tolerance, whole numbers have to be equal here.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

RELATIVE, ABSOLUTE = 1e-5, 1e-8
"""APPS': the defaults of `numpy.allclose`, |got - expected| <= ABSOLUTE + RELATIVE |expected|."""
EVALPLUS_RELATIVE, EVALPLUS_ABSOLUTE = 1e-7, 1e-6
"""EvalPlus' (`evalplus/eval/__init__.py`); the absolute one where a problem names none and expects floats."""
MAX_DEPTH = 100
"""Of nested containers, as the codec has it."""

_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


def equal_output(got: str, expected: str) -> bool:
    """Whether printed text is the expected one.

    1. White space: lines are split into words; lines without words count for nothing.
    2. As many lines, and as many words in each, in the same order.
    3. Two words are equal as text; or both are decimal numbers, at least one of them with a point or an exponent, and
       they differ by no more than `ABSOLUTE + RELATIVE |expected|`.

    Example: `equal_output("1.0 2 \\r\\n\\n", "1 2") -> True`, `equal_output("2 1", "1 2") -> False`.
    """
    ours, theirs = _words(got), _words(expected)
    return ours == theirs or (
        len(ours) == len(theirs)
        and all(
            len(line) == len(wanted) and all(map(_equal_words, line, wanted))
            for line, wanted in zip(ours, theirs, strict=True)
        )
    )


def _words(text: str) -> list[list[str]]:
    return [words for line in text.split("\n") if (words := line.split())]


def _equal_words(got: str, expected: str) -> bool:
    if got == expected:
        return True
    if not (_NUMBER.fullmatch(got) and _NUMBER.fullmatch(expected)):
        return False
    if _WHOLE.fullmatch(got) and _WHOLE.fullmatch(expected):
        return False
    return _Rule(relative=RELATIVE, absolute=ABSOLUTE).close(float(got), float(expected))


def equal_value(got: Any, expected: Any) -> bool:
    """Whether a value is the expected one, which came as JSON: exactly, but for what JSON cannot say.

    A tuple is the list of its members, at any depth (APPS: the outermost two), and NaN equals NaN; else Python's `==`
    decides.

    Example: `equal_value((1, (2, 3)), [1, [2, 3]]) -> True`, `equal_value(0.1 + 0.2, 0.3) -> False`.
    """
    return _Rule(tuples_are_lists=True).equal(got, expected)


def equal_wrapped(got: Any, expected: Any) -> bool:
    """As `equal_value`, for APPS' problems that put each output into a list of one: `[3]` stands for 3, too.

    APPS takes the first member of any list; here the list must have no other.
    """
    return equal_value(got, expected) or (
        isinstance(expected, list) and len(expected) == 1 and equal_value(got, expected[0])
    )


def equal_close(got: Any, expected: Any, atol: float = 0.0) -> bool:
    """Whether a value is the expected one by EvalPlus' rule: `==`, or as near as its floats have to be.

    Where `expected` is a float, or a list or tuple of floats alone, and `atol` is 0, `EVALPLUS_ABSOLUTE` stands for
    it. With a tolerance, |got - expected| <= atol + EVALPLUS_RELATIVE |expected| for numbers at the same places in
    containers of the same types and lengths. NaN equals NaN (for EvalPlus nothing does).

    Args:
        got: of the program.
        expected: of the canonical solution.
        atol: the problem's absolute tolerance.
    """
    absolute = EVALPLUS_ABSOLUTE if atol == 0 and _is_floats(expected) else atol
    return _Rule(relative=EVALPLUS_RELATIVE, absolute=absolute or None).equal(got, expected)


def all_close(got: Any, expected: Any, relative: float, absolute: float) -> bool:
    """As `numpy.allclose(got, expected, relative, absolute)` for numbers and nested sequences of equal lengths."""
    return _Rule(tuples_are_lists=True, relative=relative, absolute=absolute).equal(got, expected)


def _is_floats(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(isinstance(member, float) for member in value)
    return isinstance(value, float)


class _Rule(NamedTuple):
    """How values are compared: exactly, where `absolute` is None."""

    tuples_are_lists: bool = False
    relative: float = 0.0
    absolute: float | None = None

    def equal(self, got: Any, expected: Any, depth: int = 0) -> bool:
        if depth > MAX_DEPTH:
            return False
        sequence, number = list | tuple, int | float | complex
        if isinstance(got, sequence) and isinstance(expected, sequence):
            same_kind = self.tuples_are_lists or isinstance(got, list) == isinstance(expected, list)
            return same_kind and self._all_equal(got, expected, depth)
        if isinstance(got, dict) and isinstance(expected, dict):
            keys = list(expected)
            return got.keys() == expected.keys() and self._all_equal(
                [got[key] for key in keys], [expected[key] for key in keys], depth
            )
        if isinstance(got, number) and isinstance(expected, number):
            return got == expected or (got != got and expected != expected) or self.close(got, expected)
        return bool(got == expected)

    def _all_equal(self, got: Sequence[Any], expected: Sequence[Any], depth: int) -> bool:
        return len(got) == len(expected) and all(
            self.equal(ours, theirs, depth + 1) for ours, theirs in zip(got, expected, strict=True)
        )

    def close(self, got: complex, expected: complex) -> bool:
        if self.absolute is None:
            return False
        try:
            if not all(math.isfinite(part) for value in (got, expected) for part in (value.real, value.imag)):
                return False
            return abs(got - expected) <= self.absolute + self.relative * abs(expected)
        except OverflowError:
            # Whole numbers beyond the range of floats; they were not equal.
            return False
