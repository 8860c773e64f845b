import pytest

from codelm.corpus.split import check_both_sides, is_held_out
from codelm.errors import UserError


def test_holds_out_about_the_fraction_asked_for() -> None:
    held_out = sum(is_held_out(0, str(cluster), 0.05) for cluster in range(20_000))
    # Binomial: 1,000 expected, standard deviation sqrt(20000 * 0.05 * 0.95) = 31.
    assert abs(held_out - 1000) < 5 * 31


def test_a_larger_fraction_holds_out_the_same_and_more() -> None:
    small = {cluster for cluster in map(str, range(1000)) if is_held_out(3, cluster, 0.1)}
    large = {cluster for cluster in map(str, range(1000)) if is_held_out(3, cluster, 0.2)}
    assert small < large


@pytest.mark.parametrize(("train", "held_out", "change"), [(10, 0, "raise"), (0, 3, "lower")])
def test_an_empty_side_is_the_users_to_mend(train: int, held_out: int, change: str) -> None:
    with pytest.raises(UserError, match=rf"data.validation_fraction: 0.1 .* of {train + held_out} documents.*{change}"):
        check_both_sides(train, held_out, 0.1)


def test_one_document_on_each_side_is_enough() -> None:
    check_both_sides(1, 1, 0.1)
