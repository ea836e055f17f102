"""The one exception of the data room."""

from genjax.errors import GenjaxError


class DataError(GenjaxError, ValueError):
    """A data set, folder or batch that cannot be had; the message is one line saying what to do."""
