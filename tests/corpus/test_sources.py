"""Directories as sources, what an item of the config names, and what is refused at once."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from codelm.config import Corpus
from codelm.corpus.source_file import SourceFile
from codelm.corpus.sources import check_source, directories, listing, plan, read
from codelm.corpus.sources.names import raw, remote_repository, shown
from codelm.errors import UserError
from tests.corpus.source_reading import read_source, source_digest, texts, write


def paths(source: Path | str, **settings: object) -> list[str]:
    return [file.path for file in read_source(source, **settings)]


def check(source: Path | str) -> None:
    check_source(str(source), Corpus(sources=(str(source),)))


def digest(source: Path) -> str:
    return source_digest(str(source), Corpus(sources=(str(source),)))


def test_reads_the_files_that_match_a_pattern(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "a/c.py", "a/d.txt", "__pycache__/e.py", ".git/f.py")
    assert texts(read_source(tmp_path)) == {"b.py": b"x = 1\n", "a/c.py": b"x = 1\n"}
    assert paths(tmp_path, include=("*.txt", "b.*")) == ["b.py", "a/d.txt"]
    assert {file.size for file in read_source(tmp_path)} == {6}


def test_links_are_not_followed_so_loops_end(tmp_path: Path) -> None:
    write(tmp_path, "source/a.py", "outside/secret.py")
    source = tmp_path / "source"
    (source / "loop").symlink_to(source, target_is_directory=True)
    (source / "elsewhere").symlink_to(tmp_path / "outside", target_is_directory=True)
    (source / "link.py").symlink_to(tmp_path / "outside" / "secret.py")
    (source / "dangling.py").symlink_to(tmp_path / "nowhere")
    assert paths(source) == ["a.py"]
    assert paths(f"{source}/*") == ["a.py"]
    assert paths(f"{source}/**/*.py") == ["a.py"]


def test_only_regular_files_count(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "directory.py").mkdir()
    assert paths(tmp_path) == ["a.py"]


NAMES = [b"caf\xe9.py", rb"caf\xe9.py", b"caf\xc3\xa9.py", b"line\nend.py", rb"back\slash.py", b"\xff\\.py"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_path_as_text_tells_its_bytes(name: bytes) -> None:
    assert raw(shown(name)) == name
    shown(name).encode()


def test_files_whose_names_are_not_utf8_are_read(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        with open(os.path.join(os.fsencode(tmp_path), name), "w") as file:
            file.write(f"{number}")
    found = texts(read_source(tmp_path))
    assert found == {shown(name): f"{number}".encode() for number, name in enumerate(NAMES)}
    assert r"caf\xe9.py" in found


def test_a_file_that_is_gone_or_has_become_a_link_or_grown_is_told_so(tmp_path: Path) -> None:
    write(tmp_path, "source/gone.py", "source/grown.py", "source/link.py", "source/larger.py", "outside.py")
    source, corpus = tmp_path / "source", Corpus(sources=("x",), max_file_bytes=10)
    [split] = plan(str(source), corpus)
    (source / "gone.py").unlink()
    (source / "grown.py").write_text("x = 10\n")
    (source / "larger.py").write_text("x = 1000000\n")
    (source / "link.py").unlink()
    (source / "link.py").symlink_to(tmp_path / "outside.py")
    assert texts(list(read(split, corpus, lambda path: True))) == {
        "gone.py": "unreadable",
        "grown.py": b"x = 10\n",
        "larger.py": "too_large",
        "link.py": "unreadable",
    }


def test_what_is_too_large_or_not_wanted_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.py", "b.js")
    write(tmp_path, "large.py", text="x" * 11)
    write(tmp_path, "just.py", text="x" * 10)
    opened: list[bytes] = []
    real = directories.read_local
    monkeypatch.setattr(directories, "read_local", lambda path, *rest: opened.append(path) or real(path, *rest))
    files = read_source(tmp_path, lambda path: path.endswith(".py"), include=("*",), max_file_bytes=10)
    assert [(file.path, file.data, file.reason) for file in files] == [
        ("a.py", b"x = 1\n", None),
        ("b.js", None, None),
        ("just.py", b"x" * 10, None),
        ("large.py", None, "too_large"),
    ]
    assert opened == [os.fsencode(tmp_path / name) for name in ("a.py", "just.py")]


def test_evidence_of_licences_is_read_but_is_no_file_of_the_corpus(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "LICENSE", "sub/COPYING.txt", "notes.txt")
    found = {(file.path, file.evidence) for file in read_source(tmp_path)}
    assert found == {("a.py", False), ("LICENSE", True), ("sub/COPYING.txt", True)}
    # Asked for by `include`, it is one; refused for its language, it is that and evidence as well.
    found = {(file.path, file.evidence) for file in read_source(tmp_path, include=("*",))}
    assert ("LICENSE", False) in found
    assert ("LICENSE", True) not in found
    refused = read_source(tmp_path, lambda path: path.endswith(".py"), include=("*",))
    licence = [file for file in refused if file.path == "LICENSE"]
    assert [(file.evidence, file.data) for file in licence] == [(False, None), (True, b"x = 1\n")]


def test_repositories_are_checkouts_and_else_the_directory(tmp_path: Path) -> None:
    source = tmp_path / "clones"
    write(source, "a.py", "one/src/b.py", "two/c.py", "two/vendor/d.py", "worktree/e.py")
    for name in ("one", "two", "two/vendor"):
        subprocess.run(["git", "init", "-q", source / name], check=True)
    remote = "https://user:secret@example.com/owner/one.git"
    subprocess.run(["git", "-C", source / "one", "remote", "add", "origin", remote], check=True)
    (source / "worktree" / ".git").write_text("gitdb: ../elsewhere\n")
    assert {file.path: file.repo for file in read_source(source)} == {
        "a.py": "clones",
        "one/src/b.py": "owner/one",
        "two/c.py": "two",
        "two/vendor/d.py": "vendor",
        "worktree/e.py": "worktree",
    }


def test_a_pattern_makes_each_directory_a_repository(tmp_path: Path) -> None:
    write(tmp_path, "installed/one/a.py", "installed/two/sub/b.py", "installed/three.py")
    files = read_source(f"{tmp_path}/installed/*")
    assert {file.path: file.repo for file in files} == {
        "one/a.py": "one",
        "two/sub/b.py": "two",
        "three.py": None,
    }
    assert all(file.data == b"x = 1\n" for file in files)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/owner/name.git", "owner/name"),
        ("https://user:token@host/owner/name/", "owner/name"),
        ("git@github.com:owner/name.git", "owner/name"),
        ("ssh://git@host:22/group/sub/name", "group/sub/name"),
        ("../name.git", "name"),
        ("/srv/git/name.git", "name"),
        ("file:///srv/git/name", "name"),
        ("", None),
    ],
)
def test_remotes(url: str, name: str | None) -> None:
    assert remote_repository(url) == name


def test_stdlib_is_the_interpreters_without_installed_packages() -> None:
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [
        entry.path
        for split in plan("stdlib", Corpus(sources=("stdlib",)))
        for entry in split.entries or ()
        if entry.path.endswith(".py")
    ]
    expected = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.relative_to(root).parts)
    ]
    assert sorted(found) == sorted(expected)
    assert {"json/decoder.py", "ast.py"} <= set(found)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus.sources: '.*nowhere' does not exist. Name a directory"):
        check(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"corpus.sources: '.*\*.tar' does not exist"):
        check(tmp_path / "*.tar")


def test_a_source_without_a_usable_file_is_named_with_the_patterns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file that matches corpus.include = \['\*.py'\]"):
        check(tmp_path)
    write(tmp_path, "a.txt")
    with pytest.raises(UserError, match=r"no file that matches corpus.include = \['\*.py'\]"):
        check(tmp_path)
    write(tmp_path, "LICENSE")
    with pytest.raises(UserError, match=r"archives and tables in a directory are read if a pattern names them"):
        check(tmp_path)


def test_the_digest_follows_size_time_and_repository(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, "a.py", "b.py")
    seen = [digest(source)]
    assert digest(source) == seen[0]
    os.utime(source / "a.py", ns=(1, 1))
    seen.append(digest(source))
    (source / "b.py").write_text("x = 22\n")
    seen.append(digest(source))
    (source / ".git").mkdir()
    (source / ".git" / "config").write_text('[remote "origin"]\n\turl = https://host/owner/name.git\n')
    seen.append(digest(source))
    assert len(set(seen)) == 4


def test_the_order_is_by_name_files_before_directories(tmp_path: Path) -> None:
    write(tmp_path, "z.py", "a/b.py", "b.py", "a/a/c.py", "a.py")
    assert paths(tmp_path) == ["a.py", "b.py", "z.py", "a/b.py", "a/a/c.py"]


@pytest.mark.parametrize("many", [1, 2, 3, 7, 1000])
def test_however_names_are_kept_they_are_sorted(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(listing, "MANY", many)
    given = ["b", "é", "a", "Z", "a1", "\udce9", "c"]
    names = listing.Names()
    for name in given:
        names.add(name)
    assert list(names) == sorted(given)


@pytest.mark.parametrize(("most_bytes", "most_files"), [(1, 512), (13, 512), (1 << 20, 1), (1 << 20, 4)])
def test_the_cut_into_splits_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int, most_files: int
) -> None:
    write(tmp_path, *(f"{number % 3}/{number}.py" for number in range(20)))
    whole = read_source(tmp_path)
    monkeypatch.setattr(directories, "SPLIT_BYTES", most_bytes)
    monkeypatch.setattr(directories, "SPLIT_FILES", most_files)
    splits = list(plan(str(tmp_path), Corpus(sources=("x",))))
    assert len(splits) > 4
    assert all(len(split.entries or ()) <= most_files for split in splits)
    assert read_source(tmp_path) == whole


def test_a_directory_deeper_than_the_call_stack_is_walked(tmp_path: Path) -> None:
    inside = "d/" * 1200
    subprocess.run(["mkdir", "-p", f"{tmp_path}/{inside}"], check=True)
    with open(f"{tmp_path}/{inside}a.py", "w") as file:
        file.write("x = 1\n")
    assert paths(tmp_path) == [f"{inside}a.py"]
    subprocess.run(["rm", "-r", f"{tmp_path}/d"], check=True)


def test_files_of_a_split_have_the_stamps_of_its_entries(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.py")
    [split] = plan(str(tmp_path), Corpus(sources=("x",)))
    files: list[SourceFile] = read_source(tmp_path)
    assert [file.stamp for file in files] == [entry.stamp(str(tmp_path)) for entry in split.entries or ()]
    assert len({file.stamp for file in files}) == 2
