import hashlib
import statistics

from hypothesis import given
from hypothesis import strategies as st

from codelm.corpus.hashing import coin, content_id


def test_id_is_the_blake2b_hash_of_the_text() -> None:
    assert content_id(b"x = 1\n") == hashlib.blake2b(b"x = 1\n", digest_size=16).hexdigest()


@given(st.integers(0, 2**32 - 1), st.text())
def test_coins_lie_in_the_half_open_unit_interval_and_repeat(seed: int, key: str) -> None:
    assert 0 <= coin(seed, "a", key) < 1
    assert coin(seed, "a", key) == coin(seed, "a", key)


def test_coins_are_uniform_and_independent_of_each_other() -> None:
    first = [coin(0, "a", str(key)) for key in range(4000)]
    second = [coin(0, "b", str(key)) for key in range(4000)]
    third = [coin(1, "a", str(key)) for key in range(4000)]
    # The mean of 4,000 uniform numbers has a standard deviation of sqrt(1/12/4000) = 0.0046.
    assert abs(statistics.mean(first) - 0.5) < 5 * 0.0046
    # A correlation of 4,000 independent pairs has a standard deviation of 1/sqrt(4000) = 0.016.
    assert abs(statistics.correlation(first, second)) < 5 * 0.016
    assert abs(statistics.correlation(first, third)) < 5 * 0.016
