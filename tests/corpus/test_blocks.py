from dataclasses import replace
from pathlib import Path

import pytest

from codelm.config import Corpus
from codelm.corpus import blocks as module
from codelm.corpus.annotate import Annotator
from codelm.corpus.blocks import FILES, LARGEST_BLOCK, SMALLEST_BLOCK, Block, Listing, annotated, blocks
from codelm.corpus.source_file import Entry, Split
from codelm.corpus.sources import plan
from codelm.corpus.text_store import TextStore
from codelm.run_dir import RunDir

GOOD = "def f(x):\n" + "".join(f"    x{n} = {n}\n" for n in range(30)) + "    return x\n"


def split(size: int, version: str = "1") -> Split:
    return Split("s", "directory", ("/s",), version, size)


def test_blocks_hold_all_splits_in_order_and_grow_with_the_corpus() -> None:
    splits = [split(1 << 20, str(number)) for number in range(50_000)]
    found = list(blocks(splits))
    assert [one for block in found for one in block.splits] == splits
    sizes = [sum(one.size for one in block.splits) for block in found]
    assert sizes[:30] == [SMALLEST_BLOCK] * 30
    assert sizes[:-1] == sorted(sizes[:-1])
    assert max(sizes) == LARGEST_BLOCK
    assert len(found) < 800


def test_many_small_files_are_work_too() -> None:
    entries = tuple(Entry(f"{number}.py", 1, "1") for number in range(512))
    small = replace(split(512), entries=entries)
    assert len(list(blocks([small] * 16))) == 2


def test_a_digest_names_the_versions_of_all_files() -> None:
    entry = Entry("a.py", 5, "1")
    one = Block((replace(split(5), entries=(entry,)), split(7)))
    assert one.digest == Block(one.splits).digest
    changed = [
        Block((replace(one.splits[0], entries=(other,)), one.splits[1]))
        for other in (replace(entry, size=6), replace(entry, version="2"), replace(entry, path="b.py"))
    ]
    changed += [Block(one.splits[::-1]), Block(one.splits[:1]), Block((one.splits[0], split(7, "2")))]
    assert len({block.digest for block in [one, *changed]}) == 7


@pytest.fixture
def store(tmp_path: Path) -> TextStore:
    (tmp_path / "store").mkdir()
    return TextStore(RunDir(str(tmp_path)), str(tmp_path / "store"))


@pytest.mark.parametrize("batch_files", [1, 2, 100])
def test_a_block_that_is_done_is_not_read_again(
    store: TextStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_files: int
) -> None:
    monkeypatch.setattr(module, "BATCH_FILES", batch_files)
    source = tmp_path / "source"
    source.mkdir()
    for name, text in {"a": GOOD, "b": "\n", "c": GOOD + "# end\n", "d": GOOD}.items():
        (source / f"{name}.py").write_text(text)
    corpus = Corpus(sources=(str(source),))
    block = Block(tuple(plan(str(source), corpus)))
    files = annotated(block, Annotator(corpus, 0), store)
    assert files.schema == FILES
    passed = files.take([0, 2, 3])
    assert list(store.read(passed)) == [GOOD.encode(), (GOOD + "# end\n").encode(), GOOD.encode()]
    assert passed["offset"][0] == passed["offset"][2]
    assert files.slice(1, 1).select(["reason", "block", "length"]).to_pylist() == [
        {"reason": "empty", "block": None, "length": None}
    ]

    for path in source.iterdir():
        path.write_text("changed behind its back")
    assert annotated(block, Annotator(corpus, 0), store) == files
    for path in (tmp_path / "store").glob("*.arrow"):
        path.unlink()
    assert annotated(block, Annotator(corpus, 0), store) != files


def test_an_empty_block(store: TextStore) -> None:
    assert annotated(Block(()), Annotator(Corpus(sources=("s",)), 0), store) == FILES.empty_table()


def test_a_listing_is_what_plan_says_in_little_memory(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.py").write_text(GOOD)
    corpus = Corpus(sources=(str(tmp_path),))
    listing = Listing.of(corpus)
    assert list(listing.splits()) == list(plan(str(tmp_path), corpus))
    assert sum(map(len, listing.packed)) < 40 * 2000
    before = listing.digests[str(tmp_path)]
    assert Listing.of(corpus).digests == {str(tmp_path): before}
    (tmp_path / "7.py").write_text("x = 1\n")
    assert Listing.of(corpus).digests[str(tmp_path)] != before
