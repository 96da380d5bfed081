"""The one error that users are meant to read."""


class PlatewiseError(ValueError):
    """A user's mistake or a broken input, told in one line: what was expected, what was got, what to do."""
