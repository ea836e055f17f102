"""What an error says, on one line: those of the libraries underneath run to hundreds."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 300 characters; its type where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
