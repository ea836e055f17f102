"""What a page of curves, images and tables is made of, as plain values; `rendering` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Chip:
    """A word or two on the state of things.

    Attributes:
      text: what it says.
      kind: "", "good", "warning" or "alarm".
    """

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values.

    Attributes:
      rows: [(name, value)].
      title: above them.
      share: of the work that is done, drawn as a bar; None for no bar.
    """

    rows: Sequence[tuple[str, str]]
    title: str = ""
    share: float | None = None
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Note:
    """A message.

    Attributes:
      title: in bold.
      text: what is so.
      advice: what to do about it; "" for nothing.
      level: "info", "good", "warning" or "alarm".
    """

    title: str
    text: str
    advice: str = ""
    level: str = "info"
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Attributes:
      head: of the columns.
      rows: of as many texts.
      title: above it.
      marked: indices of the rows that stand out.
      more: what is said below it.
      folded: whether only the title shows until it is opened.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    marked: frozenset[int] = frozenset()
    more: str = ""
    folded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
      name: in the legend.
      x: in order.
      y: as many; NaN where there is none.
      low: lower ends of intervals, as many.
      high: upper ends.
      floor: a level to compare with.
      color: 0 to 7; None for another one per curve.
      dashed: whether its line is.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    floor: float | None = None
    color: int | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over a common axis.

    Attributes:
      title: above it.
      series: the curves.
      x: name of the axis; charts of the same one are zoomed together.
      hint: how to read it.
      marks: [(x, text)] of what happened there.
    """

    title: str
    series: Sequence[Series]
    x: str = "step"
    hint: str = ""
    marks: Sequence[tuple[float, str]] = ()
    kind: ClassVar[str] = "chart"

    @property
    def has_floor(self) -> bool:
        """Whether a curve has a level to compare with."""
        return any(series.floor is not None for series in self.series)

    @property
    def colors(self) -> list[int]:
        """The color of each curve."""
        return [(i if s.color is None else s.color) % 8 for i, s in enumerate(self.series)]


@dataclass(frozen=True)
class Frame:
    """An image.

    Attributes:
      caption: below it.
      uri: of its bytes, as `embedding.Embedded` makes it.
      width: pixels.
      height: pixels.
      step: where it belongs on a slider.
    """

    caption: str
    uri: str
    width: int
    height: int
    step: int = 0


@dataclass(frozen=True)
class Sheets:
    """Images of one kind; of several a slider chooses one.

    Attributes:
      title: above it.
      frames: in order; at least one.
      hint: how to read it.
      linked: whether its slider moves with those of others.
      fine: whether it is smoothed where it is enlarged.
    """

    title: str
    frames: Sequence[Frame]
    hint: str = ""
    linked: bool = False
    fine: bool = False
    kind: ClassVar[str] = "sheets"


@dataclass(frozen=True)
class Points:
    """Points in a plane.

    Attributes:
      title: above it.
      xy: [(x, y)].
      colors: the class of each, an index into `names`.
      names: of the classes.
      hint: how to read it.
    """

    title: str
    xy: Sequence[tuple[float, float]]
    colors: Sequence[int]
    names: Sequence[str] = ()
    hint: str = ""
    kind: ClassVar[str] = "points"

    @property
    def drawn(self) -> list[tuple[float, float, int]]:
        """(x, y, color) in the picture, which is 400 wide and 300 high."""
        spans = []
        for axis, length in ((0, 400), (1, 300)):
            values = [point[axis] for point in self.xy]
            low, high = min(values), max(values)
            spans.append((low, (length - 16) / ((high - low) or 1)))
        (x0, sx), (y0, sy) = spans
        return [
            (round(8 + (x - x0) * sx, 1), round(292 - (y - y0) * sy, 1), color % 10)
            for (x, y), color in zip(self.xy, self.colors, strict=True)
        ]


@dataclass(frozen=True)
class Bars:
    """Amounts.

    Attributes:
      title: above them.
      rows: [(name, amount, text behind it)].
      hint: how to read it.
    """

    title: str
    rows: Sequence[tuple[str, float, str]]
    hint: str = ""
    kind: ClassVar[str] = "bars"

    @property
    def most(self) -> float:
        """The largest amount."""
        return max((amount for _, amount, _ in self.rows), default=1) or 1


Block = Facts | Note | Table | Chart | Sheets | Points | Bars


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
      id: its anchor: letters and dashes.
      title: its heading.
      blocks: what it shows.
      lead: a sentence before them.
      layout: "", "stack", "pairs" or "overview".
    """

    id: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""
    layout: str = ""

    @property
    def has_charts(self) -> bool:
        """Whether there is a curve over steps."""
        return any(isinstance(block, Chart) and block.x == "step" for block in self.blocks)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
      title: its name.
      sections: its parts; those without blocks are not shown.
      chips: below the title.
      footer: at its end.
    """

    title: str
    sections: Sequence[Section]
    chips: Sequence[Chip] = ()
    footer: str = ""
