"""JSON Lines, Parquet and Hugging Face data sets as sources."""

import bz2
import gzip
import json
import lzma
import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from codelm.config import Corpus
from codelm.corpus.annotate import Annotator
from codelm.corpus.source_file import SourceFile
from codelm.corpus.sources import check_source, json_lines, parquet, plan, read
from codelm.corpus.sources.inflating import Line, lines
from codelm.errors import UserError
from tests.corpus.source_reading import read_source, source_digest, texts

ROWS: list[dict[str, Any]] = [
    {"content": "x = 1\n", "path": "a.py", "repo": "o/a", "licence": "MIT", "stars": 3},
    {"content": "é = 'ü'\n", "path": "src/b.py", "repo": "o/b", "licence": None, "stars": None},
    {"content": "no\n", "path": "c.txt", "repo": "o/b", "licence": None, "stars": 5},
]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": bytes,
    ".ndjson": bytes,
    ".json": bytes,
    ".jsonl.gz": gzip.compress,
    ".json.gz": gzip.compress,
    ".jsonl.zst": zstd.compress,
    ".jsonl.bz2": bz2.compress,
    ".jsonl.xz": lzma.compress,
}


def json_rows(rows: list[dict[str, Any]], end: str = "\n") -> bytes:
    return "".join(json.dumps(row) + end for row in rows).encode()


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(COMPRESS[path.name[path.name.index(".") :]](json_rows(rows)))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def check(source: Path | str) -> None:
    check_source(str(source), Corpus(sources=(str(source),)))


def kept(files: list[SourceFile]) -> list[tuple[Any, ...]]:
    return [(file.path, file.data, file.repo, file.licence, file.stars) for file in files]


EXPECTED = [
    ("a.py", b"x = 1\n", "o/a", "MIT", 3),
    ("src/b.py", "é = 'ü'\n".encode(), "o/b", None, None),
]


@pytest.mark.parametrize("ending", COMPRESS)
def test_json_lines_of_every_compression(tmp_path: Path, ending: str) -> None:
    path = write_json(tmp_path / f"x{ending}", ROWS)
    files = read_source(path)
    assert kept(files) == EXPECTED
    assert {(file.is_utf8, file.size == len(file.data or b"")) for file in files} == {(True, True)}
    check(path)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
def test_parquet_of_every_compression(tmp_path: Path, compression: str) -> None:
    path = write_parquet(tmp_path / "x.parquet", ROWS, compression=compression)
    assert kept(read_source(path)) == EXPECTED
    check(path)


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (
            ["repo_name", "path", "license", "lang"],
            ["o/a", "a.py", "mit", "Python"],
        ),  # CodeParrot, github-code
        (
            ["max_stars_repo_name", "max_stars_repo_path", "max_stars_repo_licenses", "max_stars_count", "lang"],
            ["o/a", "a.py", ["MIT", "Apache-2.0"], 12.0, "Python"],
        ),  # The Stack
        (
            ["repo_name", "path", "detected_licenses", "star_events_count", "language"],
            ["o/a", "a.py", ["MIT"], 12, "Python"],
        ),  # The Stack v2
    ],
    ids=["codeparrot", "the-stack", "the-stack-v2"],
)
@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_columns_of_published_data_sets(tmp_path: Path, ending: str, names: list[str], values: list[Any]) -> None:
    rows = [{"content": "x = 1\n", **dict(zip(names, values, strict=True))}]
    path = (write_parquet if ending == ".parquet" else write_json)(tmp_path / f"x{ending}", rows)
    [file] = read_source(path)
    assert (file.repo, file.path, file.language) == ("o/a", "a.py", "Python")
    assert file.licence == {4: "mit", 5: "Apache-2.0 AND MIT"}.get(len(names), "MIT") if "lang" in names else "MIT"
    assert file.stars == (12 if len(names) == 5 else None)


