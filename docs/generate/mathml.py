"""LaTeX to MathML while the site is built: formulas need neither a script nor the internet."""

import html
import re
from importlib.metadata import files

from latex2mathml.converter import convert

# The package is here for its font alone, which draws formulas alike on every machine.
FONT = next(file.locate() for file in files("ziamath") or () if file.name.startswith("STIXTwoMath"))

# What pymdownx.arithmatex makes of $…$ and of $$ … $$, in its generic form.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_FUNCTION = re.compile(r"<m[io]>(arg|arctan|cos|cosh|exp|ln|log|max|min|sin|sinh|tan|tanh)</m[io]>")
# A command or a column that the converter did not understand.
_LEFT_OVER = re.compile(r"<m[ion][^>]*>(&|\\[^<]*)</m[ion]>")
# What the converter does not know, or sets badly, and what it reads well.
_BETTER_READ = (
    (r"\\arg(?![a-z])", r"\\operatorname{arg}"),
    (r"(begin|end){(aligned|gathered|split)}", r"\1{align*}"),
    (r"\\[lr]Vert(?![a-z])", r"\\|"),
    (r"\\[lr]vert(?![a-z])", "|"),
    (r"\\[bB]igg?l(?![a-z])", r"\\left"),
    (r"\\[bB]igg?r(?![a-z])", r"\\right"),
    (r"\\[bB]igg?m?(?![a-z])", ""),
)


def with_mathml(page: str) -> str:
    """A page's HTML with every formula as MathML; ValueError for LaTeX that cannot be read."""
    return _FORMULA.sub(_mathml, page)


def _mathml(found: re.Match) -> str:
    tag, _, latex = found.groups()
    latex = html.unescape(latex).strip()
    for pattern, replacement in _BETTER_READ:
        latex = re.sub(pattern, replacement, latex)
    mathml = convert(latex, display="block" if tag == "div" else "inline")
    if left_over := _LEFT_OVER.search(mathml):
        raise ValueError(f"not understood in a formula: {left_over[1]} in {latex}")
    # Without this an exponent stands above the accent.
    mathml = re.sub(r"<mover>(<mi>[^<]*</mi><mo stretchy)", r'<mover accent="true">\1', mathml)
    # A bar is a letter to LaTeX: q(z|x) and |x| have no space around it.
    mathml = re.sub(r"<mo([^>]*)>&#x0007C;<", r'<mo\1 lspace="0.06em" rspace="0.06em">|<', mathml)
    # Operators that it takes for letters, which have no space around them.
    mathml = mathml.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    mathml = _FUNCTION.sub(r'<mo lspace="0.17em" rspace="0.17em">\1</mo>', mathml)
    return f'<{tag} class="math">{mathml}</{tag}>'
