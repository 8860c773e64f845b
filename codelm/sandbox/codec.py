"""A strict wire format for values of plain builtins, between a trusted and an untrusted process.

What is decoded has exactly these types: None, bool, int, float, complex, str, bytes, list, tuple, dict, set,
frozenset; nothing of the sender's code or classes gets through. The sender may subclass them: the values travel
as the plain ones that they hold.

What JSON holds exactly travels as JSON, which C reads and writes; the rest in blocks of a tag, a length and content:

    encode([1, "a"]) == b'j[1,"a"]'
    encode((1, "a")) == b"t\\x00\\x00\\x00\\x02i\\x00\\x00\\x00\\x011s\\x00\\x00\\x00\\x01a"
"""

import json
import struct
from _json import encode_basestring, make_encoder
from typing import Any

MAX_BYTES = 16 << 20
"""Of one message; the largest result in HumanEval has some kilobytes."""
MAX_DEPTH = 100
"""Of nested containers, well under Python's recursion limit."""
MAX_JSON_BYTES = 1 << 20
"""Of what travels as JSON, whose shortest values take 20 times their length in memory."""

_LENGTH = struct.Struct(">I")
_BLOCK = struct.Struct(">cI")
_DOUBLE = struct.Struct(">d")
_DOUBLES = struct.Struct(">dd")
_ATOMS: dict[int, Any] = {ord("N"): None, ord("T"): True, ord("F"): False}
_SEQUENCES: tuple[tuple[Any, bytes], ...] = ((list, b"l"), (tuple, b"t"), (set, b"e"), (frozenset, b"z"))
_TAGS = dict(_SEQUENCES)
_BUILDERS: dict[int, Any] = {ord("l"): None, ord("t"): tuple, ord("e"): set, ord("z"): frozenset}
_INT, _STR, _BYTES, _DICT, _FLOAT, _COMPLEX = b"isbdfc"
_JSON = b"j"
_IN_JSON = frozenset((type(None), bool, int, float, str))
_to_json = make_encoder(None, repr, encode_basestring, None, ":", ",", False, False, True)
"""What `json.JSONEncoder.encode` calls, without its own Python code: programs replace the builtins that it uses."""
_from_json = json.JSONDecoder().raw_decode


class CodecError(ValueError):
    """A value or a message that the format does not allow."""


def encode(value: Any) -> bytes:
    """The message of a value.

    Raises:
        CodecError: it holds something else than plain builtins, is nested too deeply or too large.
    """
    if _fits_json(value, 0):
        try:
            text = _JSON + "".join(_to_json(value, 0)).encode("utf-8", "surrogatepass")
        except ValueError:  # an integer of more digits than Python prints
            text = b""
        if 0 < len(text) <= MAX_JSON_BYTES:
            return text
    out: list[bytes] = []
    _encode(value, out, 0)
    message = b"".join(out)
    if len(message) > MAX_BYTES:
        raise CodecError(f"a value of {len(message)} bytes; at most {MAX_BYTES} travel")
    return message


def _fits_json(value: Any, depth: int) -> bool:
    """Whether JSON gives back just this value, types included."""
    kind = type(value)
    if kind in _IN_JSON:
        return kind is not str or len(value) < MAX_JSON_BYTES
    if depth >= MAX_DEPTH:
        return False
    if kind is dict:
        return {str}.issuperset(map(type, value)) and all(_fits_json(inner, depth + 1) for inner in value.values())
    if kind is not list:
        return False
    return _IN_JSON.issuperset(map(type, value)) or all(_fits_json(inner, depth + 1) for inner in value)