def test_languages_of_rows_are_the_columns_and_filtered_by(tmp_path: Path) -> None:
    rows = [
        {"content": "1", "path": "a.h", "lang": "C++"},
        {"content": "2", "path": "a.h", "lang": None},
        {"content": "3", "path": None, "lang": "c-sharp"},
        {"content": "#!/usr/bin/env python\n4", "path": None, "lang": None},
        {"content": "5", "path": None, "lang": "Klingon"},
        {"content": "6", "path": "b.py", "lang": None},
    ]
    for path in (write_json(tmp_path / "x.jsonl", rows), write_parquet(tmp_path / "x.parquet", rows)):
        corpus = Corpus(sources=(str(path),), languages=("C++", "C#", "Python"))
        annotator = Annotator(corpus.model_copy(update={"filters": corpus.filters.model_copy(update={"apply": ()})}), 0)
        files = read_source(path, annotator.wants, languages=corpus.languages)
        table, _ = annotator(files)
        found = zip(table["language"].to_pylist(), table["reason"].to_pylist(), strict=True)
        assert list(found) == [
            ("C++", None),
            ("C", "other_language"),
            ("C#", None),
            ("Python", None),
            (None, "other_language"),
            ("Python", None),
        ]


def test_rows_without_a_path_are_called_after_their_place(tmp_path: Path) -> None:
    rows = [{"content": "1"}, {"content": "22"}]
    path = write_json(tmp_path / "x.jsonl", rows)
    assert texts(read_source(path)) == {"x.jsonl/0": b"1", f"x.jsonl/{len(json_rows(rows[:1]))}": b"22"}
    path = write_parquet(tmp_path / "x.parquet", rows, row_group_size=1)
    assert texts(read_source(path)) == {"x.parquet/0": b"1", "x.parquet/1": b"22"}


def test_text_of_a_column_is_not_decoded_as_it_declares(tmp_path: Path) -> None:
    text = "# coding: latin-1\nx = 'é'\n"
    for path in (
        write_json(tmp_path / "x.jsonl", [{"content": text, "path": "a.py"}]),
        write_parquet(tmp_path / "x.parquet", [{"content": text, "path": "a.py"}]),
        write_parquet(tmp_path / "y.parquet", [{"content": text.encode("latin-1"), "path": "a.py"}]),
    ):
        corpus = Corpus(sources=(str(path),))
        _, kept_texts = Annotator(
            corpus.model_copy(update={"filters": corpus.filters.model_copy(update={"apply": ()})}), 0
        )(read_source(path))
        assert list(kept_texts.values()) == [text.encode()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"content": ', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"content": "\xff"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"content": "\\ud800"}', "invalid_json"),
        (b"[1, 2]", "no_content"),
        (b'{"text": "x"}', "no_content"),
        (b'{"content": null}', "no_content"),
        (b'{"content": 3}', "no_content"),
        (b'{"content": "%s"}' % (b"x" * 101), "too_large"),
        (b'{"content": "%s"}' % (b"x" * (2 << 20)), "too_large"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else value,
)
def test_a_bad_line_is_one_drop(tmp_path: Path, line: bytes, reason: str) -> None:
    good = b'{"content": "x", "path": "%d.py"}'
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + good % 1 + b"\r\n\n" + line + b"\n  \n" + good % 2)
    files = read_source(path, max_file_bytes=100)
    assert [file.reason for file in files] == [None, reason, None]
    assert [file.path for file in files if file.reason is None] == ["1.py", "2.py"]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".jsonl.bz2", ".jsonl.xz"])
def test_what_a_truncated_file_holds_counts(tmp_path: Path, ending: str) -> None:
    noise = random.Random(0)
    rows = [{"content": noise.randbytes(5_000).hex(), "path": f"{number}.py"} for number in range(80)]
    path = write_json(tmp_path / f"x{ending}", rows)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    files = read_source(path)
    assert (0 if "bz2" in ending else 12) < len(files) < 80
    assert [file.data for file in files[:-1]] == [row["content"].encode() for row in rows[: len(files) - 1]]
    assert (files[-1].path, files[-1].reason) == (path.name, "damaged")


def test_a_bomb_of_lines_ends_with_one_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codelm.corpus.sources.inflating.FREE_BYTES", 1 << 20)
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"content": "x", "path": "a.py"}\n' + b"0" * (8 << 20)))
    assert texts(read_source(path)) == {"a.py": b"x", path.name: "decompression_bomb"}


