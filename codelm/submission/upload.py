"""What Ray would upload of a working directory: the same rules as Ray's, file by file, before anything is sent."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pathspec import PathSpec

from codelm.errors import UserError

LIMIT_BYTES = 100 * 2**20
"""The dashboard refuses a larger request (DASHBOARD_CLIENT_MAX_SIZE), whatever Ray's documents say (ray #55877)."""
IGNORE_FILES = (".gitignore", ".rayignore")
LARGEST_NAMED = 3

Ignores = Callable[[Path], bool]


@dataclass(frozen=True)
class Upload:
    """The files that would travel, by their paths relative to the working directory, with their sizes in bytes."""

    root: Path
    files: dict[str, int]

    @property
    def size(self) -> int:
        """Bytes, before compression."""
        return sum(self.files.values())

    def largest(self) -> str:
        """The top entries that weigh most: `data 210.0 MB, docs 1.2 MB`."""
        weights: Counter[str] = Counter()
        for path, size in self.files.items():
            weights[path.partition(os.sep)[0]] += size
        return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in weights.most_common(LARGEST_NAMED))

    def describe(self) -> str:
        """`uploads 312 files, 2.1 MB (tests 1.0 MB, ...)`."""
        return f"uploads {len(self.files):,} files, {self.size / 1e6:.1f} MB ({self.largest()})"

    def check_size(self) -> None:
        """Raise UserError where it is more than Ray takes."""
        if self.size > LIMIT_BYTES:
            raise UserError(
                f"the working directory {self.root} would upload {self.size / 2**20:.0f} MiB and Ray takes "
                f"{LIMIT_BYTES // 2**20}: {self.largest()}; name in .rayignore what the job does not need"
            )

    def check_has(self, key: str, path: str) -> None:
        """Raise UserError where a file or directory of the working directory, which the job needs, stays behind.

        Args:
            key: what asks for it.
            path: relative to the working directory.
        """
        wanted = os.path.normpath(path)
        if any(name == wanted or name.startswith(wanted + os.sep) for name in self.files):
            return
        raise UserError(
            f"{key}: {path} exists here but {' or '.join(IGNORE_FILES)} keeps it out of the upload, so the job would "
            "not find it; take it out of there, or put it on storage that the cluster sees"
        )


def planned_upload(root: Path) -> Upload:
    """List what would be uploaded of a directory.

    Raises:
        UserError: it is no directory.
    """
    if not root.is_dir():
        raise UserError(f"--working-dir {str(root)!r} is not a directory; give the root of the repository")
    files: dict[str, int] = {}
    _walk(root.absolute(), root.absolute(), [], files)
    return Upload(root, files)


def _walk(root: Path, directory: Path, ignores: list[Ignores], files: dict[str, int]) -> None:
    """Ray's walk: an ignore file holds for its directory and all below, and an ignored directory is not entered."""
    ignores = [*ignores, *_ignores_of(directory)]
    for path in sorted(directory.iterdir()):
        if any(ignored(path) for ignored in ignores):
            continue
        if path.is_dir():
            _walk(root, path, ignores, files)
        elif path.is_file():
            files[str(path.relative_to(root))] = path.stat().st_size


def _ignores_of(directory: Path) -> list[Ignores]:
    specs = []
    for name in IGNORE_FILES:
        if (directory / name).is_file():
            # Directories are asked for without a slash at their end, as Ray does: `data/` alone names no file.
            specs.append(PathSpec.from_lines("gitignore", (directory / name).read_text().splitlines()))

    def of(spec: PathSpec) -> Ignores:
        return lambda path: spec.match_file(str(path.relative_to(directory)))

    return [of(spec) for spec in specs]