def _encode(value: Any, out: list[bytes], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CodecError(f"a value nested more than {MAX_DEPTH} deep")
    kind = type(value)
    # The most frequent types first.
    if kind is int:
        _block(out, b"i", b"%x" % value)
    elif kind is str:
        _block(out, b"s", value.encode("utf-8", "surrogatepass"))
    elif value is None or kind is bool:
        out.append(b"N" if value is None else b"T" if value else b"F")
    elif kind in _TAGS:
        out.append(_BLOCK.pack(_TAGS[kind], len(value)))
        depth += 1
        for member in value:
            _encode(member, out, depth)
    else:
        _encode_other(value, out, depth)


def _encode_other(value: Any, out: list[bytes], depth: int) -> None:
    # The unbound methods of the builtin types: a subclass may have replaced its own.
    if isinstance(value, float):
        out.append(b"f" + _DOUBLE.pack(float.__float__(value)))
    elif isinstance(value, dict):
        items = list(dict.items(value))
        out.append(_BLOCK.pack(b"d", len(items)))
        for key, inner in items:
            _encode(key, out, depth + 1)
            _encode(inner, out, depth + 1)
    elif isinstance(value, int):
        _block(out, b"i", format(int.__index__(value), "x").encode())
    elif isinstance(value, str):
        _block(out, b"s", str.encode(value, "utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        _block(out, b"b", bytes.__getitem__(value, slice(None)))
    elif isinstance(value, complex):
        out.append(b"c" + _DOUBLES.pack(complex.real.__get__(value), complex.imag.__get__(value)))
    else:
        for kind, tag in _SEQUENCES:
            if isinstance(value, kind):
                members = list(kind.__iter__(value))
                out.append(_BLOCK.pack(tag, len(members)))
                for member in members:
                    _encode(member, out, depth + 1)
                return
        raise CodecError(f"a value of type {type(value).__name__}; plain builtins alone travel")


def _block(out: list[bytes], tag: bytes, content: bytes) -> None:
    out.append(_BLOCK.pack(tag, len(content)) + content)


def decode(message: bytes) -> Any:
    """The value of a message from an untrusted sender.

    Raises:
        CodecError: the message is malformed, or too large.
    """
    if len(message) > MAX_BYTES:
        raise CodecError(f"a message of {len(message)} bytes; at most {MAX_BYTES} travel")
    if message[:1] == _JSON:
        return _decode_json(message)
    try:
        value, end = _decode(message, 0, 0)
    except (struct.error, UnicodeDecodeError, TypeError) as error:
        raise CodecError(f"a malformed message: {error}") from error
    if end != len(message):
        raise CodecError(f"{len(message) - end} bytes after the value")
    return value


def _decode_json(message: bytes) -> Any:
    if len(message) > MAX_JSON_BYTES:
        raise CodecError(f"{len(message)} bytes of JSON; at most {MAX_JSON_BYTES} travel")
    try:
        text = message[1:].decode("utf-8", "surrogatepass")
        value, end = _from_json(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"a malformed message: {error}") from error
    if end != len(text):
        raise CodecError(f"{len(text) - end} characters after the value")
    return value


def _decode(message: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise CodecError(f"a message nested more than {MAX_DEPTH} deep")
    if at >= len(message):
        raise CodecError("a message that ends before its value")
    tag = message[at]
    if tag in _ATOMS:
        return _ATOMS[tag], at + 1
    if tag == _FLOAT:
        return _DOUBLE.unpack_from(message, at + 1)[0], at + 9
    if tag == _COMPLEX:
        return complex(*_DOUBLES.unpack_from(message, at + 1)), at + 17
    (length,) = _LENGTH.unpack_from(message, at + 1)
    at += 5
    if length > len(message) - at:
        # Every member takes a byte at least: no small message makes a large value.
        raise CodecError(f"a length of {length} where {len(message) - at} bytes are left")
    if tag in (_INT, _STR, _BYTES):
        return _from_block(tag, message[at : at + length]), at + length
    if tag == _DICT:
        pairs = {}
        for _ in range(length):
            key, at = _decode(message, at, depth + 1)
            pairs[key], at = _decode(message, at, depth + 1)
        return pairs, at
    if tag not in _BUILDERS:
        raise CodecError(f"an unknown tag {tag}")
    members = []
    for _ in range(length):
        member, at = _decode(message, at, depth + 1)
        members.append(member)
    build = _BUILDERS[tag]
    return (members if build is None else build(members)), at


def _from_block(tag: int, content: bytes) -> int | str | bytes:
    if tag == _BYTES:
        return content
    text = content.decode("utf-8", "surrogatepass")
    if tag == _STR:
        return text
    try:
        return int(text, 16)
    except ValueError as error:
        raise CodecError(f"no integer: {text[:20]!r}") from error
