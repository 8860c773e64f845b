"""What a corpus keeps of all its files, so that a later one need not read them again.

In `index/`: `files.parquet` has the annotations of every file, with the stamps of what they were read from. For each
text that passed, of kept and of dropped files, `texts-*.parquet` has its bands, and `sets-*.bin` its set of shingles,
so that it can be compared without its text. `redacted.parquet` has what was replaced in the kept ones.
Nobody's text is in it: those of kept files are in the corpus, redacted, and others have to be read again if need be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from codelm.config import NearDedup
from codelm.corpus.minhash import text_bands
from codelm.corpus.shingles import U64, shingle_sets
from codelm.corpus.source_file import Split
from codelm.corpus.text_store import BASE, PLACES, TextStore

INDEX = "index"
FILES_NAME, REDACTED_NAME = f"{INDEX}/files.parquet", f"{INDEX}/redacted.parquet"
TEXTS = pa.schema(
    [("id", pa.large_string()), ("bands", pa.list_(pa.uint64())), ("offset", pa.int64()), ("length", pa.int64())]
)
"""A row for each text of a part: its bands, and where its set is in the part's file of sets."""
COUNT_BYTES = 8
TEXTS_AT_ONCE = 256
LEVEL = 1


def texts_name(part: int) -> str:
    """Where the bands of a part are in the corpus."""
    return f"{INDEX}/texts-{part:05d}.parquet"


def sets_name(part: int) -> str:
    """Where the sets of a part are in the corpus."""
    return f"{INDEX}/sets-{part:05d}.bin"


def pack(elements: U64) -> bytes:
    """A sorted set, in about seven bytes an element: how many; the bytes of their differences, by place, as zstd."""
    planes = np.diff(elements, prepend=np.uint64(0)).view(np.uint8).reshape(-1, 8).T
    frame = pa.Codec("zstd", LEVEL).compress(np.ascontiguousarray(planes).tobytes(), asbytes=True)
    return len(elements).to_bytes(COUNT_BYTES, "little") + bytes(frame)


def unpack(data: bytes | memoryview) -> U64:
    """The set that was packed."""
    count = int.from_bytes(data[:COUNT_BYTES], "little")
    planes = pa.Codec("zstd").decompress(data[COUNT_BYTES:], 8 * count, asbytes=True)
    differences = np.frombuffer(planes, np.uint8).reshape(8, count).T
    elements: U64 = np.cumsum(np.ascontiguousarray(differences).view(np.uint64).ravel(), dtype=np.uint64)
    return elements


def texts_beside(block: str) -> str:
    """Where the bands are of the texts whose sets are in a file of the corpus that is extended."""
    return block.replace("sets-", "texts-").replace(".bin", ".parquet")


def stored_sets(store: TextStore, places: pa.Table, words: int) -> tuple[U64, NDArray[np.int64]]:
    """The sets of shingles of texts, from the index of the corpus that is extended or from the texts.

    Args:
        store: has the texts, and knows the index.
        places: `PLACES` and `text_bytes`, in any order.
        words: words in a shingle.

    Returns:
        As `shingle_sets`, in the order of the rows.
    """
    stored = places.append_column("row", pa.array(np.arange(len(places))))
    stored = stored.sort_by([("block", "ascending"), ("offset", "ascending")])
    is_set = pc.starts_with(stored["block"], BASE)
    from_text, from_index = stored.filter(pc.invert(is_set)), stored.filter(is_set)
    texts = dict(zip(from_text["row"].to_pylist(), store.read(from_text), strict=True))
    sets = dict(zip(from_index["row"].to_pylist(), map(unpack, store.frames(from_index)), strict=True))
    if not sets:
        return shingle_sets([texts.pop(row) for row in range(len(places))], words)
    for row in list(texts):
        sets[row] = shingle_sets([texts.pop(row)], words)[0]
    offsets = np.cumsum([0, *(len(sets[row]) for row in range(len(places)))])
    return np.concatenate([np.empty(0, np.uint64), *(sets[row] for row in range(len(places)))]), offsets


