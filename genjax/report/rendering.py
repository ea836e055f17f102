"""A page as one HTML file that loads nothing else: scripts, styles and images lie in it.

Every text of a page is text: Jinja escapes what goes into markup, and the numbers of the curves are
JSON without a character that could end their element. A policy in the file (CSP) lets the browser
run its own scripts alone, by their sha256, and load nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from genjax import files
from genjax.errors import ConfigError, printable
from genjax.report.page import Block, Chart, Page, Series, Sheets

GENERATOR = "genjax report"
MOST_POINTS = 1000  # of a curve; of longer ones the extremes of each stretch are drawn
MOST_TEXT = 600  # characters of one text
_START = 4096  # bytes of a page that hold its generator


def render(page: Page) -> str:
    """Writes a page as HTML.

    Args:
      page: the page.

    Returns:
      The complete file.
    """
    sections, charts, sheets = [], {}, {}
    for section in page.sections:
        blocks: list[tuple[str, Block]] = []
        for block in section.blocks:
            name = f"{section.id}-{len(blocks)}"
            blocks.append((name, block))
            if isinstance(block, Chart):
                charts[name] = _chart(name, block)
            elif isinstance(block, Sheets):
                sheets[name] = _sheets(block)
        if blocks:
            sections.append((section, blocks))
    data = script_json({"charts": charts, "sheets": sheets})
    scripts = ["charts.js", "page.js"]
    return html("page.html", scripts, data, title=page.title, page=page, sections=sections)


def html(template: str, scripts: Sequence[str], data: Markup, **values: Any) -> str:
    """Fills a template of this room.

    Args:
      template: its file.
      scripts: files of JavaScript, in order.
      data: JSON for them.
      **values: what else the template takes.

    Returns:
      The HTML.
    """
    style, code = _asset("page.css"), [_asset(name) for name in scripts]
    return _template(template).render(
        style=Markup(style),
        scripts=[Markup(each) for each in code],
        style_hash=_hash(style),
        script_hashes=[_hash(each) for each in code],
        generator=GENERATOR,
        data=data,
        **values,
    )


def save(path: Path, text: str) -> None:
    """Writes a page atomically, in place of an earlier one.

    Args:
      path: the file.
      text: the HTML.

    Raises:
      ConfigError: where a file is there that is no page of genjax.
    """
    if os.path.lexists(path) and not is_ours(path):
        raise ConfigError(f"{path} is there and no page of genjax: give another --to")
    files.write_text(path, text)


def is_ours(path: Path) -> bool:
    """Whether a file is a page that `save` may replace.

    Args:
      path: the file.

    Returns:
      True where its head names genjax as the generator.
    """
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return f'name="generator" content="{GENERATOR}"'.encode() in file.read(_START)


def script_json(values: Any) -> Markup:
    """JSON that may stand in a script element.

    Args:
      values: plain values, not finite numbers included.

    Returns:
      The text, without a character that starts markup.
    """
    text = files.json_text(values)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def shown(value: Any) -> str:
    """A text as a page shows it: printable, and of bounded length.

    Args:
      value: anything; what is no text is shown as JSON or Python writes it.

    Returns:
      At most `MOST_TEXT` characters.
    """
    if not isinstance(value, str):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            value = repr(type(value))
    text = printable(value[: MOST_TEXT + 1])
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def _chart(name: str, chart: Chart) -> dict[str, Any]:
    return {
        "id": name,
        "x": shown(chart.x),
        "series": [_series(*pair) for pair in zip(chart.series, chart.colors, strict=True)],
        "marks": [{"x": x, "text": shown(text)} for x, text in chart.marks],
    }


def _series(series: Series, color: int) -> dict[str, Any]:
    kept = _kept(series.y)
    columns = {"x": series.x, "y": series.y, "low": series.low, "high": series.high}
    found: dict[str, Any] = {
        name: [_number(values[k]) for k in kept]
        for name, values in columns.items()
        if values is not None
    }
    if series.floor is not None:
        found["floor"] = _number(series.floor)
    return found | {"color": color, "dashed": series.dashed}


def _number(value: float) -> float | int | None:
    """A number in few characters; JSON has no NaN."""
    if isinstance(value, int) or not math.isfinite(value):
        return value if isinstance(value, int) else None
    return float(f"{value:.6g}")


def _kept(y: Sequence[float]) -> list[int]:
    """Indices to draw: all, or the extremes of each of `MOST_POINTS` / 2 stretches."""
    n, stretches = len(y), MOST_POINTS // 2
    if n <= MOST_POINTS:
        return list(range(n))
    kept = {0, n - 1}
    for i in range(stretches):
        indices = range(i * n // stretches, (i + 1) * n // stretches)
        finite = [k for k in indices if math.isfinite(y[k])] or [indices[0]]
        kept |= {min(finite, key=y.__getitem__), max(finite, key=y.__getitem__)}
    return sorted(kept)


def _sheets(sheets: Sheets) -> dict[str, Any]:
    return {
        "frames": [{"uri": f.uri, "caption": shown(f.caption)} for f in sheets.frames],
        "steps": [frame.step for frame in sheets.frames],
        "linked": sheets.linked,
    }


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_finalize,
    )
    return environment.get_template(name)


def _finalize(value: Any) -> Any:
    return shown(value) if isinstance(value, str) and not _is_safe(value) else value


def _is_safe(value: str) -> bool:
    # Data URIs are made here, of base64, and are long.
    return isinstance(value, Markup) or value.startswith("data:image/")


@functools.cache
def _asset(name: str) -> str:
    return resources.files("genjax.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
