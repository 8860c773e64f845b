"""Training data off a live pipeline; how it is trained on is the loop's, which knows no difference."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from codelm.config import Experiment
from codelm.corpus.hashing import content_id
from codelm.corpus.split import is_held_out
from codelm.on_ray.streaming import Stream, StreamSamples
from codelm.run_dir import Manifest, RunDir
from codelm.tokenization import bpe

LENGTH, BATCH = 32, 4
TEXTS = [f"def f{n}(x):\n    return {n} * x\n" + "y = x\n" * (n % 7) for n in range(200)]


@pytest.fixture
def stream(ray_cluster: None, make_experiment: Callable[..., Experiment]) -> Stream:
    """Two hundred files in two shards of two row groups each."""
    experiment = make_experiment([f"data.sequence_length={LENGTH}", "data.streaming=true", "data.fim_rate=0"])
    run_dir = RunDir(experiment.run_dir)
    data = Path(run_dir.workspace("corpus")) / "data"
    data.mkdir()
    for shard in range(2):
        rows = [{"id": content_id(t.encode()), "content": t, "repo": None, "path": "a.py"} for t in TEXTS[shard::2]]
        table = pa.Table.from_pylist([row | {"cluster": row["id"]} for row in rows])
        pq.write_table(table, data / f"part-{shard:05d}.parquet", row_group_size=50)
    run_dir.publish("corpus", Manifest("corpus", {}, {}))
    tokenizer = bpe.train(TEXTS, 300, 2)
    (Path(run_dir.workspace("tokenizer")) / bpe.TOKENIZER_FILE).write_text(tokenizer.to_str())
    run_dir.publish("tokenizer", Manifest("tokenizer", {}, {}))
    info = {"sequence_length": LENGTH, "eos_id": bpe.END_OF_TEXT_ID, "pad_id": bpe.PAD_ID}
    return Stream(experiment, run_dir, info, torch.device("cpu"))


def steps(samples: StreamSamples, first: int, last: int) -> tuple[list[list[int]], list[int]]:
    """The tokens of some steps, and what the samples are known by."""
    rows: list[list[int]] = []
    numbers: list[int] = []
    for step in range(first, last):
        cursor = step * BATCH
        rows += samples.take(cursor, BATCH, np.arange(cursor, cursor + BATCH)).tolist()
        numbers += samples.numbers(cursor, BATCH).tolist()
    return rows, numbers


@dataclass(frozen=True)
class Seen(Stream):
    """A stream that remembers the parts that were read, by their places."""

    parts_read: dict[int, NDArray[Any]] = field(default_factory=dict)

    def read(self, first: int, seed: int) -> Iterator[tuple[int, NDArray[Any]]]:
        for place, sequences in super().read(first, seed):
            self.parts_read[place] = sequences
            yield place, sequences


def test_each_epoch_has_every_training_file_once_and_a_resumed_stream_is_the_same(stream: Stream) -> None:
    seen = Seen(stream.experiment, stream.run_dir, stream.info, stream.device)
    whole = StreamSamples(seen, 0)
    rows: list[list[int]] = []
    numbers: list[int] = []
    positions = [whole.position()]
    while positions[-1][0] < 4:  # into the second epoch
        more = steps(whole, len(positions) - 1, len(positions))
        rows, numbers = rows + more[0], numbers + more[1]
        positions.append(whole.position())

    epoch = np.concatenate([seen.parts_read[place] for place in range(4)])
    tokenizer = bpe.plain((stream.run_dir.local_copy("tokenizer") / bpe.TOKENIZER_FILE).read_text())
    found: Counter[str] = Counter()
    for row in epoch.tolist():
        text = tokenizer.decode([t for t in row if t != bpe.PAD_ID], skip_special_tokens=False)
        found.update(part for part in text.split("<|endoftext|>") if part)
    short = {t for t in TEXTS if len(bpe.encode_plain(tokenizer, [t])[0]) < LENGTH}
    wanted = {t for t in short if not is_held_out(0, content_id(t.encode()), 0.1)}
    assert len(wanted) > 100
    assert {text for text in found if text in short} == wanted
    assert all(found[text] == 1 for text in wanted)
    assert [tuple(row) for row in rows[: len(epoch)]] == [tuple(row) for row in epoch.tolist()]

    middle, last = next(number for number, (place, _) in enumerate(positions) if place == 2), len(positions) - 1
    resumed = StreamSamples(stream, 0)
    resumed.seek(positions[middle])
    assert steps(resumed, middle, last) == (rows[middle * BATCH :], numbers[middle * BATCH :])
    assert len(set(map(tuple, rows[: len(epoch)]))) == len(epoch)