def write_part(store: TextStore, part: int, texts: pa.Table, settings: NearDedup) -> None:
    """Write bands and sets of a part of the texts.

    Args:
        store: has the texts, or knows the index that has their sets; the corpus is around it.
        part: the number of the part.
        texts: `id`, `text_bytes` and `PLACES`, in the order of the ids.
        settings: of near-deduplication.
    """
    offset = 0
    known = _base_bands(store, texts)
    with (
        store.writing(f"../{sets_name(part)}") as sets,
        store.writing(f"../{texts_name(part)}") as out,
        pq.ParquetWriter(out, TEXTS, compression="zstd") as table,
    ):
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            rows = texts.slice(start, TEXTS_AT_ONCE)
            frames, bands = _described(store, rows, known, settings)
            lengths = [len(frame) for frame in frames]
            for frame in frames:
                sets.write(frame)
            offsets = offset + np.cumsum([0, *lengths])
            offset = int(offsets[-1])
            columns = [
                rows["id"],
                pa.array(bands, TEXTS.field("bands").type),
                pa.array(offsets[:-1]),
                pa.array(lengths),
            ]
            table.write_table(pa.table(columns, schema=TEXTS))


def _described(
    store: TextStore, rows: pa.Table, known: dict[str, list[int]], settings: NearDedup
) -> tuple[list[bytes], list[list[int]]]:
    """Packed sets and bands of texts; those of the corpus that is extended are copied."""
    is_base = pc.starts_with(rows["block"], BASE).to_pylist()
    old, new = rows.filter(pa.array(is_base)), rows.filter(pa.array([not base for base in is_base]))
    old_frames = iter([bytes(frame) for frame in store.frames(old)])
    texts = list(store.read(new))
    hashes, offsets = shingle_sets(texts, settings.shingle_words)
    new_frames = iter([pack(hashes[start:end]) for start, end in pairwise(offsets.tolist())])
    found = text_bands(texts, settings.shingle_words, settings.threshold, settings.permutations)
    new_bands = iter([found[place].tolist() if place in found else [] for place in range(len(texts))])
    frames = [next(old_frames if base else new_frames) for base in is_base]
    bands = [known[key] if base else next(new_bands) for key, base in zip(rows["id"].to_pylist(), is_base, strict=True)]
    return frames, bands


def _base_bands(store: TextStore, texts: pa.Table) -> dict[str, list[int]]:
    """The bands of those of the texts that are in the index of the corpus that is extended."""
    old = texts.filter(pc.starts_with(texts["block"], BASE))
    found: dict[str, list[int]] = {}
    for block in pc.unique(old["block"]).to_pylist():
        table = base_texts(store, texts_beside(block))
        table = table.filter(pc.is_in(table["id"], old["id"].combine_chunks()))
        found.update(zip(table["id"].to_pylist(), table["bands"].to_pylist(), strict=True))
    return found


def base_texts(store: TextStore, name: str, columns: Iterable[str] = ("id", "bands")) -> pa.Table:
    """Columns of a `TEXTS` file of the corpus that is extended."""
    with store.reading(name) as file:
        return pq.read_table(file, columns=list(columns))


@dataclass(frozen=True)
class Known:
    """Stamps of what a corpus was made from, to be looked up many at a time."""

    stamps: NDArray[np.bytes_]

    @classmethod
    def of(cls, stamps: pa.ChunkedArray) -> "Known":
        """Known are these."""
        return cls(np.unique(np.array(pc.unique(stamps).to_pylist(), dtype="S32")))

    def has(self, stamps: list[str]) -> NDArray[np.bool_]:
        """Whether each of these is known."""
        wanted = np.array(stamps, dtype="S32")
        if not len(self.stamps):
            return np.zeros(len(wanted), bool)
        at = np.minimum(np.searchsorted(self.stamps, wanted), len(self.stamps) - 1)
        found: NDArray[np.bool_] = self.stamps[at] == wanted
        return found


def parted(split: Split, known: Known) -> tuple[list[str], Split | None]:
    """The stamps of what is known of a split, and a split with the rest; None where there is no rest."""
    stamps = split.stamps()
    is_known = known.has(stamps)
    return [stamp for stamp, old in zip(stamps, is_known, strict=True) if old], part_of(split, ~is_known)


def part_of(split: Split, wanted: NDArray[np.bool_]) -> Split | None:
    """A split with the wanted of its units (`Split.stamps`); None where none is wanted."""
    if wanted.all():
        return split
    entries = tuple(entry for entry, keep in zip(split.entries or (), wanted, strict=False) if keep)
    return replace(split, size=sum(entry.size for entry in entries), entries=entries) if entries else None


def placed(files: pa.Table, texts: pa.Table) -> pa.Table:
    """Annotations of the corpus that is extended, with `PLACES` that say where the sets of the texts that passed are.

    Args:
        files: annotations.
        texts: `id` and `PLACES` of the sets.
    """
    at = pc.index_in(files["id"], value_set=texts["id"].combine_chunks())
    at = pc.if_else(pc.is_null(files["reason"]), at, pa.scalar(None, pa.int32()))
    for name in PLACES.names:
        files = files.append_column(PLACES.field(name), texts[name].take(at))
    return files
