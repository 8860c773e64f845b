"""The corpus that another one extends: found, compared, and its annotations taken over."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codelm.corpus.index import FILES_NAME, INDEX, REDACTED_NAME, Known, placed
from codelm.corpus.licences import EVIDENCE
from codelm.corpus.opt_out import OPTED_OUT, OptOuts
from codelm.corpus.reading import UNREADABLE
from codelm.corpus.text_store import BASE, PLACES
from codelm.errors import UserError
from codelm.run_dir import Manifest, RunDir, flatten

FREE = frozenset({"sources", "shards", "keep_index", "extends", "opt_out", "licences"})
"""Keys of the section `corpus` that may differ: they decide nothing about what a file's content says."""
OPT_OUT_INPUT = "opt-out list"
FORGOTTEN = ("licence", "attribution", "declares", "id", "text_bytes")
"""What is not known of a file that opted out."""


@dataclass(frozen=True)
class Base:
    """A published corpus with an index.

    Attributes:
        run_dir: the run that it is in.
        directory: its path there.
        manifest: how it was made.
    """

    run_dir: RunDir
    directory: str
    manifest: Manifest

    @property
    def path(self) -> str:
        """Where it is, in terms of the run's file system."""
        return self.run_dir.path(self.directory)

    def names(self, start: str) -> list[str]:
        """Its files that begin so, in order."""
        return sorted(name for name in self.manifest.files if name.startswith(start))

    @property
    def shards(self) -> tuple[str, ...]:
        """Its shards as a store calls them."""
        return tuple(f"{BASE}{name}" for name in self.names("data/"))

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One of its Parquet files."""
        with self.run_dir.fs.open_input_file(f"{self.path}/{name}") as file:
            return pq.read_table(file, columns=columns)

    @cached_property
    def kept(self) -> pa.Array:
        """The ids of its documents."""
        return pa.concat_tables([self.table(name, ["id"]) for name in self.names("data/")])["id"].combine_chunks()

    def redacted(self) -> pa.Table:
        """Its `REDACTED` rows."""
        return self.table(REDACTED_NAME)

    def files(self) -> pa.Table:
        """Annotations of all its files, with the `PLACES` of the sets of texts that passed."""
        texts = []
        for name in self.names(f"{INDEX}/texts-"):
            part = self.table(name, ["id", "offset", "length"])
            block = BASE + name.replace("texts-", "sets-").replace(".parquet", ".bin")
            texts.append(part.append_column("block", pa.array([block] * len(part), pa.large_string())))
        return placed(self.table(FILES_NAME), pa.concat_tables(texts))


def open_base(uri: str) -> Base:
    """The corpus at a path or URI: a run directory, or the directory of the corpus in it.

    Raises:
        UserError: there is none, or it has no index.
    """
    parent, _, name = uri.rstrip("/").rpartition("/")
    for run_dir, directory in ((RunDir(uri), "corpus"), (RunDir(parent or "."), name)):
        manifest = run_dir.manifest(directory)
        if manifest is None or manifest.stage != "corpus":
            continue
        if FILES_NAME not in manifest.files:
            raise UserError(
                f"corpus.extends: the corpus in {uri!r} has no index. Make it with corpus.keep_index=true, "
                "or leave corpus.extends out to read all files again."
            )
        return Base(run_dir, directory, manifest)
    raise UserError(f"corpus.extends: no finished corpus in {uri!r}. Name a run directory, or leave it out.")


def check_base(base: Base, config: dict[str, Any], inputs: dict[str, str], version: str) -> None:
    """Raise UserError, with the differences, if annotations of the base are not those that would be made now.

    Args:
        base: the corpus that is extended.
        config: what decides the corpus that is to be made (`Stage.config`).
        inputs: digests of benchmarks and of the filter's tokenizer, by name.
        version: of codelm.
    """
    have, want = flatten(base.manifest.config), flatten(config)
    free = tuple(f"corpus.{key}" for key in FREE)
    lines = [
        f"{key}: {have.get(key)!r} there, {want.get(key)!r} asked for"
        for key in sorted(have.keys() | want.keys())
        if key not in free and have.get(key) != want.get(key)
    ]
    there = {
        name: value for name, value in base.manifest.inputs.items() if not name.startswith(("source ", OPT_OUT_INPUT))
    }
    lines += [
        f"{name} is another" for name in sorted(there.keys() | inputs.keys()) if there.get(name) != inputs.get(name)
    ]
    made_by = base.manifest.facts.get("codelm")
    if made_by != version:
        lines.append(f"it was made by codelm {made_by}, this is {version}")
    if lines:
        found = "\n".join(f"  {line}" for line in lines)
        raise UserError(
            f"corpus.extends: {base.path} was made in another way:\n{found}\n"
            "Make these equal, or leave corpus.extends out to read all files again."
        )


def known(files: pa.Table, same_list: bool) -> Known:
    """The stamps of what need not be read again.

    What could not be read may be readable now. What opted out left nothing behind: it is read again, where the list is
    another one.

    Args:
        files: annotations of the base's files.
        same_list: whether the opt-out list is the base's.
    """
    gone = [UNREADABLE] if same_list else [UNREADABLE, OPTED_OUT]
    stamps = pc.unique(files["stamp"].filter(pc.is_in(files["reason"], pa.array(gone))))
    return Known.of(files["stamp"].filter(pc.invert(pc.is_in(files["stamp"], stamps))))


def reused(files: pa.Table, stamps: list[str], opt_outs: OptOuts | None) -> pa.Table:
    """The files with these stamps; those that the list names now are opted out.

    Args:
        files: annotations of the base's files.
        stamps: of what has not changed.
        opt_outs: the list; None where there is none, or where it is the base's.
    """
    files = files.filter(pc.is_in(files["stamp"], pa.array(stamps, pa.large_string())))
    if opt_outs is None or not len(files):
        return files
    columns = (files[name].to_pylist() for name in ("repo", "source", "path", "sha256", "id", "reason"))
    lines = [
        None if reason == EVIDENCE else opt_outs.line(repo or source, path, None, content_id, sha256)
        for repo, source, path, sha256, content_id, reason in zip(*columns, strict=True)
    ]
    opted_out = pa.array([line is not None for line in lines])
    values = {"reason": pa.scalar(OPTED_OUT), "witness": pa.array([f"line {line}" for line in lines])}
    for name in files.column_names:
        if name in values or name in FORGOTTEN or name in PLACES.names:
            value = values.get(name, pa.scalar(None, files.schema.field(name).type))
            column = pc.if_else(opted_out, value, files[name])
            files = files.set_column(files.schema.get_field_index(name), name, column)
    return files
