from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from codelm.corpus import shards as module
from codelm.corpus.hashing import content_id
from codelm.corpus.redaction import redact
from codelm.corpus.shards import (
    DOCUMENTS,
    add_counts,
    cut,
    read_again,
    read_documents,
    shard_path,
    shard_paths,
    write_shard,
)
from codelm.errors import UserError

FS = pafs.LocalFileSystem()


def kept(root: Path, *texts: str) -> pa.Table:
    rows = []
    for number, text in enumerate(texts):
        (root / f"{number}.py").write_bytes(text.encode())
        data = text.encode()
        row = {"id": content_id(data), "source": "s", "root": str(root), "path": f"{number}.py"}
        rows.append(
            {**row, "size": len(data), "text_bytes": len(data), "cluster": content_id(data), "language": "Python"}
        )
    return pa.Table.from_pylist(rows)


def test_documents_come_back_in_order(tmp_path: Path) -> None:
    texts = ["x = 1\n", "y = 'é'\r\n", "z"]
    write_shard(FS, str(tmp_path / "a.parquet"), kept(tmp_path, *texts))
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.remove_metadata() == DOCUMENTS
    assert table["size"].to_pylist() == [len(text.encode()) for text in texts]
    assert [document.content for document in read_documents(FS, str(tmp_path / "a.parquet"))] == texts


def test_row_groups_bound_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", 10)
    write_shard(FS, str(tmp_path / "a.parquet"), kept(tmp_path, *["x = 1\n"] * 5))
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3
    assert len(list(read_documents(FS, str(tmp_path / "a.parquet")))) == 5


def test_an_empty_shard_is_readable(tmp_path: Path) -> None:
    write_shard(FS, str(tmp_path / "a.parquet"), kept(tmp_path, "x").slice(0, 0))
    assert list(read_documents(FS, str(tmp_path / "a.parquet"))) == []


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 10])
def test_cuts_are_even_and_in_order(tmp_path: Path, shards: int) -> None:
    files = kept(tmp_path, *"abcdefg")
    parts = cut(files, shards)
    assert len(parts) == shards
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert pa.concat_tables(parts) == files


def test_shards_are_found_in_order(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        path = Path(shard_path(str(tmp_path), number))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [Path(path).name for path in shard_paths(FS, str(tmp_path))]
    assert names == ["part-00000.parquet", "part-00002.parquet", "part-00010.parquet"]


@pytest.mark.parametrize("change", ["y = 1\n", "longer than it was\n", "", None])
def test_a_file_that_changed_meanwhile_is_named(tmp_path: Path, change: str | None) -> None:
    [file] = kept(tmp_path, "x = 1\n").to_pylist()
    assert read_again(file) == "x = 1\n"
    (tmp_path / "0.py").unlink() if change is None else (tmp_path / "0.py").write_text(change)
    with pytest.raises(UserError, match=r"'0.py' changed while the corpus was made; run the command again"):
        read_again(file)


def test_what_is_redacted_is_written_and_counted(tmp_path: Path) -> None:
    texts = ["mail = 'jane@gmail.com'\n", "x = 1\n", "a = 'jane@gmail.com joe@gmail.com'\n"]
    files = kept(tmp_path, *texts)
    counts = write_shard(FS, str(tmp_path / "a.parquet"), files, partial(redact, 0))
    assert counts == {"email": {"files": 2, "places": 3}}
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["content"].to_pylist() == [redact(0, text, content_id(text.encode())).text for text in texts]
    assert table["size"].to_pylist() == [len(text) for text in table["content"].to_pylist()]
    assert table["id"] == files["id"]
    assert write_shard(FS, str(tmp_path / "b.parquet"), files) == {}


def test_counts_add_up() -> None:
    parts = [{"key": {"files": 1, "places": 2}}, {}, {"key": {"files": 3, "places": 4}, "email": {"files": 5}}]
    assert add_counts(parts) == {"key": {"files": 4, "places": 6}, "email": {"files": 5}}
