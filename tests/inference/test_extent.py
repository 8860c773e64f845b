"""How far a completion goes in an editor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.inference.extent import Context, Cutter, Extent


def cut(context: Context, pieces: list[str]) -> str:
    cutter, shown = Cutter(context), ""
    for piece in pieces:
        shown += cutter.push(piece)
        if cutter.done:
            return shown
    return shown + cutter.finish()


@pytest.mark.parametrize(
    ("prefix", "text", "kept"),
    [
        ("def f(a, b):", "\n    return a + b\n\ndef g():\n    pass", "\n    return a + b"),
        ("def f(a, b):\n", "    return a + b\n\n\nprint(f(1, 2))\n", "    return a + b"),
        ("    def f(a, b):\n        ", "return a + b\n\n    def g():\n        pass", "return a + b"),
        ("class A:\n    def f(", "a):\n        return a\n\n    def g():", "a):\n        return a"),
        ("def f():\n    x = ", "1\n    y = 2\n    return x\nz = 3\n", "1\n    y = 2\n    return x"),
        ("x = ", "1\ny = 2\n", "1"),
        ("", "if x:\n    a\nelse:\n    b\nprint(1)\n", "if x:\n    a\nelse:\n    b"),
        ("function ", "foo(x) {\n  a();\n}\nbar", "foo(x) {\n  a();\n}"),
        ("\tif x:\n\t\t", "a()\n\t\tb()\n\tc()", "a()\n\t\tb()"),
        ("x = [", "\n    1,\n    2,\n]\ny", "\n    1,\n    2,\n]"),
        ("if 1:\n", "    x()\n" * 8, "    x()\n    x()"),
    ],
)
def test_a_block_ends_by_its_indentation(prefix: str, text: str, kept: str) -> None:
    assert cut(Context(prefix, extent="block"), [text]) == kept
    assert cut(Context(prefix, extent="block"), list(text)) == kept


@pytest.mark.parametrize(("text", "kept"), [("x = 1\n  y = 2", "x = 1"), ("\n    return 1\n", "\n    return 1")])
def test_a_line_ends_with_the_line(text: str, kept: str) -> None:
    assert cut(Context("def f():", extent="line"), list(text)) == kept


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "kept"),
    [
        ("print(", ")\n    return x", "a, b)\n    return 3", "a, b"),
        ("print(", ")\n    return x", "f(a), b)\n    return 3", "f(a), b"),
        ("print(", ")", "f(a)", "f(a)"),
        ("    for x in xs:\n        ", "\n    return total\n", "total += x\n    return total\n", "total += x"),
        ("def f():\n    ", "\n    return total\n", "x = 1\n    return total\n", "x = 1"),
        ("x = ", " + b  # sum", "a + b  # sum", "a"),
    ],
)
def test_the_suffix_is_not_repeated(prefix: str, suffix: str, text: str, kept: str) -> None:
    assert cut(Context(prefix, suffix, "block"), list(text)) == kept


def test_a_least_indentation_is_kept() -> None:
    assert (
        cut(Context("        a\n", extent="block", indent=8), ["        b\n        c\n    d"]) == "        b\n        c"
    )


def test_free_is_everything() -> None:
    assert cut(Context("x", "y", "free"), ["y\n", "y\ny\ny"]) == "y\ny\ny\ny"


CODE = st.text(alphabet="ab )(}:\n \t{", max_size=30)


@given(CODE, CODE, CODE, st.sampled_from(["line", "block"]))
def test_the_same_is_shown_however_the_text_comes(prefix: str, suffix: str, text: str, extent: Extent) -> None:
    whole = cut(Context(prefix, suffix, extent), [text])
    assert text.startswith(whole)
    assert cut(Context(prefix, suffix, extent), list(text)) == whole
