"""The wire format: plain values come back equal and of the same type; nothing else is accepted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.sandbox.codec import MAX_DEPTH, CodecError, decode, encode

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters()),
    st.binary(),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(ATOMS, inner),
        st.sets(ATOMS),
        st.frozensets(ATOMS),
    ),
    max_leaves=20,
)


def shape(value: Any) -> str:
    """A text that tells apart values that are equal but of other types, such as 1, 1.0 and True."""
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}{[shape(inner) for inner in value]}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(shape(inner) for inner in value)}"
    if isinstance(value, dict):
        return f"dict{[(shape(key), shape(inner)) for key, inner in value.items()]}"
    return f"{type(value).__name__} {value!r}"


@given(VALUES)
def test_values_come_back_the_same(value: Any) -> None:
    assert shape(decode(encode(value))) == shape(value)


def test_surrogates_and_large_integers_travel() -> None:
    assert decode(encode(["\ud800", 10**5000, -(2**64)])) == ["\ud800", 10**5000, -(2**64)]


@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_an_error(message: bytes) -> None:
    try:
        decode(message)
    except CodecError:
        return
    assert message


@pytest.mark.parametrize(
    "message", [b"", b"x", b"i\0\0\0\1", b"i\0\0\0\1z", b"NN", b"l\xff\xff\xff\xff", b"d\0\0\0\1l\0\0\0\0N", b"f\0"]
)
def test_malformed_messages_are_refused(message: bytes) -> None:
    with pytest.raises(CodecError):
        decode(message)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"1 2", b"[1]x", b" 1x", b"\xff", b"9" * 5000, b"[" * 100_000, b"[" + b"0," * (1 << 19) + b"0]"]
)
def test_malformed_json_is_refused(text: bytes) -> None:
    with pytest.raises(CodecError):
        decode(b"j" + text)


@pytest.mark.parametrize(
    "value",
    [
        float("inf"),
        -0.0,
        "\ud83d\ude00",
        {"a": [1, None, True]},
        {1: 2},
        [(1,)],
    ],
)
def test_what_json_would_change_travels_otherwise(value: Any) -> None:
    assert shape(decode(encode(value))) == shape(value)


def test_depth_is_bounded_on_both_sides() -> None:
    with pytest.raises(CodecError, match="deep"):
        decode(b"l\0\0\0\1" * (MAX_DEPTH + 2) + b"N")
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CodecError, match="deep"):
        encode(endless)


@pytest.mark.parametrize("value", [object(), range(3), print, iter([]), bytearray(b"x"), {"a": object()}])
def test_other_values_do_not_travel(value: Any) -> None:
    with pytest.raises(CodecError, match="plain builtins alone travel"):
        encode(value)


def test_subclasses_arrive_as_what_they_hold() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    class Shy(list[int]):
        def __iter__(self) -> Any:
            return iter([9])

    number, members = decode(encode((Liar(7), Shy([1, 2]))))
    assert (type(number), number == 8, members) == (int, False, [1, 2])
