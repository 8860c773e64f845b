from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.config import NearDedup
from codelm.corpus import index as module
from codelm.corpus.hashing import content_id
from codelm.corpus.index import Known, pack, parted, placed, sets_name, stored_sets, texts_name, unpack, write_part
from codelm.corpus.minhash import text_bands
from codelm.corpus.source_file import Entry, Split
from codelm.corpus.text_store import BASE, PLACES, BlockWriter, TextStore
from codelm.run_dir import RunDir
from tests.corpus.exact import shingle_set

SETTINGS = NearDedup()
TEXTS = {content_id(text): text for text in (b"a b c d e f %d g h i %d" % (n, n * n) * n for n in range(1, 40))}
TEXTS |= {content_id(b"short"): b"short"}


@given(st.lists(st.integers(0, 2**64 - 1), unique=True))
def test_a_set_comes_back(elements: list[int]) -> None:
    given_set = np.array(sorted(elements), dtype=np.uint64)
    np.testing.assert_array_equal(unpack(pack(given_set)), given_set)


def test_a_large_set_takes_seven_bytes_an_element() -> None:
    elements = np.unique(np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64))
    assert len(pack(elements)) < 7.2 * len(elements)


def written(root: Path) -> tuple[TextStore, pa.Table]:
    """A store with the texts, and where they are, in the order of their ids."""
    for name in ("store", module.INDEX):
        (root / name).mkdir(parents=True)
    store = TextStore(RunDir(str(root)), str(root / "store"))
    writer = BlockWriter(store, "block")
    for key, text in TEXTS.items():
        writer.add(key, text)
    places = writer.finish()
    rows = [
        {"id": key, "text_bytes": len(TEXTS[key]), **dict(zip(PLACES.names, places[key], strict=True))}
        for key in sorted(TEXTS)
    ]
    types = [("id", pa.large_string()), ("text_bytes", pa.int64()), *PLACES]
    return store, pa.Table.from_pylist(rows, pa.schema(types))


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_what_is_taken_over_from_another_index_is_what_is_made_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", at_once)
    store, texts = written(tmp_path / "base")
    write_part(store, 0, texts, SETTINGS)
    table = pq.read_table(tmp_path / "base" / texts_name(0))
    for row in table.to_pylist():
        bands = text_bands([TEXTS[row["id"]]], SETTINGS.shingle_words, SETTINGS.threshold, SETTINGS.permutations)
        assert row["bands"] == (bands[0].tolist() if bands else [])

    # Every other text is known from the base, by its set alone.
    store, texts = written(tmp_path / "new")
    store = replace(store, base=(RunDir(str(tmp_path / "base")), str(tmp_path / "base")))
    old = table.append_column("block", pa.array([BASE + sets_name(0)] * len(table), pa.large_string()))
    files = texts.select(["id", "text_bytes"]).append_column("reason", pa.nulls(len(texts), pa.large_string()))
    from_base = placed(files, old).drop_columns("reason")
    mixed = pa.concat_tables(
        (from_base if row % 2 else texts).select(texts.column_names).slice(row, 1) for row in range(len(texts))
    )
    write_part(store, 0, mixed, SETTINGS)
    for name in (texts_name(0), sets_name(0)):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "base" / name).read_bytes()

    shuffled = mixed.take(np.random.default_rng(0).permutation(len(mixed)))
    hashes, offsets = stored_sets(store, shuffled, SETTINGS.shingle_words)
    for row, key in enumerate(shuffled["id"].to_pylist()):
        expected = shingle_set(TEXTS[key], SETTINGS.shingle_words)
        np.testing.assert_array_equal(hashes[offsets[row] : offsets[row + 1]], expected)


def test_only_what_passed_has_a_place() -> None:
    files = pa.table({"id": ["a", "b", None, "a"], "reason": [None, None, "empty", "other_language"]})
    texts = pa.table({"id": ["a"], "block": pa.array(["x"], pa.large_string()), "offset": [3], "length": [4]})
    assert placed(files, texts)["offset"].to_pylist() == [3, None, None, None]


def test_splits_are_parted_by_what_is_known() -> None:
    entries = tuple(Entry(f"{number}.py", 10, "1") for number in range(4))
    split = Split("s", "directory", ("/s",), "", 40, entries)
    whole = Split("s", "tar", ("/s.tar",), "v1", 40)
    stamps = [entry.stamp("s") for entry in entries]
    known = Known.of(pa.chunked_array([[*stamps[:2], whole.stamp, "f" * 32]]))
    assert parted(split, known) == (stamps[:2], replace(split, size=20, entries=entries[2:]))
    assert parted(replace(split, entries=entries[:2]), known) == (stamps[:2], None)
    assert parted(replace(split, entries=entries[2:]), known) == ([], replace(split, entries=entries[2:]))
    assert parted(whole, known) == ([whole.stamp], None)
    changed = replace(whole, version="v2")
    assert parted(changed, known) == ([], changed)
    assert parted(split, Known.of(pa.chunked_array([[]], pa.string()))) == ([], split)
