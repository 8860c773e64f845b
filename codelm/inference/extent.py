"""How far a completion goes in an editor: to the end of the line or of the block, and never into the suffix.

All of it is a function of the text so far, so that a stream can be cut while it is generated: `certain` says how much
of a text may be shown, whatever comes after, and whether that was all.
"""

from dataclasses import dataclass
from typing import Literal

Extent = Literal["free", "line", "block"]

OPENERS = (":", "{", "(", "[")
"""A line that ends with one of them begins a block that is indented deeper."""
CLOSERS = (")", "]", "}", "else", "elif", "except", "finally", "catch", "end", "fi", "done")
"""A line that begins with one of them still belongs to the block before, at the block's own indentation."""
REPEATS = 3
"""A line so many times in a row is a model that goes round in circles: the last is not shown."""


@dataclass(frozen=True)
class Context:
    """Where a completion stands.

    Attributes:
        prefix: the text before it.
        suffix: the text after it; "" where that is not known.
        extent: `line` ends with the line, `block` with the block by indentation, `free` nowhere, suffix or not.
        indent: a line that is indented less ends a block, in columns; None takes that of the cursor's line.
    """

    prefix: str
    suffix: str = ""
    extent: Extent = "free"
    indent: int | None = None


class Cutter:
    """Cuts a completion while it grows; `push` and `finish` give what may be shown, as `TextStream` does."""

    def __init__(self, context: Context) -> None:
        self._context, self._text, self._shown = context, "", 0
        self.done = False
        """Whether what has been shown is all: more text makes no difference."""

    def push(self, text: str) -> str:
        """Add text; what has become certain."""
        return self._show(text, last=False)

    def finish(self) -> str:
        """No text will come: the rest."""
        return self._show("", last=True)

    def _show(self, text: str, last: bool) -> str:
        if self.done:
            return ""
        self._text += text
        length, self.done = certain(self._context, self._text, last)
        shown, self._shown = self._text[self._shown : length], max(length, self._shown)
        return shown


def certain(context: Context, text: str, last: bool = False) -> tuple[int, bool]:
    """How many characters of a completion may be shown, and whether nothing after them will be.

    Args:
        context: where it stands.
        text: of the completion so far.
        last: whether that is all of it.
    """
    if context.extent == "free":
        return len(text), last
    length, done = _line_end(text) if _is_one_line(context) else _block_end(context, text, last)
    repeat = _suffix_begins(context, text[:length], last or done)
    if repeat is None:
        return length, done or last
    return min(length, repeat[0]), repeat[1] or done or last


def _is_one_line(context: Context) -> bool:
    rest_of_line = context.suffix.partition("\n")[0].strip()
    # Before a closing bracket a block may still be meant; before other text on the line it cannot.
    return context.extent == "line" or any(char.isalnum() for char in rest_of_line)


def _line_end(text: str) -> tuple[int, bool]:
    """The first end of a line after something other than space: an empty line is no completion."""
    end = text.find("\n", len(text) - len(text.lstrip()))
    return (len(text), False) if end < 0 else (end, True)


def _columns(line: str) -> int:
    expanded = line.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


def _block_end(context: Context, text: str, last: bool) -> tuple[int, bool]:
    """Where the block of the cursor's line ends, by the indentation of the lines.

    The head is the cursor's line, or the first with text. What follows is in its block while it is indented deeper,
    where the head opens a block or stands at the margin, and while it is indented as much elsewhere.
    """
    before = context.prefix.rsplit("\n", 1)[-1]
    lines = (before + text).split("\n")
    at = -len(before)  # where the line begins, in `text`
    head: str | None = None
    kept = 0  # where the last line of the block ends
    repeats: tuple[str, int] = ("", 0)
    for number, line in enumerate(lines):
        whole = last or number < len(lines) - 1
        end = at + len(line)
        words = line.strip()
        if head is None:
            if words or not whole:
                head = line
        elif not words:
            if not whole:
                return kept, False
            at = end + 1
            continue
        elif _leaves(context, head, line):
            if not whole and any(closer.startswith(words) for closer in CLOSERS):
                return kept, False  # it may yet turn out to be one
            return kept, True
        if repeats[1] == REPEATS - 1 and repeats[0].startswith(words):
            return kept, whole and words == repeats[0]
        repeats = (words, repeats[1] + 1) if words == repeats[0] else (words, 1)
        kept, at = max(end, 0), end + 1
    return (len(text) if last else kept), False


def _leaves(context: Context, head: str, line: str) -> bool:
    """Whether a line with text is no longer in the block that `head` is in, or opens."""
    columns = _columns(line)
    if context.indent is not None:
        return columns < context.indent
    base = _columns(head)
    closes = line.lstrip().startswith(CLOSERS)
    if base > 0 and not head.rstrip().endswith(OPENERS):
        return columns < base
    return columns < base or (columns == base and not closes)


def _suffix_begins(context: Context, text: str, last: bool) -> tuple[int, bool] | None:
    """Where the text begins to repeat the suffix: (how much to show, whether that is all); None if nowhere.

    Example: before the suffix ")\\n    return x", the text "a, b)" is shown as "a, b", and "f(a)" as it is.
    """
    here, _, below = context.suffix.partition("\n")
    here = here.rstrip()
    if here:
        return _repeats_rest_of_line(here, text, last)
    following = next((line.rstrip() for line in below.split("\n") if line.strip()), None)
    if following is None:
        return None
    at = 0
    lines = text.split("\n")
    for number, line in enumerate(lines):
        whole = last or number < len(lines) - 1
        if number and (line.rstrip() == following or (not whole and following.startswith(line))):
            return max(at - 1, 0), whole
        at += len(line) + 1
    return None


def _repeats_rest_of_line(here: str, text: str, last: bool) -> tuple[int, bool] | None:
    at = text.find(here)
    while at >= 0:
        if any(char.isalnum() for char in here) or _is_surplus(text[: at + len(here)]):
            return at, True
        at = text.find(here, at + 1)
    if last:
        return None
    length = next((n for n in range(min(len(here), len(text)), 0, -1) if text.endswith(here[:n])), 0)
    return (len(text) - length, False) if length else None


def _is_surplus(text: str) -> bool:
    """Whether a text closes more brackets than it opens, or, without brackets at its end, leaves a string open."""
    for opening, closing in ("()", "[]", "{}"):
        if text.count(closing) > text.count(opening):
            return True
    return not text.endswith((")", "]", "}"))
