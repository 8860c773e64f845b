import sysconfig
from pathlib import Path

import pytest

from codelm.corpus.sources import check_source, chunks, list_files, listing, listing_digest, root_of
from codelm.errors import UserError

PYTHON = ("*.py",)


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x = 1\n")


def paths(root: Path, include: tuple[str, ...] = PYTHON) -> list[str]:
    return [file.path for file in list_files(str(root), include)]


def test_lists_files_by_pattern_with_their_sizes(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "a/c.py", "a/d.txt", "__pycache__/e.py", ".git/f.py")
    assert sorted(paths(tmp_path)) == ["a/c.py", "b.py"]
    assert sorted(paths(tmp_path, ("*.txt", "b.*"))) == ["a/d.txt", "b.py"]
    assert {file.size for file in list_files(str(tmp_path), PYTHON)} == {6}


def test_links_are_not_followed_so_loops_end(tmp_path: Path) -> None:
    write(tmp_path, "source/a.py", "outside/secret.py")
    source = tmp_path / "source"
    (source / "loop").symlink_to(source, target_is_directory=True)
    (source / "elsewhere").symlink_to(tmp_path / "outside", target_is_directory=True)
    (source / "link.py").symlink_to(tmp_path / "outside" / "secret.py")
    (source / "dangling.py").symlink_to(tmp_path / "nowhere")
    assert paths(source) == ["a.py"]


def test_only_regular_files_count(tmp_path: Path) -> None:
    import os

    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "directory.py").mkdir()
    assert paths(tmp_path) == ["a.py"]


def test_a_name_that_is_not_utf8_is_listed_with_escapes(tmp_path: Path) -> None:
    import os

    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.py"), "w") as file:
        file.write("x = 1\n")
    assert paths(tmp_path) == [r"caf\xe9.py"]
    assert listing([str(tmp_path)], PYTHON)["path"].to_pylist() == [r"caf\xe9.py"]


def test_stdlib_is_the_interpreters_without_installed_packages() -> None:
    root = Path(sysconfig.get_paths()["stdlib"])
    assert root_of("stdlib") == root
    found = [file.path for file in list_files("stdlib", PYTHON)]
    assert {"json/decoder.py", "ast.py"} <= set(found)
    assert not [path for path in found if "site-packages" in path or "__pycache__" in path]
    expected = [
        path
        for path in root.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.relative_to(root).parts)
    ]
    assert len(found) == len(expected)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus.sources: '.*nowhere' does not exist. Name a directory"):
        check_source(str(tmp_path / "nowhere"), PYTHON)


def test_a_source_that_is_a_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    with pytest.raises(UserError, match=r"a.py' is not a directory"):
        check_source(str(tmp_path / "a.py"), PYTHON)


def test_an_empty_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is empty. Put source files there"):
        check_source(str(tmp_path), PYTHON)


def test_a_source_without_a_usable_file_is_named_with_the_patterns(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    with pytest.raises(UserError, match=r"no file that matches corpus.include = \['\*.py'\]"):
        check_source(str(tmp_path), PYTHON)


def test_the_digest_follows_size_and_time_but_not_the_order(tmp_path: Path) -> None:
    import os

    write(tmp_path, "a.py", "b.py")
    before = listing_digest(str(tmp_path), PYTHON)
    assert listing_digest(str(tmp_path), PYTHON) == before
    os.utime(tmp_path / "a.py", ns=(1, 1))
    touched = listing_digest(str(tmp_path), PYTHON)
    assert touched != before
    (tmp_path / "b.py").write_text("x = 22\n")
    assert listing_digest(str(tmp_path), PYTHON) != touched


def test_listing_follows_the_config_then_the_paths(tmp_path: Path) -> None:
    write(tmp_path, "two/a.py", "one/z.py", "one/b/a.py")
    two, one = str(tmp_path / "two"), str(tmp_path / "one")
    table = listing([two, one], PYTHON)
    assert table.select(["index", "source", "path"]).to_pylist() == [
        {"index": 0, "source": two, "path": "a.py"},
        {"index": 1, "source": one, "path": "b/a.py"},
        {"index": 2, "source": one, "path": "z.py"},
    ]


@pytest.mark.parametrize("chunk_bytes", [1, 6, 7, 13, 1000])
def test_chunks_are_consecutive_and_whole(tmp_path: Path, chunk_bytes: int) -> None:
    write(tmp_path, *(f"{number}.py" for number in range(9)))
    parts = chunks(listing([str(tmp_path)], PYTHON), chunk_bytes)
    assert [row for part in parts for row in part["index"].to_pylist()] == list(range(9))
    assert all(len(part) for part in parts)
