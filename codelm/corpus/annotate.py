"""One pass over files: reads each, decides what its content alone decides, and computes its LSH bands.

The annotations hold no text. What needs a text again (verifying similar pairs, writing the corpus) reads the
file again, which is cheaper than moving all texts through the cluster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from codelm.config import Corpus
from codelm.corpus.decontamination import load
from codelm.corpus.filters import failures
from codelm.corpus.hashing import content_id
from codelm.corpus.languages import language_by_name, language_of, may_have_shebang
from codelm.corpus.minhash import band_hashes, bands_and_rows, signatures
from codelm.corpus.reading import NoText, read_text
from codelm.corpus.shingles import shingles

ANNOTATIONS = pa.schema(
    [
        ("index", pa.int64()),
        ("id", pa.string()),
        ("text_bytes", pa.int64()),
        ("language", pa.string()),
        ("reason", pa.string()),
        ("contaminant", pa.string()),
        ("bands", pa.list_(pa.uint64())),
    ]
)
"""A row for each file: its place in the listing; the id of its text and the text's size in UTF-8, null where
it has none; its language, null where unknown; why it is dropped, null where it passes; the benchmark
problem that it holds, where that is why; its band hashes, empty
where it has no shingles."""

OTHER_LANGUAGE, CONTAMINATED = "other_language", "contaminated"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Annotator:
    """Annotates listings, one table at a time; what it holds is small and can be sent to workers."""

    corpus: Corpus
    seed: int

    def __call__(self, files: pa.Table) -> pa.Table:
        """Annotate a `LISTING` table."""
        ids: list[str | None] = []
        sizes: list[int | None] = []
        languages: list[str | None] = []
        reasons: list[str | None] = []
        passed: dict[int, bytes] = {}
        for row, file in enumerate(files.select(["root", "path", "size"]).to_pylist()):
            language, reason, data, key = self._judge(file["root"], file["path"], file["size"])
            ids.append(key)
            sizes.append(None if data is None else len(data))
            languages.append(language)
            reasons.append(reason)
            if reason is None and data is not None:
                passed[row] = data
        contaminants = self._contaminants(passed)
        for row in contaminants:
            reasons[row] = CONTAMINATED
            del passed[row]
        bands = self._bands(passed) if self.corpus.near_dedup.enabled else {}
        return pa.table(
            {
                "index": files["index"],
                "id": ids,
                "text_bytes": sizes,
                "language": languages,
                "reason": reasons,
                "contaminant": [contaminants.get(row) for row in range(len(files))],
                "bands": [bands.get(row, ()) for row in range(len(files))],
            },
            schema=ANNOTATIONS,
        )

    def _judge(self, root: str, path: str, size: int) -> tuple[str | None, str | None, bytes | None, str | None]:
        """A file's language, its reason to be dropped, its text in UTF-8 and the text's id."""
        corpus = self.corpus
        language = language_by_name(path)
        if not self._is_wanted(language) and not may_have_shebang(path):
            return language, OTHER_LANGUAGE, None, None
        try:
            text = read_text(root, path, size, corpus.max_file_bytes)
        except NoText as error:
            return language, error.reason, None, None
        data = text.encode()
        key = content_id(data)
        language = language_of(path, text)
        if not self._is_wanted(language):
            return language, OTHER_LANGUAGE, data, key
        count_tokens = token_counter(corpus.filters.tokenizer)
        found = failures(text, key, corpus.filters, self.seed, count_tokens, language)
        return language, next(found, None), data, key

    def _is_wanted(self, language: str | None) -> bool:
        return not self.corpus.languages or language in self.corpus.languages

    def _contaminants(self, texts: dict[int, bytes]) -> dict[int, str]:
        """The benchmark problems that the texts hold, of those that hold one."""
        if not self.corpus.decontaminate:
            return {}
        held = load(self.corpus.decontaminate).search([data.decode() for data in texts.values()])
        return {row: name for row, name in zip(texts, held, strict=True) if name is not None}

    def _bands(self, texts: dict[int, bytes]) -> dict[int, np.ndarray]:
        """The band hashes of the texts that have shingles."""
        settings = self.corpus.near_dedup
        hashes, offsets = shingles(list(texts.values()), settings.shingle_words)
        filled = np.flatnonzero(np.diff(offsets) > 0)
        if not len(filled):
            return {}
        ends = np.concatenate([[0], offsets[1:][filled]]).astype(np.uint64)
        rows = signatures(hashes, ends, settings.permutations)
        cut = band_hashes(rows, *bands_and_rows(settings.threshold, settings.permutations))
        keys = list(texts)
        return {keys[place]: bands for place, bands in zip(filled, cut, strict=True)}


@lru_cache(maxsize=2)
def token_counter(directory: str | None) -> Callable[[str], int] | None:
    """How many tokens a text has by the tokenizer in a directory; None where none is named."""
    if directory is None:
        return None
    tokenizer = Tokenizer.from_file(str(Path(directory) / TOKENIZER_FILE))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
