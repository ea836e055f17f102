"""The exception of this package."""

from genjax.errors import GenjaxError


class DataError(GenjaxError, ValueError):
    """A data set, folder or batch is unavailable; the message is one line that says what to do."""
