import random
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.corpus import text_store as module
from codelm.corpus.hashing import content_id
from codelm.corpus.text_store import PLACES, BlockWriter, TextStore
from codelm.run_dir import RunDir


@pytest.fixture
def store(tmp_path: Path) -> TextStore:
    (tmp_path / "store").mkdir()
    return TextStore(RunDir(str(tmp_path)), str(tmp_path / "store"))


def put(store: TextStore, texts: list[bytes], name: str = "block") -> pa.Table:
    """Write a block and give the places of its texts, in their order."""
    writer = BlockWriter(store, name)
    for text in texts:
        writer.add(content_id(text), text)
    places = writer.finish()
    rows = [dict(zip(PLACES.names, places[content_id(text)], strict=True)) for text in texts]
    table = pa.Table.from_pylist(rows, PLACES)
    return table.append_column("text_bytes", pa.array([len(text) for text in texts], pa.int64()))


TEXTS = [f"x = {number}\n".encode() * (number + 1) for number in range(60)]


@pytest.mark.parametrize("file_bytes", [1, 500, 1 << 20])
@pytest.mark.parametrize("window_bytes", [1, 1000, 1 << 20])
@pytest.mark.parametrize("max_waste", [0, 4])
def test_texts_come_back_in_any_order(
    store: TextStore, monkeypatch: pytest.MonkeyPatch, file_bytes: int, window_bytes: int, max_waste: int
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", file_bytes)
    monkeypatch.setattr(module, "WINDOW_BYTES", window_bytes)
    monkeypatch.setattr(module, "MAX_WASTE", max_waste)
    places = pa.concat_tables([put(store, TEXTS[:40], "one"), put(store, TEXTS[40:], "two")])
    order = random.Random(0).sample(range(60), 25)
    assert list(store.read(places.take(order))) == [TEXTS[row] for row in order]
    assert store.text(places.take([7]).to_pylist()[0]) == TEXTS[7]


def test_nothing_to_read(store: TextStore) -> None:
    assert list(store.read(put(store, TEXTS).slice(0, 0))) == []
    assert BlockWriter(store, "empty").finish() == {}


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1))
def test_a_file_holds_each_text_once_in_the_order_of_ids(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes]
) -> None:
    directory = tmp_path_factory.mktemp("store")
    store = TextStore(RunDir(str(directory)), str(directory))
    places = put(store, texts)
    assert list(store.read(places)) == texts
    by_id = sorted({content_id(text): row for text, row in zip(texts, places.to_pylist(), strict=True)}.items())
    offset = 0
    for _, row in by_id:
        assert row["offset"] == offset
        offset += row["length"]
    assert (directory / "block-00000.texts").stat().st_size == offset


def not_local(directory: Path) -> TextStore:
    """A store on a file system that is no local disk, as far as the run directory knows."""
    run_dir = RunDir(str(directory))
    run_dir.fs = pafs.SubTreeFileSystem(str(directory), pafs.LocalFileSystem())
    assert not run_dir.is_local
    (directory / "store").mkdir(exist_ok=True)
    return TextStore(run_dir, "store")


@pytest.mark.parametrize("is_local", [True, False])
def test_an_unfinished_file_is_not_seen(store: TextStore, tmp_path: Path, is_local: bool) -> None:
    if not is_local:
        store = not_local(tmp_path)

    def interrupted() -> None:
        with store.writing("a") as out:
            out.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(FileNotFoundError):
        store.reading("a")


def test_two_writers_of_one_file_do_not_mix(store: TextStore) -> None:
    with store.writing("a") as first:
        first.write(b"first, ")
        with store.writing("a") as second:
            second.write(b"second")
        first.write(b"and whole")
    assert store.reading("a").read() == b"first, and whole"


def test_texts_come_back_from_what_is_no_local_disk(tmp_path: Path) -> None:
    """pyarrow compresses what goes to a name that ends in `.zst` unless it is told not to."""
    store = not_local(tmp_path)
    assert list(store.read(put(store, TEXTS))) == TEXTS
