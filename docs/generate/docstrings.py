"""A griffe extension: sections of docstrings that griffe would take apart wrongly.

Griffe reads "z at steps[-1]: if that is 0 …" in Returns as a type and a description. The signature
has the type already, so Returns and Yields become plain text. References become a list, a paper an
item.
"""

import re
from typing import Any

import griffe

_RESULT = re.compile(r"^( *)(Returns|Yields):[ \t]*$", re.MULTILINE)
_REFERENCES = re.compile(r"^( *)References:[ \t]*\n((?:\1 +.*(?:\n|$))+)", re.MULTILINE)


class PlainSections(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            text = _RESULT.sub(r"\1Result: \2:", obj.docstring.value)
            obj.docstring.value = _REFERENCES.sub(_references, text)


def _references(found: re.Match) -> str:
    indent, lines = found[1], found[2].splitlines()
    outer = min(len(line) - len(line.lstrip()) for line in lines)
    items, ended = [], True
    for line in lines:
        continues = line.startswith(" " * (outer + 1)) or not ended
        items.append(f"{indent}  {'  ' if continues else '- '}{line.strip()}")
        ended = line.endswith((".", ")")) and not line.endswith("et al.")
    return f"{indent}Sources: References:\n" + "\n".join(items) + "\n"