def pieces(data: bytes, size: int, start: int) -> Iterator[bytes]:
    for at in range(max(start - 1, 0), len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("data", [b"", b"\n", b"a", b"a\nbb\n\nccccccccc\nd", b"aaaaaaaaaaaaaaaa\nb\n", b"\n\na\n\n"])
def test_every_line_is_in_one_range(data: bytes, step: int, size: int) -> None:
    expected, offset = [], 0
    for text in data.split(b"\n") if not data.endswith(b"\n") else data.split(b"\n")[:-1]:
        expected.append(Line(offset, len(text), text if len(text) <= 5 else None))
        offset += len(text) + 1
    expected = [line for line in expected if line.size or line.offset < len(data)]
    ranges = [(start, min(start + step, len(data))) for start in range(0, len(data), step)]
    found = [line for start, stop in ranges for line in lines(pieces(data, size, start), 5, start, stop)]
    assert found == expected
    assert list(lines(pieces(data, size, 0), 5)) == expected


def test_a_line_of_any_length_takes_little_memory_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    long = 64 << 20
    with path.open("wb") as file:
        file.write(b'{"content": "1", "path": "a.py"}\n{"content": "')
        for _ in range(long >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"content": "2", "path": "b.py"}\n')
    monkeypatch.setattr(json_lines, "SPLIT_BYTES", 4 << 20)
    tracemalloc.start()
    files = read_source(path, max_file_bytes=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(file.data, file.reason) for file in files] == [(b"1", None), (None, "too_large"), (b"2", None)]
    assert files[1].size == long + len('{"content": ""}')
    assert peak < 8 << 20


@pytest.mark.parametrize("split_bytes", [1, 10, 50, 10_000])
def test_the_cut_of_json_lines_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split_bytes: int
) -> None:
    rows = [{"content": "x" * number, "path": f"{number}.py"} for number in range(20)] + [{"content": "no path"}]
    path = write_json(tmp_path / "x.jsonl", rows)
    whole = kept(read_source(path))
    monkeypatch.setattr(json_lines, "SPLIT_BYTES", split_bytes)
    assert kept(read_source(path)) == whole


@pytest.mark.parametrize("split_bytes", [200, 500, 1000])
def test_the_cut_of_parquet_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split_bytes: int) -> None:
    rows = [{"content": "x" * number} for number in range(50)]
    path = write_parquet(tmp_path / "x.parquet", rows, row_group_size=7)
    whole = kept(read_source(path))
    assert [row[0] for row in whole] == [f"x.parquet/{number}" for number in range(50)]
    monkeypatch.setattr(parquet, "SPLIT_BYTES", split_bytes)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 3)
    assert len(list(plan(str(path), Corpus(sources=("x",))))) > 1
    assert kept(read_source(path)) == whole


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_parquet_types_of_content(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"content": pa.array(["é\n", None, "b\n"], pa.string()).cast(kind)}), path)
    files = read_source(path)
    assert [(file.data, file.reason) for file in files] == [
        ("é\n".encode(), None),
        (None, "no_content"),
        (b"b\n", None),
    ]


def test_parquet_text_that_is_not_utf8_is_undecodable(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"x = '\xe9'\n"], pa.binary()).buffers())
    pq.write_table(pa.table({"content": broken, "path": ["a.py"]}), path)
    annotations, _ = Annotator(Corpus(sources=("x",)), 0)(read_source(path))
    assert annotations["reason"].to_pylist() == ["undecodable"]


@pytest.mark.parametrize("as_dictionary", [True, False])
def test_parquet_that_decodes_to_much_more_takes_little_memory(tmp_path: Path, as_dictionary: bool) -> None:
    path, corpus = tmp_path / "x.parquet", Corpus(sources=("x",))
    rows = pa.array(["x" * 100_000]).take(pa.array([0] * 1500, pa.int64()))  # 150 MB
    pq.write_table(pa.table({"content": rows.dictionary_encode() if as_dictionary else rows}), path)
    assert path.stat().st_size < 1 << 20
    [split] = plan(str(path), corpus)
    before, peak, size = pa.total_allocated_bytes(), 0, 0
    for file in read(split, corpus, lambda path: True):
        size += len(file.data or b"")
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert size == 150_000_000
    assert peak < 64 << 20


