"""Sources on S3: the same files as from a local disk, through a real S3 protocol, and what an object store can do."""

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from backports import zstd
from moto.server import ThreadedMotoServer

from codelm.config import Corpus
from codelm.corpus.source_file import SourceFile
from codelm.corpus.sources import check_source, json_lines, parquet, plan, read, zips
from codelm.errors import UserError
from codelm.run_dir import resolve
from tests.corpus.source_reading import read_source, source_digest, write

ROWS = [{"content": f"x = {number}\n" * 50, "path": f"{number}.py", "repo": "o/r"} for number in range(200)]


def fill(root: Path) -> None:
    """Sources of every kind."""
    write(root, *(f"files/{number % 3}/{number}.py" for number in range(40)), "files/LICENSE", "files/x.txt")
    write(root, "files/clone/a.py", "files/clone/__pycache__/b.py")
    write(root, "files/clone/.git/config", text='[remote "origin"]\n\turl = git@host:owner/name.git\n')
    members = io.BytesIO()
    with tarfile.open(fileobj=members, mode="w") as archive:
        archive.add(root / "files", "p-1.0")
    (root / "p-1.0.tar.gz").write_bytes(gzip.compress(members.getvalue()))
    with zipfile.ZipFile(root / "x.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted((root / "files").rglob("*.py")):
            made.write(path, path.relative_to(root))
    lines = "".join(f'{{"content": "{row["path"]}", "path": "{row["path"]}"}}\n' for row in ROWS).encode()
    (root / "x.jsonl").write_bytes(lines)
    (root / "x.jsonl.zst").write_bytes(zstd.compress(lines))
    (root / "tables").mkdir()
    for name in ("a", "b"):
        pq.write_table(pa.Table.from_pylist(ROWS), root / "tables" / f"{name}.parquet", row_group_size=30)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("local") / "sources"
    fill(root)
    return root


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(port=0)
    started.start()
    host, port = started.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(key, value)
        yield f"scheme=http&endpoint_override={host}:{port}&region=us-east-1&allow_bucket_creation=true"
    started.stop()


@pytest.fixture(scope="module")
def query(server: str, local: Path) -> str:
    """What follows the `?` of a URI of the server, whose bucket `sources` holds what `local` does."""
    fs, root = resolve(f"s3://sources?{server}")
    fs.create_dir(root)
    pafs.copy_files(str(local), root, destination_filesystem=fs)
    return server


def shown(files: list[SourceFile]) -> list[tuple[object, ...]]:
    names = ("path", "size", "data", "reason", "repo", "licence", "is_utf8", "evidence")
    return sorted((tuple(getattr(file, name) for name in names) for file in files), key=repr)


@pytest.mark.parametrize(
    "item",
    [
        "files",
        "files/clone",
        "files/*",
        "files/**/*.py",
        "p-1.0.tar.gz",
        "*.tar.gz",
        "x.zip",
        "x.jsonl",
        "x.jsonl.zst",
        "tables/*.parquet",
        "tables/[ab].parquet",
    ],
)
def test_the_same_files_as_from_a_local_disk(
    local: Path, query: str, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    for kind in (json_lines, parquet, zips):
        monkeypatch.setattr(kind, "SPLIT_BYTES", 2000)
    source = f"s3://sources/{item}?{query}"
    found = read_source(source)
    assert shown(found) == shown(read_source(local / item))
    assert len(found) > 0
    assert {file.source for file in found} == {source}
    check_source(source, Corpus(sources=(source,)))


def test_a_digest_is_that_of_the_listing(query: str) -> None:
    source = f"s3://sources/files?{query}"
    corpus = Corpus(sources=(source,))
    before = source_digest(source, corpus)
    assert source_digest(source, corpus) == before
    fs, root = resolve(f"s3://sources/files/new.py?{query}")
    with fs.open_output_stream(root) as out:
        out.write(b"x")
    assert source_digest(source, corpus) != before
    fs.delete_file(root)
    assert source_digest(source, corpus) == before


def test_an_object_that_is_gone_is_unreadable(query: str, local: Path) -> None:
    fs, root = resolve(f"s3://sources/going?{query}")
    shutil.rmtree(local / "going", ignore_errors=True)
    fs.create_dir(root)
    for name in ("a.py", "b.py"):
        with fs.open_output_stream(f"{root}/{name}") as out:
            out.write(b"x = 1\n")
    source = f"s3://sources/going?{query}"
    corpus = Corpus(sources=(source,))
    splits = list(plan(source, corpus))
    fs.delete_file(f"{root}/a.py")
    files = [file for split in splits for file in read(split, corpus, lambda path: True)]
    assert [(file.path, file.reason) for file in files] == [("a.py", "unreadable"), ("b.py", None)]
    fs.delete_dir(root)


@pytest.mark.parametrize("item", ["nothing", "nothing/*.tar.gz", "files/*.parquet"])
def test_what_is_not_there_is_told_at_once(query: str, item: str) -> None:
    source = f"s3://sources/{item}?{query}"
    with pytest.raises(UserError, match=r"corpus.sources: 's3://sources/.*' does not exist"):
        check_source(source, Corpus(sources=(source,)))


def test_a_bucket_that_is_not_there_is_told_at_once(query: str) -> None:
    source = f"s3://no-such-bucket/x?{query}"
    with pytest.raises(UserError, match=r"corpus.sources: .*s3://no-such-bucket/x"):
        check_source(source, Corpus(sources=(source,)))


@pytest.mark.parametrize("item", ["files", "p-1.0.tar.gz", "x.zip", "x.jsonl", "tables/a.parquet"])
def test_a_store_that_fails_drops_nothing_but_stops(
    query: str, item: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The splits are planned, then nobody answers at the store's address."""
    source = f"s3://sources/{item}?{query}"
    corpus = Corpus(sources=(source,))
    [split, *_] = plan(source, corpus)
    elsewhere = pafs.S3FileSystem(
        access_key="a", secret_key="b", region="us-east-1", scheme="http", endpoint_override="127.0.0.1:9",
        connect_timeout=0.2, request_timeout=0.2, retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
    )  # fmt: skip
    for module in ("places", "directories"):
        monkeypatch.setattr(f"codelm.corpus.sources.{module}.filesystem", lambda uri: elsewhere)
    with pytest.raises(UserError, match=r"corpus.sources: cannot read .* run the command again"):
        list(read(split, corpus, lambda path: True))


@pytest.mark.parametrize("item", ["p-1.0.tar.gz", "x.zip", "x.jsonl", "x.jsonl.zst", "tables/a.parquet"])
def test_a_store_that_fails_half_way_drops_nothing_but_stops(
    query: str, item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"s3://sources/{item}?{query}"
    corpus = Corpus(sources=(source,))
    [split] = plan(source, corpus)
    fs, path = resolve(source)
    with fs.open_input_file(path) as file:
        data = file.read()
    left = 0

    class Failing(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError("connection reset")
            return super().readinto(memoryview(buffer)[:500])

    class Store:
        def open_input_file(self, path: str) -> Failing:
            return Failing(data)

    monkeypatch.setattr("codelm.corpus.sources.places.filesystem", lambda uri: Store())
    left = 10_000
    assert all(file.reason is None for file in read(split, corpus, lambda path: True))
    reads = 10_000 - left
    for number in range(1, reads + 1):
        left = number
        with pytest.raises(UserError, match=r"cannot read .* connection reset"):
            list(read(split, corpus, lambda path: True))
