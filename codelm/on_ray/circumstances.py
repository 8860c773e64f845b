"""Failures that are no mistake in the program, told in a sentence: a full disk, a storage that stopped answering."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from codelm.errors import UserError

AGAIN = "then give the same command again: what is finished is kept"
NO_SPACE = re.compile(r"No space left on device(?:: '(?P<path>[^']+)')?|OutOfDiskError")
MACHINE = re.compile(r"\bip=(?P<address>[0-9a-fA-F.:]+)")
STORAGE = re.compile(
    r"AWS Error (?:UNKNOWN \(HTTP status 50\d\)|SERVICE_UNAVAILABLE|SLOW_DOWN|INTERNAL_FAILURE|REQUEST_TIMEOUT|"
    r"NETWORK_CONNECTION|ACCESS_DENIED|EXPIRED_TOKEN|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)[^\n]*"
)
"""What Arrow says of requests that S3 refused after all tries (`codelm.object_store`), or for want of a right."""


def circumstance(text: str) -> str | None:
    """What has gone wrong around the program, with the next step; None where an error is of another kind.

    Args:
        text: of the error, with those of the workers in it, as Ray's have.
    """
    if found := NO_SPACE.search(text):
        machine = MACHINE.search(text)
        where = f" of {machine['address']}" if machine else ""
        path = f" ({found['path']})" if found["path"] else ""
        return f"no space is left on a disk{where}{path}; make room there, {AGAIN}"
    if found := STORAGE.search(text):
        return f"the storage does not answer as it should: {found[0].strip().rstrip('.')}. Mend that, {AGAIN}"
    return None


@contextmanager
def told(stage: str) -> Iterator[None]:
    """Raise a UserError instead of an error that comes of circumstances.

    Args:
        stage: whose work it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = circumstance(str(error))
        if said is None:
            raise
        raise UserError(f"{stage}: {said}") from error
