"""Reads a source as the corpus stage does, in one go."""

from pathlib import Path
from typing import Any

from codelm.config import Corpus
from codelm.corpus.blocks import Listing
from codelm.corpus.source_file import SourceFile
from codelm.corpus.sources import plan, read
from codelm.corpus.sources.selecting import Wanted


def read_source(source: str | Path, wanted: Wanted = lambda path: True, **settings: Any) -> list[SourceFile]:
    """All files of a source, those read for their licences alone included."""
    corpus = Corpus(sources=(str(source),), **settings)
    return [file for split in plan(str(source), corpus) for file in read(split, corpus, wanted)]


def texts(files: list[SourceFile]) -> dict[str, bytes | str | None]:
    """For each path its content, or why there is none."""
    assert len({file.path for file in files}) == len(files)
    return {file.path: file.data if file.reason is None else file.reason for file in files}


def write(root: Path, *paths: str, text: str = "x = 1\n") -> None:
    """Make files."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def source_digest(source: str, corpus: Corpus) -> str:
    """What stands for a source in the manifest."""
    return Listing.of(corpus.model_copy(update={"sources": (source,)})).digests[source]
