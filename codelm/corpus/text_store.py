"""Texts between reading and writing: a source is read once, and what passes is kept here until the shards are written.

A block of texts is one or several files, each with the texts of a part of the block in the order of their ids,
each text an LZ4 block of its own. So a single text is one ranged read, and the texts of a run of ids lie together.
"""

import posixpath
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from codelm.run_dir import RunDir

CODEC = "lz4_raw"
"""On source code twice as fast to write as zstd's first level and four times to read, to 40 % of the size, not 30."""
FILE_BYTES = 256 << 20
"""Texts in one file of a block: what a writer holds, compressed, until it writes them in order."""
WINDOW_BYTES = 64 << 20
"""Texts that a reader fetches at once: long reads on object stores, little memory."""
MAX_WASTE = 4
"""A window of one file is read in one go unless that is more than so many times what is wanted of it."""

BASE = "base/"
PLACES = pa.schema([("block", pa.large_string()), ("offset", pa.int64()), ("length", pa.int64())])
"""Where texts are: the file's name in the store, and the frame in it. Null for a file that has no text here."""


@dataclass(frozen=True)
class TextStore:
    """Texts in a directory of a run. Can be sent to workers.

    Attributes:
        run_dir: knows the file system.
        directory: a path in terms of its file system.
        base: where the corpus is that is extended, if one is; its files are called `BASE` and their names in it.
    """

    run_dir: RunDir
    directory: str
    base: tuple[RunDir, str] | None = None

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """A stream to a file that appears complete when the `with` ends, or not at all, also if two tasks write it.

        The name may lead out of the store (`../data/part-00000.parquet`): what is unfinished stays inside.
        """
        fs, target = self.run_dir.fs, posixpath.normpath(f"{self.directory}/{name}")
        if not self.run_dir.is_local:
            # pyarrow completes an object when its stream is closed, also by an exception: it is opened at the end.
            with tempfile.NamedTemporaryFile() as spool:
                with pa.OSFile(spool.name, "wb") as out:
                    yield out
                pafs.copy_files(spool.name, target, destination_filesystem=fs)
            return
        partial = f"{self.directory}/{uuid.uuid4().hex}.partial"
        with fs.open_output_stream(partial) as out:
            yield out
        fs.move(partial, target)

    def reading(self, name: str) -> pa.NativeFile:
        """A file of the store, or under `BASE` of the corpus that is extended, for random access."""
        if self.base is not None and name.startswith(BASE):
            run_dir, directory = self.base
            return run_dir.fs.open_input_file(f"{directory}/{name.removeprefix(BASE)}")
        return self.run_dir.fs.open_input_file(f"{self.directory}/{name}")

    def read(self, places: pa.Table) -> Iterator[bytes]:
        """The texts, in UTF-8, of rows with `PLACES` and `text_bytes`, in their order."""
        codec = pa.Codec(CODEC)
        for frame, size in zip(self.frames(places), places["text_bytes"].to_pylist(), strict=True):
            yield codec.decompress(frame, size, asbytes=True)

    def frames(self, places: pa.Table) -> Iterator[memoryview]:
        """What is at the `PLACES`, as it was written, in their order.

        It is fetched for `WINDOW_BYTES` of text at a time, what is in one file together: cheap if what is near each
        other in `places` is near each other in the files, as it is in the order of the ids.
        """
        ends = np.cumsum(places["text_bytes"].to_numpy())
        start = 0
        while start < len(places):
            fetched = ends[start - 1] if start else 0
            stop = max(int(np.searchsorted(ends, fetched + WINDOW_BYTES, side="right")), start + 1)
            yield from self._window(places.slice(start, stop - start))
            start = stop

    def text(self, place: dict[str, str | int]) -> bytes:
        """One text; `place` is a row as for `read`."""
        with self.reading(str(place["block"])) as file:
            frame = file.read_at(place["length"], place["offset"])
        return bytes(pa.Codec(CODEC).decompress(frame, place["text_bytes"], asbytes=True))

    def _window(self, places: pa.Table) -> Iterator[memoryview]:
        frames: list[memoryview | None] = [None] * len(places)
        blocks = places["block"].combine_chunks().dictionary_encode()
        codes = blocks.indices.to_numpy()
        offsets, lengths = places["offset"].to_numpy(), places["length"].to_numpy()
        order = np.lexsort((offsets, codes))
        cuts = np.flatnonzero(np.diff(codes[order])) + 1
        for rows in np.split(order, cuts):
            with self.reading(blocks.dictionary[int(codes[rows[0]])].as_py()) as file:
                begin, end = int(offsets[rows[0]]), int((offsets[rows] + lengths[rows]).max())
                if end - begin <= MAX_WASTE * int(lengths[rows].sum()):
                    whole = memoryview(file.read_at(end - begin, begin))
                    for row, offset, length in zip(rows, offsets[rows] - begin, lengths[rows], strict=True):
                        frames[row] = whole[offset : offset + length]
                else:
                    for row, offset, length in zip(rows, offsets[rows], lengths[rows], strict=True):
                        frames[row] = memoryview(file.read_at(int(length), int(offset)))
        for row in range(len(places)):
            frame, frames[row] = frames[row], None
            assert frame is not None
            yield frame


@dataclass
class BlockWriter:
    """Gathers the texts of a block and writes them to a store.

    Attributes:
        store: where to.
        name: of the block; its files are called after it.
    """

    store: TextStore
    name: str
    _codec: pa.Codec = field(default_factory=lambda: pa.Codec(CODEC), repr=False)
    _frames: dict[str, bytes] = field(default_factory=dict, repr=False)
    _places: dict[str, tuple[str, int, int]] = field(default_factory=dict, repr=False)
    _held: int = 0
    _files: int = 0

    def add(self, content_id: str, text: bytes) -> None:
        """Take a text; one that was added before is not written twice."""
        if content_id in self._places or content_id in self._frames:
            return
        self._frames[content_id] = self._codec.compress(text, asbytes=True)
        self._held += len(text)
        if self._held >= FILE_BYTES:
            self._flush()

    def finish(self) -> dict[str, tuple[str, int, int]]:
        """Write what is held and say where each text is: `PLACES` by id."""
        if self._frames:
            self._flush()
        return self._places

    def _flush(self) -> None:
        name, offset = f"{self.name}-{self._files:05d}.texts", 0
        ordered = sorted(self._frames.items())
        for content_id, frame in ordered:
            self._places[content_id] = name, offset, len(frame)
            offset += len(frame)
        with self.store.writing(name) as out:
            out.write(b"".join(frame for _, frame in ordered))
        self._frames.clear()
        self._held = 0
        self._files += 1
