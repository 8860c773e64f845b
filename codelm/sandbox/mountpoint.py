"""A cell's directory outside of it, where its root is mounted; those of judges that were killed are removed."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "codelm-sandbox-"
STALE_SECONDS = 60.0
"""A younger one may not have been locked yet."""


@contextmanager
def mountpoint() -> Iterator[str]:
    """A new empty directory, locked as long as this process lives, and removed afterwards."""
    with suppress(OSError):
        _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as path:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(held)


def _sweep(parent: Path) -> None:
    """Remove those of this user whose owner is gone: the kernel has then let go of the lock."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(held)
                if found.st_uid == os.geteuid() and time.time() - found.st_mtime > STALE_SECONDS:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
            finally:
                os.close(held)
