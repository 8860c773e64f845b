"""Which licence a file is under, and what says so.

The evidence of a repository are its licence files (`LICENSE`, `COPYING`, ...), told by their text, and its packages'
metadata. Evidence counts for its directory and all below it that have none nearer. A file's own SPDX header counts
more than all else, a licence that the source tells (a column of its table) more than the evidence.

Within one directory all evidence counts together (`AND`): that errs on the side of too many licences, where a licence
file holds the texts of bundled parts too. Only where metadata give a choice (`MIT OR Apache-2.0`) that includes
every licence found in texts, the choice counts.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from licenseclassifier import identify_license

from codelm.corpus import spdx
from codelm.corpus.languages import language_by_name
from codelm.corpus.package_metadata import METADATA, metadata_licence

LICENCE_NAME = re.compile(r"(?:^|[-_.])(?:(?:un)?licen[sc]e|copying|copyright)(?:$|[-_.])")
PROSE = frozenset({None, "Text", "Markdown", "reStructuredText", "HTML"})
"""Languages of licence files: `License.java` is code."""
LICENCE_DIRECTORIES = frozenset({"licenses", "licences"})
"""`LICENSES/MIT.txt`, as REUSE has it; what lies in such a directory counts for the directory above."""
PACKAGE_INFO = (".dist-info", ".egg-info")
RECORD = ".dist-info/RECORD"
PACKAGE_DEPTH = 3
"""Packages of several distributions lie side by side in one namespace, hardly ever deeper."""
LARGEST_EVIDENCE = 1 << 17
"""Characters of a licence file that are looked at, at about 1 MB/s; the longest licences have 40,000."""
TEXTS_REMEMBERED = 256
"""Licence files whose licence a process remembers: a quarter of them are copies."""
MIN_MATCH = 40
"""Characters of a licence file that a match is to have: shorter ones are names in passing."""

HEADER, COLUMN = "header", "column"
"""Attributions that are no path: the file's own SPDX header, and what the source told."""
NOT_PERMISSIVE, NO_LICENCE = "not_permissive", "no_licence"
EVIDENCE = "evidence"
"""The reason of files that are read for what they say alone, and are no part of the corpus."""


NUL = pa.scalar("\0", pa.large_string())
"""Between the parts of a name that are no path."""


@dataclass(frozen=True)
class Declaration:
    """What one file of a repository says about licences: `path` is its path, `expression` in SPDX.

    That of an `extent`, a wheel's RECORD, has the directories of the wheel's packages, between `|`.
    """

    path: str
    expression: str
    kind: Literal["text", "metadata", "extent"]

    @property
    def said(self) -> str:
        """What it says, as one text; `Declaration.heard` reads it."""
        return f"{self.kind} {self.expression}"

    @classmethod
    def heard(cls, path: str, said: str) -> "Declaration":
        """The declaration of the file at `path` that `said` this."""
        told, _, expression = said.partition(" ")
        kind: Literal["text", "metadata", "extent"] = "text" if told == "text" else "metadata"
        return cls(path, expression, "extent" if told == "extent" else kind)

    @property
    def directory(self) -> str:
        """The directory that it counts for; "" is the repository's root.

        What `name-1.0.dist-info/` or `name.egg-info/` says counts for the package beside it, `name/`, and where there
        is a RECORD for the packages that it lists (`Licences`).
        """
        directory = PurePosixPath(self.path).parent
        while directory.name.lower() in LICENCE_DIRECTORIES:
            directory = directory.parent
        if directory.name.endswith(PACKAGE_INFO):
            directory = directory.parent / directory.stem.partition("-")[0].lower()
        return "" if str(directory) == "." else str(directory)


def is_evidence(path: str) -> bool:
    """Whether a file, by its name, may tell a licence. `LICENSE-MIT, src/COPYING.txt, package.json -> True`"""
    return METADATA.fullmatch(path, path.rfind("/") + 1) is not None or path.endswith(RECORD) or _is_licence_file(path)


def _is_licence_file(path: str) -> bool:
    directory, _, name = path.lower().rpartition("/")
    if directory.rpartition("/")[2] not in LICENCE_DIRECTORIES and not LICENCE_NAME.search(name):
        return False
    return language_by_name(path) in PROSE


def declared(path: str, text: str) -> Declaration | None:
    """What a file that `is_evidence` says; None where it says nothing. A licence file of no known text is `UNKNOWN`."""
    if path.endswith(RECORD):
        listed = _packages(text)
        return Declaration(path, "|".join(listed), "extent") if listed else None
    if not _is_licence_file(path):
        found = metadata_licence(PurePosixPath(path).name, text, licence_of_text)
        return None if found is None else Declaration(path, found, "metadata")
    return Declaration(path, spdx.header(text) or licence_of_text(text) or spdx.UNKNOWN, "text")


def _packages(record: str) -> list[str]:
    """The directories with Python files in a wheel's RECORD, and those above them, down to `PACKAGE_DEPTH`."""
    found = set()
    for line in record.splitlines():
        path = line.partition(",")[0]
        parts = path.split("/")[:-1]
        if path.endswith(".py") and ".." not in parts:
            found |= {"/".join(parts[:depth]) for depth in range(1, min(len(parts), PACKAGE_DEPTH) + 1)}
    return sorted(found)


