"""Files made in batches: the same after any interruption."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from codelm.evaluation.parts import Parts, Todo

ITEMS = list("abcdefg")


def lines(todo: Todo[str]) -> Iterator[tuple[int, str]]:
    """In the opposite order, as workers may."""
    for place, batch in reversed(todo):
        yield place, "".join(f"{item}\n" for item in batch)


def test_the_order_is_that_of_the_items(tmp_path: Path) -> None:
    reports: list[int] = []
    parts = Parts(pafs.LocalFileSystem(), str(tmp_path))
    assert parts.make("letters", ITEMS, 3, lines, reports.append) == "a\nb\nc\nd\ne\nf\ng\n"
    assert (tmp_path / "letters").read_text() == "a\nb\nc\nd\ne\nf\ng\n"
    assert reports == [0, 1, 4, 7]
    parts.forget()
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


@pytest.mark.parametrize("torn", ["", "d\n", "d\ne\nf"])
def test_only_what_is_missing_or_torn_is_made_again(tmp_path: Path, torn: str) -> None:
    parts = Parts(pafs.LocalFileSystem(), str(tmp_path))
    whole = parts.make("letters", ITEMS, 3, lines, lambda done: None)
    (tmp_path / "parts" / "letters-000001").write_text(torn)
    (tmp_path / "parts" / "letters-000002").unlink()
    asked: list[int] = []

    def watched(todo: Todo[str]) -> Iterator[tuple[int, str]]:
        asked.extend(place for place, _ in todo)
        return lines(todo)

    assert parts.make("letters", ITEMS, 3, watched, lambda done: None) == whole
    assert asked == [1, 2]
    assert parts.make("letters", ITEMS, 3, watched, lambda done: None) == whole
    assert asked == [1, 2]
