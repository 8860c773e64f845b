"""The run directory: finished stages, each published whole, with a manifest that says how it was made.

A stage writes in `<run>/.work/<stage>` and is published by one rename to `<run>/<stage>`. On an object
store, which cannot rename a directory, it writes in place and its manifest is written last. Either way
a directory without a manifest is unfinished, and nothing reads it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
from filelock import FileLock, Timeout

from codelm.errors import UserError
from codelm.object_store import FEW_RETRIES, PatientS3

MANIFEST = "manifest.json"
WORK = ".work"

DIRECTORIES = {
    "corpus": "corpus",
    "tokenizer": "tokenizer",
    "pack": "packed",
    "pretrain": "pretrain",
    "export": "model",
    "examples": "examples",
    "finetune": "finetuned",
    "sweep": "sweep",
    "evaluate": "evaluation",
    "endpoint": "endpoint",
}
"""Stage -> where its result is published in the run directory, in the order of the data."""


def digest_of(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form (sorted keys, no blanks)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """How a published stage was made, and what is in it.

    Attributes:
        stage: the stage's name.
        config: the part of the config that decides the result.
        inputs: for each input, the digest of its content.
        files: for each file of the stage (relative path), its SHA-256.
        metrics: what the stage found out; the summary is made of these.
        facts: circumstances that may differ between equal results (seconds, versions, MLflow run).
    """

    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """What the stage was asked to do: equal fingerprints mean that it need not run again."""
        return digest_of({"stage": self.stage, "config": self.config, "inputs": self.inputs})

    @property
    def content(self) -> str:
        """What the stage produced: the digest that later stages name as their input."""
        return digest_of(self.files)

    def differences(self, wanted: "Manifest") -> list[str]:
        """Say, a line each, what `wanted` asks for that this manifest does not hold.

        Example: `training.steps: 300 there, 400 asked for`.
        """
        lines = []
        have, want = flatten(self.config), flatten(wanted.config)
        for key in sorted(have.keys() | want.keys()):
            if have.get(key) != want.get(key):
                lines.append(f"{key}: {have.get(key)!r} there, {want.get(key)!r} asked for")
        for name in sorted(self.inputs.keys() | wanted.inputs.keys()):
            if self.inputs.get(name) != wanted.inputs.get(name):
                lines.append(f"its input `{name}` is not the one it was made from")
        return lines


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys: `{"a": {"b": 1}} -> {"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat.update(flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the pyarrow filesystem of a path or URI (`s3://`, `gs://`, ...) and the path within it.

    Raises:
        UserError: the scheme is unknown.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        fs, path = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"cannot use {uri!r}: {error}. Give a local path or an s3:// or gs:// URI.") from error
    return PatientS3.like(fs) if isinstance(fs, pafs.S3FileSystem) else fs, path


@contextmanager
def staged(fs: pafs.FileSystem, target: str) -> Iterator[Path]:
    """A local directory whose files are in `target` afterwards.

    It is `target` itself where that is local, so that a kill leaves nothing elsewhere.
    """
    if isinstance(fs, pafs.LocalFileSystem):
        fs.create_dir(target, recursive=True)
        yield Path(target)
        return
    with TemporaryDirectory(prefix="codelm-") as name:
        yield Path(name)
        fs.create_dir(target, recursive=True)
        pafs.copy_files(name, target, destination_filesystem=fs)


@contextmanager
def fetched(fs: pafs.FileSystem, source: str) -> Iterator[Path]:
    """A local directory with the files of `source`, which it is itself where that is local."""
    if isinstance(fs, pafs.LocalFileSystem):
        yield Path(source)
        return
    with TemporaryDirectory(prefix="codelm-") as name:
        pafs.copy_files(source, name, source_filesystem=fs)
        yield Path(name)


def read_json(fs: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    """A JSON file's object; None where there is no such file."""
    try:
        with fs.open_input_stream(path) as source:
            content: dict[str, Any] = json.loads(source.read())
            return content
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_whole(fs: pafs.FileSystem, path: str, text: str) -> None:
    """Write a file that is either absent, old or complete, never half there."""
    local = isinstance(fs, pafs.LocalFileSystem)
    target = f"{path}.partial" if local else path
    with fs.open_output_stream(target) as out:
        out.write(text.encode())
    if local:
        fs.move(target, path)