def licence_of_text(text: str) -> str | None:
    """The licences whose texts make up a licence file, all together.

    A match need not cover the file: names of holders and notices of parts stand around it.
    """
    return _licence_of(text[:LARGEST_EVIDENCE])


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _licence_of(text: str) -> str | None:
    matches = identify_license(text, coverage_threshold=0)
    found = [match.id for match in matches if match.end - match.start >= MIN_MATCH]
    return spdx.every(*(spdx.expression(name) for name in found)) or spdx.named(text)


class Licences:
    """Looks up the licence of a path in a repository.

    Args:
        declarations: pairs of a repository and what one of its files says.
    """

    def __init__(self, declarations: Iterable[tuple[str, Declaration]]) -> None:
        held: dict[tuple[str, str], list[Declaration]] = {}
        infos: dict[tuple[str, str], list[Declaration]] = {}
        claims: dict[tuple[str, str], set[str]] = {}
        for repository, declaration in declarations:
            start, is_info, _ = declaration.path.partition(".dist-info/")
            if declaration.kind == "extent":
                beside = start.rpartition("/")
                for package in declaration.expression.split("|"):
                    claims.setdefault((repository, f"{beside[0]}{beside[1]}{package}"), set()).add(start)
                continue
            held.setdefault((repository, declaration.directory), []).append(declaration)
            if is_info:
                infos.setdefault((repository, start), []).append(declaration)
        for (repository, package), claimed in claims.items():
            own = infos.get((repository, min(claimed)))
            if len(claimed) == 1 and own is not None:
                held.setdefault((repository, package), own)
        self._held = {place: _combined(found) for place, found in held.items()}

    def of(self, repository: str, path: str) -> tuple[str | None, str | None]:
        """The licence of a file by the nearest evidence above it, and that evidence's path; None where none is."""
        directory = path.rpartition("/")[0]
        while (found := self._held.get((repository, directory))) is None:
            if not directory:
                return None, None
            directory = directory.rpartition("/")[0]
        return found


def _combined(declarations: list[Declaration]) -> tuple[str, str]:
    """The licence of a directory, and the path of the first that says so.

    Unknown texts count only where nothing is known: such files often name the ones beside them.
    """
    declarations = [item for item in declarations if item.expression != spdx.UNKNOWN] or declarations
    declarations = sorted(declarations, key=lambda item: (item.kind != "text", item.path))
    found = frozenset[str]().union(*(spdx.keys(item.expression) for item in declarations if item.kind == "text"))
    for item in declarations:
        if item.kind == "metadata" and " OR " in item.expression and found <= spdx.keys(item.expression):
            return item.expression, item.path
    return str(spdx.every(*(item.expression for item in declarations))), declarations[0].path


def refusal(licence: str | None) -> str | None:
    """Why a file under this licence is dropped where only permissive ones are wanted; None where it stays.

    A file without a known licence is dropped: without a licence all rights are reserved.
    """
    if licence is None:
        return NO_LICENCE
    return None if spdx.is_permissive(licence) else NOT_PERMISSIVE


def assigned(files: pa.Table, permissive: bool) -> pa.Table:
    """Give each file the licence of the nearest evidence, unless its header or its source told one.

    Args:
        files: annotations (`annotate.ANNOTATIONS`) of all files.
        permissive: drop the files whose licence is not.

    Returns:
        The files without those of `EVIDENCE` alone and without the column `declares`.
    """
    said = files.filter(pc.is_valid(files["declares"]))
    licences = Licences(
        (repository, Declaration.heard(path, text))
        for repository, path, text in zip(
            _repositories(said).to_pylist(), said["path"].to_pylist(), said["declares"].to_pylist(), strict=True
        )
    )
    files = files.filter(pc.fill_null(pc.not_equal(files["reason"], EVIDENCE), True)).drop_columns("declares")
    directories = pc.replace_substring_regex(files["path"], "[^/]*$", "")
    places = pc.binary_join_element_wise(_repositories(files), directories, NUL).combine_chunks().dictionary_encode()
    found = [licences.of(*place.rsplit("\0", 1)) for place in places.dictionary.to_pylist()]
    by_evidence = [pa.array([item[part] for item in found], pa.large_string()).take(places.indices) for part in (0, 1)]
    told = files["licence"]
    files = _with(files, "licence", pc.coalesce(told, by_evidence[0]))
    files = _with(files, "attribution", pc.if_else(pc.is_valid(told), files["attribution"], by_evidence[1]))
    return _only_permissive(files) if permissive else files


def _only_permissive(files: pa.Table) -> pa.Table:
    """Drop, of the files that passed so far, those under other licences; the licence is the witness."""
    licence = pc.fill_null(files["licence"], "").combine_chunks().dictionary_encode()
    refused = pa.array([refusal(value or None) for value in licence.dictionary.to_pylist()], pa.large_string())
    late = pc.if_else(pc.is_null(files["reason"]), refused.take(licence.indices), pa.scalar(None, pa.large_string()))
    files = _with(files, "witness", pc.if_else(pc.is_valid(late), files["licence"], files["witness"]))
    return _with(files, "reason", pc.coalesce(files["reason"], late))


def _repositories(files: pa.Table) -> pa.ChunkedArray:
    """Source and repository as one name."""
    return pc.binary_join_element_wise(files["source"], pc.fill_null(files["repo"], ""), NUL)


def _with(files: pa.Table, name: str, column: pa.ChunkedArray | pa.Array) -> pa.Table:
    return files.set_column(files.schema.get_field_index(name), name, column)
