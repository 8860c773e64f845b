"""Looks at files as they were read: decides what a file's content alone decides, and computes its LSH bands.

The annotations hold no text; the texts that pass come beside them, to be stored until the corpus is written.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from codelm.config import Corpus
from codelm.corpus import spdx
from codelm.corpus.decontamination import load
from codelm.corpus.filters import failures
from codelm.corpus.hashing import content_id
from codelm.corpus.languages import language_by_name, language_of, may_have_shebang
from codelm.corpus.licences import COLUMN, EVIDENCE, HEADER, declared, is_evidence
from codelm.corpus.minhash import text_bands
from codelm.corpus.opt_out import OPTED_OUT
from codelm.corpus.opt_out import load as load_opt_outs
from codelm.corpus.reading import NoText, text_of
from codelm.corpus.source_file import SourceFile

ANNOTATIONS = pa.schema(
    [
        ("source", pa.large_string()),
        ("path", pa.large_string()),
        ("size", pa.int64()),
        ("stamp", pa.large_string()),
        ("repo", pa.large_string()),
        ("stars", pa.int64()),
        ("licence", pa.large_string()),
        ("attribution", pa.large_string()),
        ("declares", pa.large_string()),
        ("sha256", pa.large_string()),
        ("id", pa.large_string()),
        ("text_bytes", pa.int64()),
        ("language", pa.large_string()),
        ("reason", pa.large_string()),
        ("witness", pa.large_string()),
        ("bands", pa.list_(pa.uint64())),
    ]
)
"""A row for each file: what its source tells (`SourceFile`); the id of its text and the text's size in UTF-8,
null where it has none; its language, null where unknown; why it is dropped, null where it passes, and what tells so
where that is a line of the opt-out list or a benchmark's problem; its band hashes, empty where it has no shingles.