def sha256_of(fs: pafs.FileSystem, path: str) -> str:
    """The SHA-256 of a file, in hexadecimal; it is read a piece at a time."""
    digest = hashlib.sha256()
    with fs.open_input_stream(path) as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class RunDir:
    """One run's directory on a local disk or an object store. Holds no state: it can be pickled to workers."""

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else str(Path(uri).absolute())
        with self._reached():
            self.fs, self.root = resolve(self.uri)

    def __reduce__(self) -> tuple[type["RunDir"], tuple[str]]:
        return RunDir, (self.uri,)

    @property
    def is_local(self) -> bool:
        """Whether the run is on a file system of this machine, where a directory can be renamed."""
        return isinstance(self.fs, pafs.LocalFileSystem)

    def path(self, *parts: str) -> str:
        """A path inside the run, in terms of `self.fs` (for a local run, an absolute path)."""
        return "/".join((self.root, *parts))

    def check_answers(self) -> None:
        """Look whether the storage is there, without the patience of all that follows.

        Raises:
            UserError: it does not answer.
        """
        if isinstance(self.fs, PatientS3):
            with self._reached():
                PatientS3.like(self.fs, FEW_RETRIES).get_file_info(self.root)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"run_dir {self.uri!r}: its storage does not answer: {error}. Set run_dir to another place, or the "
                "storage's address (AWS_ENDPOINT_URL) and keys."
            ) from error

    def check_writable(self) -> None:
        """Make the directory and write and delete one small file in it.

        Raises:
            UserError: it cannot be written to.
        """
        probe = self.path(WORK, "probe")
        try:
            self.fs.create_dir(self.path(WORK), recursive=True)
            with self.fs.open_output_stream(probe) as out:
                out.write(b"codelm")
            self.fs.delete_file(probe)
        except OSError as error:
            raise UserError(
                f"run_dir {self.uri!r} cannot be written to: {error}. Set run_dir to another place."
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second driver out of a local run directory; the lock goes with the process.

        Raises:
            UserError: another process is at work in it.
        """
        if not self.is_local:
            yield
            return
        try:
            with FileLock(self.path(WORK, "lock"), blocking=False):
                yield
        except Timeout as error:
            raise UserError(f"another codelm is at work in {self.uri}; wait for it or set another run_dir") from error

    def manifest(self, directory: str) -> Manifest | None:
        """The manifest of a published stage, or None where it is not finished."""
        found = read_json(self.fs, self.path(directory, MANIFEST))
        return None if found is None else Manifest(**found)

    def workspace(self, directory: str) -> str:
        """Where an unfinished stage writes; made if need be, kept as it is if it exists."""
        path = self.path(WORK, directory) if self.is_local else self.path(directory)
        self.fs.create_dir(path, recursive=True)
        return path

    def has_work(self, directory: str) -> bool:
        """Whether an unfinished stage has left files."""
        path = self.path(WORK, directory) if self.is_local else self.path(directory)
        found = self.fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        return any(info.type == pafs.FileType.File for info in found)

    def clear_workspace(self, directory: str) -> str:
        """An empty workspace, for stages that start over rather than continue."""
        path = self.workspace(directory)
        self.fs.delete_dir_contents(path)
        return path

    def read_note(self, directory: str) -> dict[str, Any] | None:
        """What an interrupted stage left word of (`write_note`), or None."""
        return read_json(self.fs, self.path(WORK, f"{directory}.json"))

    def write_note(self, directory: str, note: dict[str, Any]) -> None:
        """Leave word of the work begun, for a rerun after an interruption."""
        self.fs.create_dir(self.path(WORK), recursive=True)
        write_whole(self.fs, self.path(WORK, f"{directory}.json"), json.dumps(note))

    def publish(self, directory: str, manifest: Manifest) -> Manifest:
        """Hash the workspace's files, write the manifest, and make the stage visible in one step.

        Returns:
            The manifest as written, with its files.
        """
        workspace = self.workspace(directory)
        published = Manifest(**{**asdict(manifest), "files": self._hash_files(workspace)})
        text = json.dumps(asdict(published), indent=2, sort_keys=True) + "\n"
        write_whole(self.fs, f"{workspace}/{MANIFEST}", text)
        if self.is_local:
            self.fs.move(workspace, self.path(directory))
        return published

    def withdraw(self, directory: str) -> None:
        """Remove a published or unfinished stage, the manifest first, so that no half of it is ever read."""
        for path in (self.path(directory), self.path(WORK, directory)):
            for item, delete in ((f"{path}/{MANIFEST}", self.fs.delete_file), (path, self.fs.delete_dir)):
                if self.fs.get_file_info(item).type != pafs.FileType.NotFound:
                    delete(item)

    def local_copy(self, directory: str) -> Path:
        """A local directory with the files of a published stage; from an object store, a cached copy.

        Raises:
            FileNotFoundError: the stage is not published.
        """
        manifest = self.manifest(directory)
        if manifest is None:
            raise FileNotFoundError(f"{self.path(directory)} is not published")
        if self.is_local:
            return Path(self.path(directory))
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "codelm"
        target = cache / manifest.content
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.exists():
                partial = target.with_suffix(".partial")
                partial.mkdir(parents=True, exist_ok=True)
                pafs.copy_files(self.path(directory), str(partial), source_filesystem=self.fs)
                partial.rename(target)
        return target

    def _hash_files(self, directory: str) -> dict[str, str]:
        selector = pafs.FileSelector(directory, recursive=True)
        files = (info.path for info in self.fs.get_file_info(selector) if info.type == pafs.FileType.File)
        return {
            path[len(directory) + 1 :]: sha256_of(self.fs, path)
            for path in sorted(files)
            if not path.endswith(f"/{MANIFEST}")
        }
