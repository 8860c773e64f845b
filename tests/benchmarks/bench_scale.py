"""How near-deduplication grows: time per file, the driver's memory, and inputs that are made to be slow.

    python -m tests.benchmarks.bench_scale growth DIRECTORY
    python -m tests.benchmarks.bench_scale memory
    python -m tests.benchmarks.bench_scale slow

One process; CPU seconds from texts in memory to verdicts (`deduplicate`: the stage's steps); but for growth, the better
of two runs.

- growth: 80,000 files as sixteen inputs of 5,000, as four of 20,000 and as one: the same bytes each time, for about as
  long, so that neither the mix of files nor a moment of the machine tells the sizes apart. A quarter are Python files
  of DIRECTORY and of the standard library with 50 to 2,500 shingles, in the order of the hashes of their paths; the
  others are these with so many words of their own at the end that the Jaccard similarity with the original is 0.9,
  0.75 and 0.5. So each original is removed, and the three are not, for each other's sake (their similarities are below
  0.7).
- memory: the driver's clustering for a million files in small groups, whose links come in eight parts: peak memory by
  tracemalloc and Arrow's pool, beyond the table of files.
- slow: copies of one text; like files in one band; a chain in which each file is near the next ones; files that share a
  licence header which is 60 % of each (so that none is removed); and the chain cut into jobs of 1 MiB.
"""

import os
import sys
import sysconfig
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa

from codelm.corpus.candidates import LINKS, Components, Groups, Numbers, band_members, by_partition, keys, links
from codelm.corpus.hashing import order_key
from codelm.corpus.ledger import first_copies
from codelm.corpus.minhash import text_bands
from codelm.corpus.shingles import shingle_sets
from tests.benchmarks.bench_near_dedup import PERMUTATIONS, THRESHOLD, WORDS, different_texts
from tests.corpus.test_near_dedup import deduplicate

SIMILARITIES = (0.9, 0.75, 0.5)
GROWTH = (5_000, 20_000, 80_000)
FEWEST_SHINGLES, MOST_SHINGLES = 50, 2500
MILLION = 1_000_000


def number_ids(texts: list[bytes]) -> dict[str, bytes]:
    """Ids in place of those of the contents, whose hashing is a step of its own."""
    return {f"{order_key(0, 'id', str(number)):016x}{number:016x}": text for number, text in enumerate(texts)}


