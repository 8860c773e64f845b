"""Signatures and bands against exact similarities and the S-curve."""

import itertools
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from codelm.corpus.minhash import band_hashes, bands_and_rows, signatures
from codelm.corpus.shingles import shingles
from codelm.errors import UserError
from tests.corpus.exact import jaccard


@pytest.mark.parametrize(("threshold", "expected"), [(0.7, (42, 6)), (0.85, (25, 10)), (0.5, (85, 3))])
def test_the_most_rows_that_catch_99_of_100_pairs_at_the_threshold(threshold: float, expected: tuple[int, int]) -> None:
    bands, rows = bands_and_rows(threshold, 256)
    assert (bands, rows) == expected
    assert 1 - (1 - threshold**rows) ** bands >= 0.99
    assert 1 - (1 - threshold ** (rows + 1)) ** (256 // (rows + 1)) < 0.99


def test_too_few_permutations_are_the_users_to_mend() -> None:
    assert bands_and_rows(0.25, 17) == (17, 1)
    with pytest.raises(UserError, match=r"16 are too few to find pairs of similarity 0.25 .* 99% of the time"):
        bands_and_rows(0.25, 16)


def test_signatures_estimate_the_exact_similarity_of_real_files() -> None:
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-h]*.py"))
    texts = [data for path in paths if len(data := path.read_bytes()) > 3000]
    texts += [text[: int(len(text) * share)] for text in texts[:20] for share in (0.5, 0.7, 0.9)]
    hashes, offsets = shingles(texts, 5)
    rows = signatures(hashes, offsets, 256)
    sets = [np.unique(hashes[start:end]) for start, end in itertools.pairwise(offsets)]
    errors = []
    for a, b in itertools.combinations(range(len(texts)), 2):
        exact = jaccard(sets[a], sets[b])
        if exact > 0.05:
            errors.append((rows[a] == rows[b]).mean() - exact)
    assert len(errors) > 60
    # The standard deviation of one estimate is at most 1 / (2 * sqrt(256)) = 0.031.
    assert abs(np.mean(errors)) < 0.02
    assert np.abs(errors).max() < 5 * 0.031


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8])
def test_pairs_share_a_band_as_often_as_the_s_curve_says(similarity: float) -> None:
    pairs, elements = 600, 400
    generator = np.random.default_rng(0)
    common = round(elements * similarity)
    own = (elements - common) // 2
    drawn = generator.integers(0, 2**64, size=(pairs, common + 2 * own), dtype=np.uint64)
    sets = np.stack([drawn[:, : common + own], np.delete(drawn, np.s_[common : common + own], axis=1)], axis=1)
    offsets = np.arange(2 * pairs + 1, dtype=np.uint64) * np.uint64(common + own)
    bands = band_hashes(signatures(sets.reshape(-1), offsets, 256), 25, 10).reshape(pairs, 2, 25)
    caught = (bands[:, 0] == bands[:, 1]).any(axis=1).mean()
    expected = 1 - (1 - similarity**10) ** 25
    assert abs(caught - expected) < 4 * np.sqrt(expected * (1 - expected) / pairs)


def test_repetitions_and_order_change_nothing() -> None:
    hashes = np.arange(1, 101, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    twice = np.concatenate([hashes[::-1], hashes])
    one = signatures(hashes, np.array([0, 100], np.uint64), 64)
    two = signatures(twice, np.array([0, 200], np.uint64), 64)
    assert (one == two).all()


def test_equal_rows_in_other_bands_are_not_the_same_band() -> None:
    bands = band_hashes(np.ones((1, 20), np.uint32), 4, 5)
    assert len(set(bands[0].tolist())) == 4
