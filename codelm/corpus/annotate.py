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
from codelm.corpus.filters import failures
from codelm.corpus.hashing import content_id
from codelm.corpus.minhash import band_hashes, bands_and_rows, signatures
from codelm.corpus.reading import NoText, read_text
from codelm.corpus.shingles import shingles

ANNOTATIONS = pa.schema(
    [
        ("index", pa.int64()),
        ("id", pa.string()),
        ("text_bytes", pa.int64()),
        ("reason", pa.string()),
        ("bands", pa.list_(pa.uint64())),
    ]
)
"""A row for each file: its place in the listing; the id of its text and the text's size in UTF-8, null where
it has none; why it is dropped, null where it passes; its band hashes, empty where it has no shingles."""

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
        reasons: list[str | None] = []
        passed: dict[int, bytes] = {}
        count_tokens = token_counter(self.corpus.filters.tokenizer)
        for row, file in enumerate(files.select(["root", "path", "size"]).to_pylist()):
            try:
                text = read_text(file["root"], file["path"], file["size"], self.corpus.max_file_bytes)
            except NoText as error:
                ids.append(None)
                sizes.append(None)
                reasons.append(error.reason)
                continue
            data = text.encode()
            key = content_id(data)
            reason = next(failures(text, key, self.corpus.filters, self.seed, count_tokens), None)
            ids.append(key)
            sizes.append(len(data))
            reasons.append(reason)
            if reason is None:
                passed[row] = data
        bands = self._bands(passed) if self.corpus.near_dedup.enabled else {}
        return pa.table(
            {
                "index": files["index"],
                "id": ids,
                "text_bytes": sizes,
                "reason": reasons,
                "bands": [bands.get(row, ()) for row in range(len(files))],
            },
            schema=ANNOTATIONS,
        )

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
