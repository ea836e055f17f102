"""LaTeX to MathML while the site is built: formulas need neither a script nor the internet."""

import html
import re
from importlib.metadata import files

from latex2mathml.converter import convert

# What pymdownx.arithmatex makes of $…$ and of $$ … $$, in its generic form.
_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL
)  # fmt: skip
# The package is here for its font alone, which draws formulas alike on every machine.
FONT = next(file.locate() for file in files("ziamath") or () if file.name.startswith("STIXTwoMath"))


def with_mathml(page: str) -> str:
    """A page's HTML with every formula as MathML; raises where LaTeX cannot be read."""
    return _FORMULA.sub(_mathml, page)


def _mathml(found: re.Match) -> str:
    tag, _, latex = found.groups()
    display = "block" if tag == "div" else "inline"
    mathml = convert(html.unescape(latex).strip(), display=display)
    return f'<{tag} class="math">{mathml}</{tag}>'