def edited(originals: list[bytes]) -> list[bytes]:
    """The originals, and each with as many words of its own as give the similarities."""
    texts = list(originals)
    sizes = np.diff(shingle_sets(originals, WORDS)[1])
    for number, (text, size) in enumerate(zip(originals, sizes.tolist(), strict=True)):
        for similarity in SIMILARITIES:
            added = round(size / similarity) - size
            own = " ".join(f"{number:x}_{similarity:g}_{place}" for place in range(added))
            texts.append(text + b"\n" + own.encode())
    return texts


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of the better of two runs: what else the machine does costs CPU time too."""
    taken = []
    for _ in range(2):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def report_growth(directory: Path) -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = [*directory.rglob("*.py"), *(path for path in library.rglob("*.py") if "site-packages" not in path.parts)]
    paths.sort(key=lambda path: order_key(0, "bench", str(path)))
    found = different_texts(paths, 30_000)
    originals = [
        text
        for text, size in zip(found, np.diff(shingle_sets(found, WORDS)[1]), strict=True)
        if FEWEST_SHINGLES <= size <= MOST_SHINGLES
    ]
    originals = originals[: GROWTH[-1] // 4]
    copies = edited(originals)[len(originals) :]
    each = len(SIMILARITIES)
    size = sum(map(len, originals)) + sum(map(len, copies))
    print(f"{GROWTH[-1]:,} files, {size / 1e6:.0f} MB, taken in parts of:")
    print(f"{'files':>7}{'CPU s':>8}{'ms/file':>9}{'ns/byte':>9}{'to the smallest':>17}{'originals kept':>16}")
    smallest = 0.0
    for files in GROWTH:
        taken, kept = 0.0, 0
        for first in range(0, len(originals), files // 4):
            last = first + files // 4
            texts = number_ids(originals[first:last] + copies[first * each : last * each])
            start = time.process_time()
            rows = deduplicate(texts, threshold=THRESHOLD)
            taken += time.process_time() - start
            removed = set(rows["id"].filter(rows["witness"].is_valid()).to_pylist())
            kept += len(set(list(texts)[: last - first]) - removed)
        smallest = smallest or taken
        print(
            f"{files:7,}{taken:8.2f}{1e3 * taken / GROWTH[-1]:9.3f}{1e9 * taken / size:9.2f}"
            f"{taken / smallest:17.2f}{kept:16,}",
            flush=True,
        )


def report_memory() -> None:
    ids = pa.chunked_array([pa.array([f"{order_key(0, 'id', str(n)):016x}{n:016x}" for n in range(MILLION)])])
    own = keys(ids)
    group = np.random.default_rng(0).integers(0, 4, MILLION).cumsum() // 4  # runs of files, mostly of one to four
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    first = own[starts[np.searchsorted(starts, np.arange(MILLION), "right") - 1]]
    linked = first != own
    parts = [pa.table([first[linked], own[linked]], schema=LINKS) for _ in range(8)]
    del own, group, starts, first
    pool = pa.default_memory_pool()
    before, begin = pool.bytes_allocated(), time.process_time()
    tracemalloc.start()
    numbers, components = Numbers(keys(ids)), Components(MILLION)
    for part in parts:
        components.join(numbers.of(part["first"].to_numpy()), numbers.of(part["other"].to_numpy()))
    groups = Groups.of(components)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    arrow = max(pool.bytes_allocated() - before, 0)
    print(f"driver: {MILLION:,} files, {linked.sum():,} links in each of 8 parts, {len(groups.offsets) - 1:,} groups")
    print(f"  peak {peak / MILLION:.1f} bytes a file (NumPy, Python) + {arrow / MILLION:.1f} (Arrow)", end="")
    print(f", {time.process_time() - begin:.1f} s")


def words(first: int, count: int) -> str:
    return " ".join(f"w{number}" for number in range(first, first + count))


def alike(files: int) -> list[bytes]:
    return [f"{words(0, 200)} own{number}".encode() for number in range(files)]


def chain(files: int) -> list[bytes]:
    return [words(8 * number, 200).encode() for number in range(files)]


def headed(files: int) -> list[bytes]:
    return [f"{words(0, 154)} {words(1000 + 50 * number, 50)}".encode() for number in range(files)]


def copies(files: int) -> None:
    """What the stage does for texts that are equal, from their bands on."""
    bands = text_bands([words(0, 200).encode()], WORDS, THRESHOLD, PERMUTATIONS)[0]
    columns = {
        "id": ["0" * 32] * files,
        "reason": pa.nulls(files, pa.string()),
        "stars": pa.nulls(files, pa.int64()),
        "bands": pa.array([bands] * files, pa.list_(pa.uint64())),
    }
    rows = pa.table(columns)
    assert len(first_copies(rows)) == 1
    assert not any(len(links(part)) for part in by_partition(band_members(rows), 2))


def report_slow_inputs() -> None:
    print(f"{'':<34}{'files':>8}{'CPU s':>8}{'ms/file':>9}{'removed':>9}")

    def report(name: str, sizes: tuple[int, int], make: Callable[[int], list[bytes]], job_bytes: int) -> None:
        for files in sizes:
            texts = number_ids(make(files))
            rows: list[pa.Table] = []
            taken = cpu_seconds(
                lambda t=texts, r=rows: r.append(deduplicate(t, threshold=THRESHOLD, job_bytes=job_bytes))
            )
            removed = len(rows[0]) - rows[0]["witness"].null_count
            print(f"{name:<34}{files:8,}{taken:8.2f}{1e3 * taken / files:9.3f}{removed:9,}")

    for files in (25_000, 100_000):
        taken = cpu_seconds(lambda files=files: copies(files))
        print(f"{'copies of one text':<34}{files:8,}{taken:8.2f}{1e3 * taken / files:9.3f}{files - 1:9,}")
    report("like files in one band", (25_000, 100_000), alike, 32 << 20)
    report("a chain", (5_000, 20_000), chain, 32 << 20)
    report("a chain, jobs of 1 MiB", (5_000, 20_000), chain, 1 << 20)
    report("60 % header", (25_000, 100_000), headed, 32 << 20)


def main() -> None:
    deduplicate(number_ids(chain(100)))  # what is made once
    if sys.argv[1] == "growth":
        report_growth(Path(sys.argv[2]))
    else:
        {"memory": report_memory, "slow": report_slow_inputs}[sys.argv[1]]()


if __name__ == "__main__":
    main()
