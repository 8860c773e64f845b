"""Sources: what the items of `corpus.sources` name, listed as splits and read as files.

An item is a path or a URI (`s3://`, `gs://`), with or without a pattern (`*`, `?` on local disks, `[...]`, `**`), or
`stdlib`, or a data set `hf://user/name`. What it names is taken for

- a directory: its files, at any depth, that `corpus.include` names. A directory with `.git` is a repository, called as
  its remote; files outside of one belong to the repository called as the directory that the item names. So
  `clones` is one repository but for the checkouts in it, and `clones/*` has one for each directory. Archives and
  tables in a directory are not opened: name them by a pattern, `downloads/*.tar.gz`;
- `.tar`, `.tar.gz`, `.tgz`, `.tar.bz2`, `.tar.xz`, `.tar.zst`, `.zip`, `.whl`, `.egg`: the archive's files that
  `corpus.include` names. The repository is the project's name for wheels and source distributions, else the
  archive's;
- `.jsonl`, `.ndjson` or `.json` (one object a line), plain or `.gz`, `.bz2`, `.xz`, `.zst`, and `.parquet`: a row a
  file, with its text in `content`. Other columns that count: `rows.COLUMNS`;
- anything else: one file.

Links in directories, patterns and archives are not followed.
"""

from collections.abc import Iterator
from itertools import islice
from types import ModuleType

from codelm.config import Corpus
from codelm.corpus.reading import UNREADABLE
from codelm.corpus.source_file import SourceFile, Split
from codelm.corpus.sources import directories, hub, json_lines, parquet, tars, zips
from codelm.corpus.sources.inflating import Unusable
from codelm.corpus.sources.kinds import container
from codelm.corpus.sources.places import STDLIB, Place, named_by
from codelm.corpus.sources.selecting import Wanted, is_included
from codelm.errors import UserError

__all__ = ["STDLIB", "check_source", "plan", "read"]

CONTAINERS: dict[str, ModuleType] = {"tar": tars, "zip": zips, "jsonl": json_lines, "parquet": parquet}
"""For each of `kinds.KINDS` a module with `plan(source, place, corpus)`, `read(split, corpus, wanted)` and
`check(place)`."""
READERS: dict[str, ModuleType] = {**CONTAINERS, directories.KIND: directories, hub.KIND: hub}
CHECKED = 16
"""Archives and tables of an item that are looked into before anything starts."""


def plan(source: str, corpus: Corpus) -> Iterator[Split]:
    """A source's splits in one order on every machine, as they are listed; files are not opened for it.

    Raises:
        UserError: the source does not exist, or something in it cannot be listed.
    """
    if source.startswith(hub.SCHEME):
        yield from hub.plan_dataset(source)
        return
    for place in named_by(source):
        yield from _reader(place).plan(source, place, corpus)


def read(split: Split, corpus: Corpus, wanted: Wanted) -> Iterator[SourceFile]:
    """The files of a split, in one order on every machine; bytes of a few in memory.

    What is left of an archive or table that cannot be read on is one file without content, with the reason.

    Args:
        split: what to read.
        corpus: the section of the config.
        wanted: files whose path it refuses are not read (`SourceFile`).

    Raises:
        UserError: an object store or the Hub fails.
    """
    given = 0
    try:
        for file in READERS[split.kind].read(split, corpus, wanted):
            given += 1
            yield file
    except Unusable as error:
        yield _rest(split, error.reason, given)
    except OSError:
        yield _rest(split, UNREADABLE, given)


def _rest(split: Split, reason: str, given: int) -> SourceFile:
    _, _, label, *_ = split.location
    return SourceFile(split.source, label, 0 if given else split.size, split.stamp, None, reason)


def check_source(source: str, corpus: Corpus) -> None:
    """Raise UserError unless a source can be read; looks at the first of what it names."""
    if source.startswith(hub.SCHEME):
        hub.check_dataset(source)
        return
    for place in islice(named_by(source), CHECKED):
        reader = _reader(place)
        if reader is not directories:
            try:
                reader.check(place)
            except (Unusable, OSError) as error:
                raise UserError(
                    f"corpus.sources: {place.path!r} cannot be read as its name says ({error}). "
                    "Leave it out, or name another source."
                ) from error
    for split in plan(source, corpus):
        if split.entries is None or any(is_included(entry.path, corpus.include) for entry in split.entries):
            return
    raise UserError(
        f"corpus.sources: {source!r} has no file that matches corpus.include = {list(corpus.include)}. "
        "Name another source, or set corpus.include to patterns of its file names; archives and tables in a "
        "directory are read if a pattern names them, such as '*.tar.gz'."
    )


def _reader(place: Place) -> ModuleType:
    return directories if place.is_directory else CONTAINERS.get(container(place.name).kind, directories)
