"""A griffe extension: keeps what Returns and Yields say as it is written.

Griffe reads "z at steps[-1]: if that is 0 …" as a type and a description. The signature has the
type already, so these sections become plain ones.
"""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"^( *)(Returns|Yields):[ \t]*$", re.MULTILINE)


class PlainReturns(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _SECTION.sub(r"\1Result: \2", obj.docstring.value)
