"""The one exception that means "the user can fix this"."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake in the input: the command line prints its text and exits with status 2.

    The text names the thing, its value and the next step.
    """


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a UserError into a sentence on standard error and exit status 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
