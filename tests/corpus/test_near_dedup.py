"""Near-duplicates against brute force over every pair, on drawn sets and on real files with clones."""

import itertools
import random
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.corpus.blocks import BATCH_BYTES
from codelm.corpus.candidates import LINKS, Components, Groups, Numbers, band_members, by_partition, keys, links, runs
from codelm.corpus.hashing import content_id
from codelm.corpus.minhash import text_bands
from codelm.corpus.near_dedup import MATCHES, Job, Neighbours, match_all, survivors_first, verdicts
from codelm.corpus.shingles import shingle_sets
from codelm.corpus.splitting import counted, indexed, neighbours, rare_members, shared
from codelm.corpus.verification import matches
from tests.corpus.exact import jaccard, shingle_set

WORDS, PERMUTATIONS = 5, 256
THRESHOLD = 0.6


def deduplicate(
    texts: dict[str, bytes],
    stars: dict[str, int] | None = None,
    threshold: float = 0.7,
    partitions: int = 2,
    job_bytes: int = 32 << 20,
) -> pa.Table:
    """`VERDICTS` about texts by id, by the steps of the corpus stage, in one process."""
    ids, data = list(texts), list(texts.values())
    bands: dict[int, np.ndarray] = {}
    for batch in runs(np.array([len(text) for text in data], np.int64), BATCH_BYTES):
        found = text_bands(data[batch], WORDS, threshold, PERMUTATIONS)
        bands |= {batch.start + place: hashes for place, hashes in found.items()}
    columns = {
        "id": pa.array(ids, pa.string()),
        "text_bytes": pa.array(map(len, data), pa.int64()),
        "stars": pa.array([(stars or {}).get(key) for key in ids], pa.int64()),
        "place": range(len(texts)),
        "bands": pa.array([bands.get(place) for place in range(len(texts))], pa.list_(pa.uint64())),
    }
    files = pa.table(columns)
    parts = by_partition(band_members(files), partitions)
    files = files.take(survivors_first(files))
    numbers, components = Numbers(keys(files["id"])), Components(len(files))
    for part in map(links, parts):
        components.join(numbers.of(part["first"].to_numpy()), numbers.of(part["other"].to_numpy()))
    places = files["place"].to_numpy()

    def run(jobs: Sequence[Job]) -> list[pa.Table]:
        found = []
        for job in jobs:
            hashes, offsets = shingle_sets([data[place] for place in places[job.files]], WORDS)
            pairs = matches(hashes, offsets, job.groups, threshold, job.known)
            rows = [job.files[pairs.file], job.files[pairs.kept], pairs.similarity]
            found.append(pa.table(rows, schema=MATCHES))
        return found

    groups, sizes = Groups.of(components), files["text_bytes"].to_numpy()

    def split(group: np.ndarray) -> tuple[Groups, Neighbours]:
        parts = [group[part] for part in runs(sizes[group], job_bytes)]
        sets = [shingle_sets([data[place] for place in places[part]], WORDS) for part in parts]
        return split_sets(group, parts, sets, threshold)

    pairs = match_all(groups, sizes, job_bytes, run, split)
    return verdicts(pairs, files["id"].combine_chunks())


def split_sets(
    group: np.ndarray, parts: list[np.ndarray], sets: list[tuple[np.ndarray, np.ndarray]], threshold: float
) -> tuple[Groups, Neighbours]:
    """The groups that rare shingles link, from the sets of parts of a group, by the steps of the corpus stage."""
    counts = [counted(hashes, len(parts)) for hashes, _ in sets]
    common = pa.concat_tables([shared([each[part] for each in counts]) for part in range(len(parts))])
    lengths = np.concatenate([np.diff(offsets) for _, offsets in sets])
    rows = [
        rare_members(hashes, offsets, part, lengths, common, threshold)
        for part, (hashes, offsets) in zip(parts, sets, strict=True)
    ]
    members = pa.concat_tables(rows)
    linked, components = links(members), Components(len(group))
    components.join(*(np.searchsorted(group, linked[name].to_numpy()).astype(np.int32) for name in LINKS.names))
    groups = Groups.of(components)
    index = indexed(members)
    return Groups(group[groups.files], groups.offsets), lambda kept: neighbours(*index, kept)


