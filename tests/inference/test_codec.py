"""Streamed text: the same as decoding everything, whole characters only, cut at stops."""

from hypothesis import given
from hypothesis import strategies as st

from codelm.inference.codec import Codec, TextStream
from tests.inference.tiny import tiny_tokenizer

CODEC = Codec(tiny_tokenizer())


def pieces(ids: list[int], stops: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    text = TextStream(CODEC.decode, stops)
    shown = []
    for token in ids:
        shown.append(text.push(token))
        if text.stopped:
            return shown, True
    shown.append(text.finish())
    return shown, text.stopped


@given(st.text())
def test_text_survives(text: str) -> None:
    assert CODEC.decode(CODEC.encode(text)) == text
    shown, _ = pieces(list(CODEC.encode(text)))
    assert "".join(shown) == text
    assert all("\ufffd" not in piece for piece in shown) or "\ufffd" in text


@given(st.lists(st.integers(0, 319), max_size=60))
def test_any_ids_stream_to_their_decoding(ids: list[int]) -> None:
    assert "".join(pieces(ids)[0]) == CODEC.decode(ids)


@given(st.text("ab\n", max_size=40), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_stops_cut_where_the_first_is_complete(text: str, stops: list[str]) -> None:
    shown, stopped = pieces([CODEC.encode(letter)[0] for letter in text], tuple(stops))
    ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    assert stopped == bool(ends)
    assert "".join(shown) == (text[: min(ends)[1]] if ends else text)


def test_the_beginning_of_a_stop_is_held_back() -> None:
    text = TextStream(CODEC.decode, ("END",))
    assert [text.push(CODEC.encode(letter)[0]) for letter in "aENx"] == ["a", "", "", "ENx"]


def test_half_a_character_is_held_back() -> None:
    text = TextStream(CODEC.decode, ())
    shown = [text.push(token) for token in CODEC.encode("€")]
    assert shown == ["", "", "€"]
