"""The one exception of the data room."""


class DataError(ValueError):
    """A set, folder or batch that cannot be had; the message is one line saying what to do."""

    exit_code = 2
