"""Text to token ids and back, and text as it grows: whole characters only, and no further than a stop string."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from codelm.records import END_OF_TEXT, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What decoding puts for bytes that are not (yet) a character."""


class Codec:
    """A model's tokenizer. Special tokens in text are plain text; those in output are left out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.end_of_text: int | None = tokenizer.token_to_id(END_OF_TEXT)

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt_ids(self, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
        """The ids of a prompt that is text, or is ids already."""
        return self.encode(prompt) if isinstance(prompt, str) else prompt

    def opening_ids(self, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
        """As `prompt_ids`; where that is nothing, a document begins, as after the end of another."""
        return self.prompt_ids(prompt) or (() if self.end_of_text is None else (self.end_of_text,))

    def fill_in_the_middle(self, prefix: str, suffix: str, room: int | None = None) -> tuple[int, ...]:
        """The prompt whose completion belongs between prefix and suffix, in the order prefix, suffix, middle.

        Args:
            prefix: text.
            suffix: text.
            room: tokens at most, null for all. What is nearest to the gap is kept; the suffix is cut only where it
                takes more than half of the room.

        Raises:
            ValueError: the model's tokenizer has no such tokens, or there is no room for them.
        """
        begin, middle, end = map(self._tokenizer.token_to_id, (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
        if begin is None or middle is None or end is None:
            raise ValueError(f"the model has no fill-in-the-middle tokens ({FIM_PREFIX}, {FIM_SUFFIX}, {FIM_MIDDLE})")
        before, after = self.encode(prefix), self.encode(suffix)
        if room is not None:
            if room < 3:
                raise ValueError(
                    f"a prompt to fill in the middle takes 3 tokens at least, and there is room for {room}"
                )
            left = room - 3
            after = after[: max(left - len(before), left // 2)]
            before = before[max(len(before) + len(after) - left, 0) :]
        return (begin, *before, middle, *after, end)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds to those before it; a character of several tokens is added by the last."""
        stream = TextStream(self.decode, ())
        texts = [stream.push(token) for token in ids]
        if texts:
            texts[-1] += stream.finish()
        return texts

    def token_name(self, token: int) -> str:
        """One token as OpenAI's log probabilities name it: its text, or `bytes:\\xe2\\x80` where that is no text."""
        name: str = self._tokenizer.id_to_token(token) or ""
        text = self.decode([token])
        if text and REPLACEMENT not in text:
            return text
        # A byte-level vocabulary writes every byte as a character of its own; what it does not have is special.
        known = _bytes_of_characters()
        return (
            "bytes:" + "".join(f"\\x{known[char]:02x}" for char in name) if set(name) <= set(known) and text else name
        )


def load_codec(model_dir: Path) -> Codec:
    """Read `tokenizer.json` of a model's directory.

    Raises:
        FileNotFoundError: there is none.
    """
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer.json in {model_dir}")
    return Codec(Tokenizer.from_file(str(path)))


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    # Here, not above: an engine that needs no transformers starts seconds sooner.
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}


class TextStream:
    """The text of one completion, token by token, cut exactly at the first stop string to be complete.

    Text is held back while its last character lacks bytes, and while its end may be the beginning of a stop.

    Example, with stop "END": pushing "a", "E", "N", "x" gives "a", "", "", "ENx".
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self._decode, self._stops = decode, [stop for stop in stops if stop]
        self._ids: list[int] = []
        # Ids from `_start` are decoded each time: those from `_shown` on have not been shown, those between give
        # the context that some tokenizers need at the beginning of a text.
        self._start = self._shown = 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; the text that has become certain."""
        self._ids.append(token)
        return self._scan(self._new_text(last=False))

    def finish(self) -> str:
        """No token will come: the text that was held back."""
        text = self._scan(self._new_text(last=True))
        return text if self.stopped else text + self._held

    def _new_text(self, last: bool) -> str:
        text = self._decode(self._ids[self._start :])
        if text.endswith(REPLACEMENT) and not last:
            return ""
        new = text[len(self._decode(self._ids[self._start : self._shown])) :]
        self._start, self._shown = self._shown, len(self._ids)
        return new

    def _scan(self, new: str) -> str:
        self._held += new
        found = [(self._held.find(stop), stop) for stop in self._stops]
        complete = [(at + len(stop), at) for at, stop in found if at >= 0]
        if complete:
            self.stopped = True
            return self._held[: min(complete)[1]]
        keep = self._beginning_of_a_stop()
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def _beginning_of_a_stop(self) -> int:
        """How many characters at the end may turn out to be the beginning of a stop string."""
        longest = min(max(map(len, self._stops), default=1) - 1, len(self._held))
        for length in range(longest, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
