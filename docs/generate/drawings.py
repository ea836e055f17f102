"""Draws a protocol: who calls whom, as an SVG that is read on a phone and without a script.

    ```protocol
    you, loss, network
    you -> loss: denoising(predict, x, key)
    loss -> network: predict(z, t)
    network -> loss: like z
    loss -> you: [B]
    ```

The first line names the columns; a line without an arrow is a note across all of them.
"""

import html
import re
from typing import Any

WIDTH, MARGIN, HEAD, ROW = 400, 44, 40, 38
_MESSAGE = re.compile(r"(.+?) -> (.+?): (.*)")


def protocol(source: str, language: str, css: str, options: dict, md: Any, **_: Any) -> str:
    """A fenced block's SVG: the signature is that of a formatter of pymdownx.superfences."""
    first, *lines = source.strip().splitlines()
    names = [name.strip() for name in first.split(",")]
    gap = (WIDTH - 2 * MARGIN) / max(len(names) - 1, 1)
    columns = {name: MARGIN + i * gap for i, name in enumerate(names)}
    height = HEAD + ROW * len(lines) + 10
    parts = [_column(name, x, height) for name, x in columns.items()]
    for i, line in enumerate(lines):
        y = HEAD + ROW * (i + 1) - 6
        found = _MESSAGE.fullmatch(line.strip())
        parts.append(_arrow(*found.groups(), y, columns) if found else _note(line.strip(), y))
    alt = html.escape("; ".join(line.strip() for line in lines), quote=True)
    return (
        f'<svg class="protocol" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{alt}">'
        f"{''.join(parts)}</svg>"
    )


def _column(name: str, x: float, height: float) -> str:
    wide = max(len(name) * 7.2 + 12, 40)
    return (
        f'<line class="life" x1="{x}" x2="{x}" y1="28" y2="{height}"/>'
        f'<rect x="{x - wide / 2}" y="4" width="{wide}" height="24" rx="4"/>'
        f'<text class="head" x="{x}" y="20">{html.escape(name)}</text>'
    )


def _arrow(start: str, end: str, label: str, y: float, columns: dict[str, float]) -> str:
    a, b = columns[start.strip()], columns[end.strip()]
    step = 5 if b > a else -5
    head = f"{b},{y} {b - step},{y - 3} {b - step},{y + 3}"
    # A label is as wide as it needs to be, inside the drawing.
    half = len(label) * 3.15
    x = min(max((a + b) / 2, half + 2), WIDTH - half - 2)
    return (
        f'<line class="arrow" x1="{a}" x2="{b - step}" y1="{y}" y2="{y}"/>'
        f'<polygon points="{head}"/>'
        f'<text x="{x}" y="{y - 6}">{html.escape(label)}</text>'
    )


def _note(text: str, y: float) -> str:
    return f'<text class="note" x="{WIDTH / 2}" y="{y - 6}">{html.escape(text)}</text>'