def test_what_is_no_parquet_is_one_drop_and_told_at_once(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", ROWS)
    data = path.read_bytes()
    for broken in (b"", b"PAR1", data[:-20], b"x" * 1000):
        path.write_bytes(broken)
        assert texts(read_source(path)) == {"x.parquet": "damaged"}
        with pytest.raises(UserError, match=r"x.parquet' cannot be read as its name says"):
            check(path)


def test_a_damaged_page_ends_the_file_with_one_drop(tmp_path: Path) -> None:
    rows = [{"content": f"{number:09d}" * 1000, "path": f"{number}.py"} for number in range(300)]
    path = write_parquet(tmp_path / "x.parquet", rows, row_group_size=100, compression="zstd", use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 300] = b"\xff" * 300
    path.write_bytes(data)
    files = read_source(path)
    assert len(files) == 101
    assert (files[-1].path, files[-1].reason) == ("x.parquet", "damaged")


def test_a_table_without_content_is_told_at_once_with_what_it_has(tmp_path: Path) -> None:
    rows = [{"text": "x", "repo": "o/a"}]
    for path in (write_parquet(tmp_path / "x.parquet", rows), write_json(tmp_path / "x.jsonl.gz", rows)):
        with pytest.raises(UserError, match=r"has no column 'content'; it has 'text', 'repo'. Rename"):
            check(path)
        with pytest.raises(UserError, match=r"has no column 'content'"):
            check(f"{tmp_path}/x*{path.suffix}")
    assert texts(read_source(tmp_path / "x.parquet")) == {"x.parquet": "no_content"}
    numbers = write_parquet(tmp_path / "y.parquet", [{"content": 3}])
    with pytest.raises(UserError, match=r"column 'content' of '.*y.parquet' is int64, not text"):
        check(numbers)


def test_lines_that_are_no_json_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("x = 1\n" * 10)
    with pytest.raises(UserError, match=r"has no line that is a JSON object"):
        check(path)


def test_a_directory_of_tables_is_read_by_a_pattern(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet"):
        write_parquet(tmp_path / name, [{"content": name}])
    assert [file.path for file in read_source(f"{tmp_path}/*.parquet")] == ["a.parquet/0", "b.parquet/0"]


def data_set(directory: Path) -> str:
    directory.mkdir()
    for number in range(3):
        write_json(directory / f"train-{number}.jsonl", [{**row, "repo": f"o/{number}"} for row in ROWS])
    return f"hf://{directory}"


def test_a_data_set_is_streamed_by_the_hubs_own_library(tmp_path: Path) -> None:
    source = data_set(tmp_path / "set")
    check(source)
    assert len(list(plan(source, Corpus(sources=(source,))))) == 3
    assert kept(read_source(source)) == [
        (path, data, f"o/{number}", licence, stars) for number in range(3) for path, data, _, licence, stars in EXPECTED
    ]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_digest_follows_a_files_size_and_time(tmp_path: Path, ending: str) -> None:
    path = (write_parquet if ending == ".parquet" else write_json)(tmp_path / f"x{ending}", ROWS)
    corpus, seen = Corpus(sources=(str(path),)), set()
    for size, time in ((None, 1), (None, 2), (50, 2)):
        if size is not None:
            os.truncate(path, size)
        os.utime(path, ns=(time, time))
        seen |= {source_digest(str(path), corpus) for _ in range(2)}
    assert len(seen) == 3


def test_a_data_sets_digest_follows_its_files(tmp_path: Path) -> None:
    source = data_set(tmp_path / "set")
    corpus = Corpus(sources=(source,))
    before = source_digest(source, corpus)
    assert source_digest(source, corpus) == before
    os.utime(tmp_path / "set" / "train-1.jsonl", ns=(1, 1))
    assert source_digest(source, corpus) != before


def test_data_sets_that_cannot_be_used_are_told_at_once(tmp_path: Path) -> None:
    source = data_set(tmp_path / "set")
    with pytest.raises(UserError, match=r"'spilt' is not one of config, split"):
        check(f"{source}?spilt=train")
    with pytest.raises(UserError, match=r"cannot read 'hf://.*split=test'.*test"):
        check(f"{source}?split=test")
    with pytest.raises(UserError, match=r"cannot read 'hf://.*nowhere'"):
        check(f"hf://{tmp_path}/nowhere")
    other = tmp_path / "other"
    other.mkdir()
    write_json(other / "train.jsonl", [{"text": "x"}])
    with pytest.raises(UserError, match=r"has no column 'content'; it has 'text'"):
        check(f"hf://{other}")
