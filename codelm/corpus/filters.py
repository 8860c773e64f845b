"""CodeParrot's heuristics, in its order (its `scripts/preprocessing.py`), as functions of one text.

The heuristics of SantaCoder and The Stack come after them (`stack_filters`).

What differs from CodeParrot, on purpose:
- its coins are unseeded draws; here they are hashes of (seed, content id);
- it looks for exact duplicates first and strikes out a hash even when the file is then dropped; here
  duplicates are looked for among the files that pass, so that every duplicate has a counterpart that passed;
- it hashes the text without any white space, which makes differently indented Python equal; here the whole
  text counts;
- a file without lines makes its `max([])` fail; here blank files are dropped before (`reading`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from codelm.config import Filters
from codelm.corpus.hashing import coin
from codelm.corpus.stack_filters import stack_failures

SCAN_LINES = 5
CONFIG_OR_TEST = ("unit tests", "test file", "configuration file")
MENTIONS_PER_LINE = 0.05
"""A file with more mentions of "config" or of "test" than this share of its line ends is about them."""
KEYWORDS = (b"def ", b"class ", b"for ", b"while ")
ALPHANUMERIC, LINE_END, OTHER_LINE_END = 1, 2, 3
CLASSES = bytes(
    ALPHANUMERIC
    if code < 128 and chr(code).isalnum()
    else LINE_END
    if code == ord("\n")
    else OTHER_LINE_END
    if code < 128 and chr(code).splitlines() == [""]
    else 0
    for code in range(256)
)
"""For `bytes.translate`: what each byte of UTF-8 is."""
LINE_ENDS_BEYOND_ASCII = ("\x85", "\u2028", "\u2029")
LOWERED_TO_ASCII = ("\u0130", "\u212a")
"""The characters beyond ASCII whose lower case has a letter of ASCII: I with a dot, and the sign for kelvin."""


@dataclass(frozen=True)
class Lines:
    """A text and what several heuristics ask of it. Lines end where `str.splitlines` says, as in CodeParrot.

    Attributes:
        text: the text, with every line end as a newline.
        lowered: the text in UTF-8, its letters of ASCII in lower case, those beyond in any.
        head: its first five lines in lower case.
        count: how many lines it has.
        newlines: how many newlines it had.
        mean: the mean length of a line, in characters.
        alphanumeric_share: the share of the characters for which `str.isalnum` holds.
    """

    text: str
    lowered: bytes
    head: str
    count: int
    newlines: int
    mean: float
    alphanumeric_share: float

    @classmethod
    def of(cls, text: str) -> "Lines":
        """Look at a text that is not blank: in bulk, since most texts are ASCII with newlines alone."""
        data, is_ascii = text.encode(), text.isascii()
        translated = data.translate(CLASSES)
        classes = np.frombuffer(translated, np.uint8)
        ends = newlines = int(np.count_nonzero(classes == LINE_END))
        lines = text
        if OTHER_LINE_END in translated or (not is_ascii and any(end in text for end in LINE_ENDS_BEYOND_ASCII)):
            split = text.splitlines()
            lines, ends = "\n".join(split) + "\n", len(split)
        alphanumeric = int(np.count_nonzero(classes == ALPHANUMERIC))
        if not is_ascii:
            codes = np.frombuffer(data, np.uint8)
            alphanumeric += sum(map(str.isalnum, codes[codes >= 128].tobytes().decode()))
        count = ends + (not lines.endswith("\n"))
        return cls(
            text=lines,
            lowered=text.lower().encode() if any(letter in text for letter in LOWERED_TO_ASCII) else data.lower(),
            head="\n".join(lines.split("\n", SCAN_LINES)[:SCAN_LINES]).lower(),
            count=count,
            newlines=newlines,
            mean=(len(lines) - ends) / count,
            alphanumeric_share=alphanumeric / len(text),
        )

    def has_longer_than(self, length: int) -> bool:
        """Whether a line has more characters; looks at little more than the line ends that lie so far apart."""
        start = 0
        while len(self.text) - start > length:
            end = self.text.rfind("\n", start, start + length + 1)
            if end < 0:
                return True
            start = end + 1
        return False


def is_config_or_test(lines: Lines) -> bool:
    """Whether the first five lines say so, or "config" or "test" occurs more than int(0.05 * line ends) times."""
    if any(phrase in lines.head for phrase in CONFIG_OR_TEST):
        return True
    allowed = int(MENTIONS_PER_LINE * lines.newlines)
    return lines.lowered.count(b"config") > allowed or lines.lowered.count(b"test") > allowed


def has_no_keywords(lines: Lines) -> bool:
    """Whether none of "def ", "class ", "for ", "while " occurs."""
    return not any(keyword in lines.lowered for keyword in KEYWORDS)


def failures(
    text: str,
    content_id: str,
    filters: Filters,
    seed: int,
    count_tokens: Callable[[str], int] | None,
    language: str | None = None,
) -> Iterator[str]:
    """The heuristics of `filters.apply` that a text fails, CodeParrot's in its order; the first is its reason.

    Args:
        text: a text that is not blank.
        content_id: decides the coins, together with the seed.
        filters: the filters to apply and their thresholds.
        seed: the experiment's seed.
        count_tokens: how many tokens a text has; None leaves out the heuristic on characters per token.
        language: the text's language under The Stack's name; None where it is not known.
    """
    lines, used = Lines.of(text), filters.apply
    may_be_long = language in filters.long_line_languages
    if "autogenerated" in used and any(phrase in lines.head for phrase in filters.autogenerated_phrases):
        yield "autogenerated"
    longest = filters.max_long_line_length if may_be_long else filters.max_line_length
    if "long_line" in used and lines.has_longer_than(longest):
        yield "long_line"
    if "long_mean_line" in used and not may_be_long and lines.mean > filters.max_mean_line_length:
        yield "long_mean_line"
    if "few_alphanumeric" in used and lines.alphanumeric_share < filters.min_alphanumeric_share:
        yield "few_alphanumeric"
    if "few_characters_per_token" in used and count_tokens is not None:
        at_least = filters.min_characters_per_token_by_language.get(language or "", filters.min_characters_per_token)
        if at_least and len(text) / count_tokens(text) < at_least:
            yield "few_characters_per_token"

    def falls(name: str) -> bool:
        return coin(seed, name, content_id) < filters.drop_probability

    if "config_or_test" in used and is_config_or_test(lines) and falls("config_or_test"):
        yield "config_or_test"
    if "no_keywords" in used and has_no_keywords(lines) and falls("no_keywords"):
        yield "no_keywords"
    if "few_assignments" in used and text.count("=") < filters.min_assignments:
        yield "few_assignments"
    yield from stack_failures(text, lines.count, filters, language)