def judged(
    sets: list[set[int]], group_of: list[int], job_bytes: int, watch: Callable[[Job], None] = lambda job: None
) -> pa.Table:
    """The `MATCHES` of sets, numbered in order, with a file of a byte for each element; `watch` sees each job."""
    arrays = [np.array(sorted(each), np.uint64) for each in sets]

    def together(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([arrays[number] for number in numbers]), np.cumsum(
            [0, *map(len, map(sets.__getitem__, numbers))]
        )

    def run(jobs: Sequence[Job]) -> list[pa.Table]:
        found = []
        for job in jobs:
            watch(job)
            pairs = matches(*together(job.files), job.groups, THRESHOLD, job.known)
            rows = [job.files[pairs.file], job.files[pairs.kept], pairs.similarity]
            found.append(pa.table(rows, schema=MATCHES))
        return found

    members: dict[int, list[int]] = {}
    for number, group in enumerate(group_of):
        members.setdefault(group, []).append(number)
    lists = [numbers for numbers in members.values() if len(numbers) > 1]
    groups = Groups(np.array(list(itertools.chain(*lists)), np.int32), np.cumsum([0, *map(len, lists)], dtype=np.int64))
    sizes = np.array([len(each) for each in sets], np.int64)

    def split(group: np.ndarray) -> tuple[Groups, Neighbours]:
        parts = [group[part] for part in runs(sizes[group], job_bytes)]
        return split_sets(group, parts, [together(part) for part in parts], THRESHOLD)

    return match_all(groups, sizes, job_bytes, run, split)


drawn_sets = st.lists(st.tuples(st.sets(st.integers(0, 9), min_size=1), st.integers(0, 2)), min_size=1, max_size=14)


@settings(max_examples=50, deadline=None)
@given(drawn_sets, st.integers(1, 60))
def test_the_rule_holds_and_jobs_change_nothing(drawn: list[tuple[set[int], int]], job_bytes: int) -> None:
    sets, groups = [own for own, _ in drawn], [group for _, group in drawn]
    found = judged(sets, groups, job_bytes).sort_by([("file", "ascending"), ("kept", "ascending")])
    whole = judged(sets, groups, 10**9).sort_by([("file", "ascending"), ("kept", "ascending")])
    assert found.to_pylist() == whole.to_pylist()
    removed = set(found["file"].to_pylist())
    expected = []
    for file, own in enumerate(sets):
        for other in range(file):
            similarity = len(own & sets[other]) / len(own | sets[other])
            if groups[file] == groups[other] and other not in removed and similarity >= THRESHOLD:
                expected.append({"file": file, "kept": other, "similarity": similarity})
    assert found.to_pylist() == expected
    ids = pa.array([f"{number:02d}" for number in range(len(sets))])
    rows = verdicts(found, ids).to_pylist()
    assert {row["id"] for row in rows if row["witness"] is not None} == {f"{number:02d}" for number in removed}
    for row in rows:
        pairs = [pair for pair in expected if pair["file"] == int(row["id"])]
        if pairs:
            best = max(pairs, key=lambda pair: (pair["similarity"], -pair["kept"]))
            assert (int(row["witness"]), row["similarity"]) == (best["kept"], best["similarity"])


def test_the_work_for_a_chain_is_linear_however_small_jobs_are() -> None:
    """Each file is near the next ones alone; what is compared in all grows as the chain does."""

    def compared(files: int) -> float:
        drawn = random.Random(0).sample(range(files), files)
        sets = [set(range(4 * place, 4 * place + 40)) for place in drawn]
        jobs: list[int] = []
        found = judged(sets, [0] * files, 1000, lambda job: jobs.append(len(job.files)))
        whole = judged(sets, [0] * files, 10**9)
        order = [("file", "ascending"), ("kept", "ascending")]
        assert found.sort_by(order).to_pylist() == whole.sort_by(order).to_pylist()
        assert len(jobs) > files / 50, "many jobs"
        return sum(jobs) / files

    assert compared(640) < 1.3 * compared(160)


def test_no_removal_by_transitivity_and_clusters_are_what_pairs_connect() -> None:
    # a~b and b~c reach the threshold, a~c does not: b goes with a as its witness, c stays.
    sets = [set(range(11)), set(range(2, 10)), set(range(4, 10))]
    assert judged(sets, [0, 0, 0], 100).to_pylist() == [{"file": 1, "kept": 0, "similarity": 8 / 11}]
    # d reaches it with e and f, which do not with each other: one cluster, named after the first.
    pairs = pa.table([[3, 3, 5], [1, 2, 4], [0.7, 0.9, 0.8]], schema=MATCHES)
    rows = {row["id"]: row for row in verdicts(pairs, pa.array(list("xefduv"))).to_pylist()}
    assert {key: row["cluster"] for key, row in rows.items()} == {"d": "e", "e": "e", "f": "e", "u": "u", "v": "u"}
    assert rows["d"]["witness"] == "f"
    assert rows["d"]["similarity"] == 0.9
    assert rows["e"]["witness"] is rows["e"]["similarity"] is None


def test_survivors_have_more_stars_then_more_bytes_then_the_smaller_id() -> None:
    rows = [("e", 1, None), ("d", 1, 0), ("c", 2, 0), ("b", 9, None), ("a", 1, 3), ("f", 9, 3)]
    files = pa.table({"id": [row[0] for row in rows], "text_bytes": [row[1] for row in rows]})
    files = files.append_column("stars", pa.array([row[2] for row in rows], pa.int64()))
    assert files["id"].take(survivors_first(files)).to_pylist() == ["f", "a", "b", "c", "d", "e"]


def by_id(*texts: bytes) -> dict[str, bytes]:
    return {content_id(text): text for text in texts}


def clones(pattern: str) -> dict[str, bytes]:
    """Files of the standard library, and for every third of them four more that resemble it."""
    texts = []
    originals = sorted(Path(sysconfig.get_paths()["stdlib"]).glob(pattern))
    for number, path in enumerate(path for path in originals if 3000 < path.stat().st_size < 60_000):
        text = path.read_bytes()
        texts.append(text)
        if number % 3 == 0:
            texts.append(b"# Permission is granted to anyone to use this file in any way.\n" + text)
            texts.append(text.replace(b"    ", b"  "))
            texts.append(text.replace(b"self", b"this"))
            texts.append(text[: len(text) * 6 // 10])
    return by_id(*texts)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_real_files_against_brute_force(threshold: float) -> None:
    texts = clones("[a-h]*.py")
    sets = {key: shingle_set(text, WORDS) for key, text in texts.items()}
    rows = {row["id"]: row for row in deduplicate(texts, threshold=threshold).to_pylist()}
    removed = {key for key, row in rows.items() if row["witness"] is not None}
    alike = [
        (a, b)
        for a, b in itertools.combinations(sets, 2)
        if min(len(sets[a]), len(sets[b])) >= threshold * max(len(sets[a]), len(sets[b]))
        and jaccard(sets[a], sets[b]) >= threshold
    ]
    assert len(alike) > 50
    for key in removed:
        witness = rows[key]["witness"]
        assert witness not in removed
        assert rows[key]["similarity"] == jaccard(sets[key], sets[witness]) >= threshold
        assert rows[key]["cluster"] == rows[witness]["cluster"]
    missed = [(a, b) for a, b in alike if a not in removed and b not in removed]
    assert len(missed) <= 0.01 * len(alike)
    assert {key for pair in alike for key in pair} >= removed


def test_neither_order_nor_partitions_nor_jobs_change_anything() -> None:
    texts = clones("[a-d]*.py")
    stars = {key: len(text) % 3 for key, text in texts.items() if len(text) % 3}
    expected = deduplicate(texts, stars).sort_by("id")
    assert len(expected) > 30
    shuffled = random.Random(0).sample(list(texts), len(texts))
    other = deduplicate({key: texts[key] for key in shuffled}, stars, partitions=5, job_bytes=1)
    assert other.sort_by("id") == expected
    assert deduplicate(texts).sort_by("id") != expected, "stars count"


def test_white_space_and_punctuation_do_not_tell_files_apart() -> None:
    text = b"def f(a, b):\n    if a:\n        return b\n    return a\n"
    other = text.replace(b"    return a", b"return a")
    rows = {row["id"]: row for row in deduplicate(by_id(text, other)).to_pylist()}
    assert rows[content_id(other)]["witness"] == content_id(text)
    assert rows[content_id(other)]["similarity"] == 1.0


def test_texts_too_short_for_a_shingle_are_not_compared() -> None:
    assert len(deduplicate(by_id(b"a = 1\n", b"a = 2\n", b"b = 1\n"))) == 0
    assert len(deduplicate({})) == 0
