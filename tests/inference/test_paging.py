"""The pool of blocks, against a plain model of it."""

from hypothesis import given
from hypothesis import strategies as st

from codelm.inference.paging import Pool, keys_of

SIZE = 4


def test_keys_stand_for_all_tokens_up_to_the_blocks_end() -> None:
    keys = keys_of([1, 2, 3, 4, 5, 6, 7, 8, 9], SIZE)
    assert len(keys) == 2
    assert keys_of([1, 2, 3, 4, 5, 6, 7, 0, 9], SIZE)[0] == keys[0]
    assert keys_of([1, 2, 3, 4, 5, 6, 7, 0, 9], SIZE)[1] != keys[1]
    # The same block after another beginning is another.
    assert keys_of([0, 2, 3, 4, 5, 6, 7, 8], SIZE)[1] != keys[1]
    assert keys_of([1, 2, 3, 4, 5, 6, 7, 8, 9], SIZE, keys[:1]) == keys


def test_a_prefix_outlives_its_holder_until_its_block_is_needed() -> None:
    pool = Pool(range(3), remember=True)
    first, second = keys_of([1] * 8, SIZE)
    blocks = pool.take([], 2)
    assert blocks is not None
    pool.publish(blocks[0], first)
    pool.publish(blocks[1], second)
    pool.release(blocks)
    assert pool.known([first, second]) == blocks
    assert pool.take([], 2) is not None
    # The end of the text went first.
    assert pool.known([first, second]) == blocks[:1]


def test_nothing_is_remembered_where_it_is_not_wanted() -> None:
    pool = Pool(range(3), remember=False)
    (key,) = keys_of([1] * 4, SIZE)
    blocks = pool.take([], 1)
    assert blocks is not None
    pool.publish(blocks[0], key)
    assert pool.take(pool.known([key]), 0) == blocks
    pool.release(blocks)
    assert pool.known([key]) == blocks
    pool.release(blocks)
    assert pool.known([key]) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), max_size=60), st.booleans())
def test_no_block_is_held_twice_unless_shared(steps: list[tuple[int, int, bool]], remember: bool) -> None:
    pool = Pool(range(10), remember)
    held: list[tuple[list[int], int]] = []
    for text, blocks, end in steps:
        keys = keys_of([text] * blocks * SIZE, SIZE)
        shared = pool.known(keys)
        taken = pool.take(shared, blocks - len(shared))
        if taken is not None:
            # Fresh blocks are nobody's, and shared ones hold the same text.
            others = [(block, other) for these, other in held for block in these]
            assert all(text == other for block, other in others if block in taken)
            assert not {block for block, _ in others} & set(taken[len(shared) :])
            for block, key in zip(taken, keys, strict=True):
                pool.publish(block, key)
            held.append((taken, text))
        if (end or taken is None) and held:
            pool.release(held.pop(0)[0])
        assert pool.free == 10 - len({block for these, _ in held for block in these})
    for these, _ in held:
        pool.release(these)
    assert pool.free == pool.size == 10
