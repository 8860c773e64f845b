"""Which files a batch stems from, told by their texts: nothing but the tokens is stored beside a packed split."""

from collections.abc import Iterable, Iterator, Set

from tokenizers import Tokenizer

from codelm.corpus.shards import Document

SHOWN = 8
"""Files in a message."""


def texts(tokenizer: Tokenizer, sequence: Iterable[int], special: Set[int], end: int) -> Iterator[str]:
    """The longest text between special tokens of each document in a sequence.

    Args:
        tokenizer: of the sequence.
        sequence: its tokens.
        special: tokens that are no text.
        end: the one of them that ends a document.
    """
    longest: list[int] = []
    run: list[int] = []
    for token in [*sequence, end]:
        if token not in special:
            run.append(token)
            continue
        longest, run = max(longest, run, key=len), []
        if token == end and longest:
            yield tokenizer.decode(longest, skip_special_tokens=False)
            longest = []


def files_with(wanted: Iterable[str], documents: Iterable[Document]) -> list[str]:
    """The first document that has each text, as `repository/path`, in order."""
    left = {text for text in wanted if text.strip()}
    found = []
    for document in documents:
        there = {text for text in left if text in document.content}
        if there:
            found.append("/".join(part for part in (document.repo, document.path or document.id) if part))
            left -= there
        if not left:
            break
    return sorted(found)


def described(samples: list[int], files: list[str]) -> str:
    """Samples and files, in a line."""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    numbers = ", ".join(map(str, samples))
    named = f", with {', '.join(files[:SHOWN])}{more}" if files else ""
    return f"the batch is sequence {numbers} of packed/train{named}"
