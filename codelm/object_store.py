"""S3 that is waited for while it does not answer."""

from collections.abc import Callable
from typing import Any, Self

import pyarrow.fs as pafs

RETRIES = 11
"""Of a request that was refused or not answered: after 25 ms, then each time after twice as long, 51 s in all."""
FEW_RETRIES = 5
"""For a first look: 0.8 s in all."""


class PatientS3(pafs.S3FileSystem):
    """S3 whose requests are made again for 51 seconds, here and where it was sent to.

    Arrow's own gives up after six; one that was pickled, after three tries in some three seconds.
    """

    def __init__(self, retries: int = RETRIES, **options: Any) -> None:
        # The other strategy of AWS stops at a hundred refused requests, which many threads reach in no time.
        super().__init__(retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=retries), **options)

    @classmethod
    def like(cls, other: pafs.S3FileSystem, retries: int = RETRIES) -> Self:
        """One with the options of another."""
        _, (options,) = pafs.S3FileSystem.__reduce__(other)
        return cls(retries, **options)

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], "PatientS3"], tuple[dict[str, Any]]]:
        _, (options,) = super().__reduce__()
        return _made, (options,)


def _made(options: dict[str, Any]) -> PatientS3:
    return PatientS3(**options)
