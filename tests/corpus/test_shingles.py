"""Shingles against sets of word tuples made by a regular expression."""

import itertools
import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.corpus import shingles as module
from codelm.corpus.shingles import shingle_sets, shingles
from tests.corpus.exact import jaccard, shingle_set

WORD = re.compile(rb"[A-Za-z0-9_\x80-\xff]+")


def tuples(text: bytes, words: int) -> list[tuple[bytes, ...]]:
    found = WORD.findall(text)
    return [tuple(found[start : start + words]) for start in range(len(found) - words + 1)]


def split(hashes: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [hashes[start:end].tolist() for start, end in itertools.pairwise(offsets)]


def stdlib_texts(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob(pattern))]


LETTERS = [b"a", b"b", b"ab", b"ba", b"_", b"9", "é".encode(), b" ", b"\n", b"+"]
LONG = [b"a" * 8, b"ab" * 8, b"a" * 55, b"a" * 64]  # words are hashed by eight bytes, and whole from 64 on
pieces = st.lists(st.sampled_from(LETTERS + LONG), max_size=30)


@given(st.lists(pieces.map(b"".join), max_size=6), st.integers(1, 4))
def test_equal_shingles_are_those_of_equal_words(texts: list[bytes], words: int) -> None:
    found = split(*shingles(texts, words))
    expected = [tuples(text, words) for text in texts]
    assert [len(hashes) for hashes in found] == [len(each) for each in expected]
    pairs = {(a, b) for each, hashes in zip(expected, found, strict=True) for a, b in zip(each, hashes, strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize("words", [1, 5])
def test_real_files_have_as_many_distinct_shingles_as_tuples_of_words(words: int) -> None:
    texts = stdlib_texts("[a-f]*.py")
    found = split(*shingles(texts, words))
    distinct = {item for text in texts for item in tuples(text, words)}
    assert len({item for each in found for item in each}) == len(distinct) > 1000
    assert [len(set(each)) for each in found] == [len(set(tuples(text, words))) for text in texts]


def test_shingles_do_not_depend_on_what_is_hashed_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = stdlib_texts("[a-c]*.py")
    together = split(*shingles(texts, 5))
    assert together == [shingles([text], 5)[0].tolist() for text in texts]
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    assert split(*shingles(texts, 5)) == together


def test_sets_are_sorted_and_without_repetitions() -> None:
    texts = [b"", b"a b a b a b", b"x", *stdlib_texts("[a-b]*.py"), b"a b"]
    each = split(*shingles(texts, 2))
    assert split(*shingle_sets(texts, 2)) == [sorted(set(hashes)) for hashes in each]
    assert len(shingle_sets([], 2)[0]) == 0


def test_known_values_stay_the_same() -> None:
    # A change would put new runs beside old ones that cannot be compared.
    hashes, offsets = shingles([b"one two three four five six"], 5)
    assert offsets.tolist() == [0, 2]
    assert hashes.tolist() == [5357589570906064309, 16691496687555011867]


def test_fewer_words_than_a_shingle_give_none() -> None:
    assert len(shingle_set(b"one two three four", 5)) == 0
    assert len(shingle_set(b"one two three four five", 5)) == 1
    assert len(shingle_set(b"", 5)) == len(shingle_set(b"+ - *", 1)) == 0


def test_jaccard_is_that_of_the_sets_of_words() -> None:
    a, b = stdlib_texts("base64.py")[0], stdlib_texts("binhex.py" if stdlib_texts("binhex.py") else "bdb.py")[0]
    b = a[: len(a) // 2] + b
    one, two = set(tuples(a, 5)), set(tuples(b, 5))
    assert jaccard(shingle_set(a, 5), shingle_set(b, 5)) == len(one & two) / len(one | two)
    assert jaccard(shingle_set(b"", 5), shingle_set(b"", 5)) == 0
