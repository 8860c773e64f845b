import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.training.order import SampleOrder, share_of_step


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 5))
def test_every_sample_comes_exactly_once_in_an_epoch(samples: int, seed: int, epoch: int) -> None:
    order = SampleOrder(samples, seed)
    cursors = np.arange(epoch * samples, (epoch + 1) * samples)
    assert sorted(order.at(cursors)) == list(range(samples))


def test_one_cursor_alone_gives_what_it_gives_among_others() -> None:
    order = SampleOrder(1000, seed=3)
    together = order.at(np.arange(2500))
    assert [int(order.at(np.array([cursor]))[0]) for cursor in range(0, 2500, 97)] == together[::97].tolist()


def test_seed_and_epoch_change_the_order() -> None:
    cursors = np.arange(1000)
    first = SampleOrder(1000, 0).at(cursors)
    for other in (SampleOrder(1000, 1).at(cursors), SampleOrder(1000, 0).at(cursors + 1000)):
        # Two random permutations agree at one place on average, whatever their length.
        assert np.count_nonzero(first == other) < 10


@pytest.mark.parametrize("samples", [1000, 1024, 4097])
def test_places_are_uniform(samples: int) -> None:
    """Chi-square over 10 x 10 cells of (place, sample), 200 seeds: 81 degrees of freedom, deviation 12.7."""
    counts = np.zeros((10, 10))
    for seed in range(200):
        drawn = SampleOrder(samples, seed).at(np.arange(samples))
        np.add.at(counts, (np.arange(samples) * 10 // samples, drawn * 10 // samples), 1)
    margins = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    chi_square = ((counts - margins) ** 2 / margins).sum()
    assert 30 < chi_square < 81 + 5 * 12.7


def test_neighbours_are_not_kept_together() -> None:
    """The distance of successive samples of a random order is a third of the samples on average."""
    drawn = SampleOrder(10_000, 5).at(np.arange(10_000))
    assert abs(np.abs(np.diff(drawn)).mean() / 10_000 - 1 / 3) < 0.01


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_consume_one_global_sequence_each_sample_once(workers: int) -> None:
    order, batch, consumed = SampleOrder(100, seed=9), 16, []
    for step in range(25):
        shares = [share_of_step(step * batch, batch, 2, rank, workers) for rank in range(workers)]
        assert {share.shape for share in shares} == {(batch // (2 * workers), 2)}
        taken = np.concatenate([order.at(share).reshape(-1) for share in shares])
        # As a set, the batch of a step is the same however many workers share it.
        assert sorted(taken) == sorted(order.at(np.arange(step * batch, (step + 1) * batch)))
        consumed.extend(taken)
    assert sorted(consumed) == sorted(list(range(100)) * 4)


def test_the_worked_example() -> None:
    assert share_of_step(0, 8, 2, rank=1, workers=2).tolist() == [[2, 3], [6, 7]]
