"""Blocks: runs of splits that one task reads. How they are cut depends on the sources alone, not on the machines."""

import hashlib
import pickle
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from codelm.config import Corpus
from codelm.corpus.annotate import ANNOTATIONS, Annotator, batches
from codelm.corpus.source_file import Split
from codelm.corpus.sources import plan, read
from codelm.corpus.text_store import PLACES, BlockWriter, TextStore
from codelm.run_dir import digest_of

SMALLEST_BLOCK, LARGEST_BLOCK = 8 << 20, 128 << 20
"""Bytes of sources in a block."""
BLOCKS = 32
"""A block has about this part of what comes before it, so that their number grows slowly with the corpus."""
FILE_COST = 2048
"""Bytes that take as long to read and filter as what each file costs beside its bytes."""
BATCH_BYTES, BATCH_FILES = 4 << 20, 4096
"""Files that are looked at together."""

FILES = pa.unify_schemas([ANNOTATIONS, PLACES])
"""Annotations, and where the texts are that passed."""


@dataclass(frozen=True)
class Block:
    """What one task reads and annotates."""

    splits: tuple[Split, ...]

    @property
    def digest(self) -> str:
        """32 hex digits that name the versions of all its files."""
        return digest_of([split.stamp for split in self.splits])[:32]

    def packed(self) -> bytes:
        """The block in some 30 bytes a file; `unpacked` reads it."""
        return zlib.compress(pickle.dumps(self), level=1)

    @classmethod
    def unpacked(cls, data: bytes) -> "Block":
        """The block that was packed."""
        block: Block = pickle.loads(zlib.decompress(data))
        return block


@dataclass(frozen=True)
class Listing:
    """What sources hold, listed once.

    Attributes:
        digests: for each source a hex SHA-256 that changes when a file of it does, or there are others.
        packed: the blocks.
    """

    digests: dict[str, str]
    packed: tuple[bytes, ...]

    @classmethod
    def of(cls, corpus: Corpus) -> "Listing":
        """List the sources of a corpus, in one order; nothing but what is packed is held.

        Raises:
            UserError: a source does not exist, or something in it cannot be listed.
        """
        digests = {}

        def splits() -> Iterator[Split]:
            for source in sorted(corpus.sources):
                digest = hashlib.sha256()
                for split in plan(source, corpus):
                    digest.update(split.stamp.encode())
                    yield split
                digests[source] = digest.hexdigest()

        packed = tuple(block.packed() for block in blocks(splits()))
        return cls(digests, packed)

    def splits(self) -> Iterator[Split]:
        """All splits, in their order."""
        return (split for data in self.packed for split in Block.unpacked(data).splits)


def blocks(splits: Iterable[Split]) -> Iterator[Block]:
    """Put splits together, in their order, into blocks that grow with what there was before them."""
    held: list[Split] = []
    cost, before = 0, 0
    for split in splits:
        held.append(split)
        cost += split.size + FILE_COST * len(split.entries or ())
        if cost >= min(max(before // BLOCKS, SMALLEST_BLOCK), LARGEST_BLOCK):
            yield Block(tuple(held))
            before += cost
            held, cost = [], 0
    if held:
        yield Block(tuple(held))


def annotated(block: Block, annotator: Annotator, store: TextStore) -> pa.Table:
    """The `FILES` of a block, with the texts that pass in the store; what is there already is not made again.

    The table appears in the store after the texts, so that a table which is there is a block that is done.
    """
    name = f"{block.digest}.arrow"
    try:
        with store.reading(name) as file, pa.ipc.open_file(file) as table:
            return table.read_all()
    except FileNotFoundError:
        files = _annotate(block, annotator, store)
    with store.writing(name) as out, pa.ipc.new_file(out, FILES) as writer:
        writer.write_table(files)
    return files


def _annotate(block: Block, annotator: Annotator, store: TextStore) -> pa.Table:
    writer = BlockWriter(store, block.digest)
    tables = [ANNOTATIONS.empty_table()]
    files = (file for split in block.splits for file in read(split, annotator.corpus, annotator.wants))
    for batch in batches(files, BATCH_BYTES, BATCH_FILES):
        table, texts = annotator(batch)
        ids = table["id"]
        for row, text in texts.items():
            writer.add(ids[row].as_py(), text)
        tables.append(table)
    places = writer.finish()
    annotations = pa.concat_tables(tables)
    nowhere = (None, None, None)
    rows = [
        places[content_id] if reason is None else nowhere
        for content_id, reason in zip(annotations["id"].to_pylist(), annotations["reason"].to_pylist(), strict=True)
    ]
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    for field, values in zip(PLACES, columns, strict=True):
        annotations = annotations.append_column(field, pa.array(values, field.type))
    return annotations