`licence` is by the file's own header or as its source tells, and `attribution` says which (`licences.HEADER`,
`licences.COLUMN`); `declares` is what the file says about the licence of others (`licences.Declaration.said`)."""

GIVEN = ("source", "path", "size", "stamp", "repo", "stars")
OTHER_LANGUAGE, CONTAMINATED = "other_language", "contaminated"
TOKENIZER_FILE = "tokenizer.json"
SPDX_HEADER = spdx.HEADER.encode()


@dataclass(frozen=True)
class Judged:
    """What a file says: its language, its reason to be dropped, its text in UTF-8, and the rest as in `ANNOTATIONS`."""

    language: str | None
    reason: str | None
    data: bytes | None = None
    id: str | None = None
    witness: str | None = None
    licence: str | None = None
    attribution: str | None = None
    declares: str | None = None


@dataclass(frozen=True)
class Annotator:
    """Annotates files, a batch at a time; what it holds is small and can be sent to workers."""

    corpus: Corpus
    seed: int

    def __call__(self, files: Sequence[SourceFile]) -> tuple[pa.Table, dict[int, bytes]]:
        """An `ANNOTATIONS` table, and by row the texts, in UTF-8, of the files that pass."""
        judged = [self._judge(file) for file in files]
        passed = {row: file.data for row, file in enumerate(judged) if file.reason is None and file.data is not None}
        contaminants = self._contaminants(passed)
        for row in contaminants:
            del passed[row]
        bands = self._bands(passed) if self.corpus.near_dedup.enabled else {}
        rows = range(len(files))
        columns = {name: [getattr(file, name) for file in files] for name in GIVEN}
        columns |= {
            **{name: [getattr(file, name) for file in judged] for name in ("licence", "attribution", "declares")},
            "sha256": [self._sha256(file) for file in files],
            "id": [file.id for file in judged],
            "text_bytes": [None if file.data is None else len(file.data) for file in judged],
            "language": [file.language for file in judged],
            "reason": [CONTAMINATED if row in contaminants else judged[row].reason for row in rows],
            "witness": [contaminants.get(row, judged[row].witness) for row in rows],
            "bands": [bands.get(row, ()) for row in rows],
        }
        return pa.table(columns, schema=ANNOTATIONS), passed

    def wants(self, path: str) -> bool:
        """Whether a file of that name can be in a wanted language."""
        return self._is_wanted(language_by_name(path)) or may_have_shebang(path)

    def _sha256(self, file: SourceFile) -> str | None:
        """By which a later opt-out list may name the file, where it is to be known later."""
        return hashlib.sha256(file.data).hexdigest() if self.corpus.keep_index and file.data is not None else None

    def _judge(self, file: SourceFile) -> Judged:
        judged = self._licensed(file, self._by_content(file))
        if self.corpus.opt_out is None or file.evidence:
            return judged
        line = load_opt_outs(self.corpus.opt_out).line(file.repo or file.source, file.path, file.data, judged.id)
        return judged if line is None else Judged(judged.language, OPTED_OUT, witness=f"line {line}")

    def _licensed(self, file: SourceFile, judged: Judged) -> Judged:
        """Add what header, source and, for evidence, the whole text say about licences."""
        said = None
        if file.data is not None and is_evidence(file.path):
            found = declared(file.path, file.data.decode("utf-8", "replace"))
            said = None if found is None else found.said
        head = (judged.data or b"")[: spdx.HEADER_CHARACTERS]
        own = spdx.header(head.decode("utf-8", "ignore")) if SPDX_HEADER in head else None
        licence = own or (spdx.named(file.licence) or file.licence if file.licence else None)
        attribution = HEADER if own else COLUMN if licence else None
        return replace(judged, licence=licence, attribution=attribution, declares=said)

    def _by_content(self, file: SourceFile) -> Judged:
        corpus = self.corpus
        if file.evidence:
            return Judged(None, EVIDENCE)
        by_name = file.language or language_by_name(file.path)
        if file.data is None:
            return Judged(by_name, file.reason or OTHER_LANGUAGE)
        try:
            text = text_of(file.path, file.data, file.is_utf8)
        except NoText as error:
            return Judged(by_name, error.reason)
        data = text.encode()
        key = content_id(data)
        language = file.language or language_of(file.path, text)
        if not self._is_wanted(language):
            return Judged(language, OTHER_LANGUAGE, data, key)
        count_tokens = token_counter(corpus.filters.tokenizer)
        found = failures(text, key, corpus.filters, self.seed, count_tokens, language)
        return Judged(language, next(found, None), data, key)

    def _is_wanted(self, language: str | None) -> bool:
        return not self.corpus.languages or language in self.corpus.languages

    def _contaminants(self, texts: dict[int, bytes]) -> dict[int, str]:
        """The benchmark problems that the texts hold, of those that hold one."""
        if not self.corpus.decontaminate:
            return {}
        held = load(self.corpus.decontaminate).search([data.decode() for data in texts.values()])
        return {row: str(match) for row, match in zip(texts, held, strict=True) if match is not None}

    def _bands(self, texts: dict[int, bytes]) -> dict[int, np.ndarray]:
        """The band hashes of the texts that have shingles."""
        settings = self.corpus.near_dedup
        bands = text_bands(list(texts.values()), settings.shingle_words, settings.threshold, settings.permutations)
        keys = list(texts)
        return {keys[place]: hashes for place, hashes in bands.items()}


def batches(files: Iterable[SourceFile], batch_bytes: int, batch_files: int) -> Iterable[list[SourceFile]]:
    """Put consecutive files together until a batch has so many bytes, or so many files."""
    batch: list[SourceFile] = []
    held = 0
    for file in files:
        batch.append(file)
        held += len(file.data or b"")
        if held >= batch_bytes or len(batch) >= batch_files:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


@lru_cache(maxsize=2)
def token_counter(directory: str | None) -> Callable[[str], int] | None:
    """How many tokens a text has by the tokenizer in a directory; None where none is named."""
    if directory is None:
        return None
    tokenizer = Tokenizer.from_file(str(Path(directory) / TOKENIZER_FILE))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
