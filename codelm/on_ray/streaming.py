"""Training off a live Ray Data pipeline: tasks read, encode and pack parts of the corpus while the workers train.

The parts (row groups of the shards) come in a seeded order, another one in each epoch, and the sequences of a part in
an order of its own: so the global sequence of samples depends on corpus, config and seed alone. Rank 0 reads the
pipeline and hands each step's batch to the others. A checkpoint names the part that was being read.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray.data
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from codelm.config import Experiment
from codelm.corpus.shards import Document, shard_paths
from codelm.errors import UserError
from codelm.on_ray.tasks import use_threads
from codelm.run_dir import RunDir
from codelm.tokenization import bpe
from codelm.tokenization.units import training_sequences
from codelm.training.order import Integers, SampleOrder

TASKS = 2
"""Parts that are encoded at once. A core encodes 100 times what it trains on."""

Part = tuple[int, int, NDArray[Any]]
"""Its place in the endless sequence of parts, the sample that its first sequence is, and its sequences."""


@dataclass(frozen=True)
class Stream:
    """See `codelm.training.loop.TrainingData`.

    Attributes:
        experiment: the whole config.
        run_dir: with corpus and tokenizer.
        info: `sequence_length`, `vocab_size`, `eos_id` and `pad_id`, as of a packed split.
        device: what batches are handed on through.
    """

    experiment: Experiment
    run_dir: RunDir
    info: dict[str, Any]
    device: torch.device

    def samples(self, seed: int) -> "StreamSamples":
        """From the first one on."""
        return StreamSamples(self, seed)

    def parts(self) -> list[tuple[str, int]]:
        """(shard, row group) of all of the corpus."""
        fs = self.run_dir.fs
        paths = shard_paths(fs, self.run_dir.path("corpus"))
        groups = ((path, pq.ParquetFile(fs.open_input_file(path)).num_row_groups) for path in paths)
        return [(path, number) for path, numbers in groups for number in range(numbers)]

    def read(self, first: int, seed: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """(place, sequences) of each part from place `first` of the endless sequence of parts on."""
        parts = self.parts()
        order, tokenizer = SampleOrder(len(parts), seed), self.run_dir.local_copy("tokenizer") / bpe.TOKENIZER_FILE
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        found = 0
        for epoch in count(first // len(parts)):
            places = range(max(first, epoch * len(parts)), (epoch + 1) * len(parts))
            chosen = [parts[number] for number in order.at(np.array(places, np.int64)).tolist()]
            rows = [{"place": place, "path": path, "group": n} for place, (path, n) in zip(places, chosen, strict=True)]
            encode = _Encode(self.run_dir, self.experiment, tokenizer.read_text())
            made: Any = ray.data.from_items(rows, override_num_blocks=len(rows))
            # The workers hold all CPUs of a small cluster: a task that asked for one would wait for ever.
            made = made.map_batches(encode, batch_size=1, num_cpus=0, concurrency=TASKS)
            for batch in made.iter_batches(batch_size=1, prefetch_batches=TASKS):
                sequences = np.frombuffer(batch["tokens"][0], batch["dtype"][0])
                found += len(sequences)
                yield int(batch["place"][0]), sequences.reshape(-1, self.info["sequence_length"])
            if not found:
                raise UserError("data.streaming: the corpus has no training document as long as a sequence")


@dataclass(frozen=True)
class _Encode:
    """A row that names a part -> a row with its sequences."""

    run_dir: RunDir
    experiment: Experiment
    tokenizer_json: str

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, Any]:
        use_threads(1)
        [place], [path], [group] = batch["place"], batch["path"], batch["group"]
        columns = ["id", "cluster", "content", "repo", "path"]
        with self.run_dir.fs.open_input_file(str(path)) as source:
            table = pq.ParquetFile(source).read_row_group(int(group), columns=columns)
        documents = (Document(**row) for row in table.to_pylist())
        tokenizer = bpe.plain(self.tokenizer_json)
        seed = self.experiment.seed
        made = training_sequences(tokenizer, documents, self.experiment.data, seed)
        order = SampleOrder(max(1, len(made)), seed).at(np.arange(len(made)))
        return {"place": [int(place)], "tokens": [made[order].tobytes()], "dtype": [made.dtype.str]}


class StreamSamples:
    """See `codelm.training.data.Samples`. They are known by hashes of their tokens.

    Args:
        stream: where they come from.
        seed: of the order of the parts.
    """

    def __init__(self, stream: Stream, seed: int) -> None:
        self._stream, self._seed = stream, seed
        self._leads = not dist.is_initialized() or dist.get_rank() == 0
        self._alone = not dist.is_initialized() or dist.get_world_size() == 1
        self._position = [0, 0]
        self._source: Iterator[tuple[int, NDArray[Any]]] | None = None
        self._held: list[Part] = []
        self._batch = torch.empty(0)

    @property
    def length(self) -> int:
        """Tokens in a sample."""
        return int(self._stream.info["sequence_length"])

    def position(self) -> list[int]:
        """The part that is being read, and the sample that its first sequence is; of rank 0."""
        return list(self._position)

    def seek(self, position: list[int]) -> None:
        """Go on where `position` was told."""
        if position:
            self._position, self._source, self._held = list(position), None, []

    def take(self, cursor: int, batch: int, mine: Integers) -> Tensor:
        """See `Samples`."""
        rows = self._rows(cursor, batch) if self._leads else np.zeros((batch, self.length), np.int64)
        self._batch = torch.from_numpy(rows)
        if not self._alone:
            shared = self._batch.to(self._stream.device)
            dist.broadcast(shared, src=0)
            self._batch = shared.cpu()
        return self._batch[torch.from_numpy(mine - cursor)]

    def numbers(self, cursor: int, batch: int) -> Integers:
        """See `Samples`."""
        hashes = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in self._batch.numpy())
        return np.frombuffer(b"".join(hashes), "<i8").astype(np.int64)

    def _rows(self, cursor: int, batch: int) -> NDArray[np.int64]:
        """Samples cursor, ..., cursor + batch - 1, read from the pipeline."""
        if self._source is None:
            self._source = self._stream.read(self._position[0], self._seed)
        while not self._held or self._held[-1][1] + len(self._held[-1][2]) < cursor + batch:
            place, sequences = next(self._source)
            start = self._held[-1][1] + len(self._held[-1][2]) if self._held else self._position[1]
            self._held.append((place, start, sequences))
        while self._held[0][1] + len(self._held[0][2]) <= cursor:
            del self._held[0]
        self._position = list(self._held[0][:2])
        held = np.concatenate([sequences for _, _, sequences in self._held])
        first = cursor - self._held[0][1]
        return held[first : first + batch].astype(np.int64)
