"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """A mistake in the input: the command line prints its text and exits with status 2.

    The text names the thing, its value and the next step.
    """
