"""Pages on which a person judges images: real or drawn, accept or reject. They hold no key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from genjax.report.embedding import array_uri
from genjax.report.rendering import html, script_json

Mode = Literal["tell", "curate"]


@dataclass(frozen=True)
class Choice:
    """An answer, and how it is given.

    Attributes:
      answer: as it is saved.
      label: of its button.
      key: a letter.
      arrow: the arrow on a keyboard.
      code: the arrow's name in a browser, in lower case.
      text: what it means.
    """

    answer: str
    label: str
    key: str
    arrow: str
    code: str
    text: str


CHOICES: dict[Mode, tuple[Choice, Choice]] = {
    "tell": (
        Choice("real", "Real", "R", "←", "arrowleft", "a real image of the data set"),
        Choice("drawn", "Drawn", "D", "→", "arrowright", "drawn by the model"),
    ),
    "curate": (
        Choice("reject", "Reject", "R", "←", "arrowleft", "leaves the image out"),
        Choice("accept", "Accept", "A", "→", "arrowright", "keeps the image"),
    ),
}
QUESTIONS: dict[Mode, str] = {
    "tell": "You will see {n} images, one after the other. For each a coin was flipped: it is a "
    "real one of the data set, or the model drew it. Say which.",
    "curate": "You will see {n} images that the model drew. Accept those to keep.",
}


def judge_page(images: np.ndarray, title: str, name: str, mode: Mode, command: str) -> str:
    """The page as HTML.

    Args:
      images: uint8 [n, H, W, C], in the order in which they are shown.
      title: its heading.
      name: what tells its answers from those of other pages.
      mode: "tell" real from drawn images, or "curate".
      command: what to do with the saved file.

    Returns:
      The complete file, which loads and sends nothing.
    """
    data = {"id": name, "mode": mode, "images": [array_uri(image) for image in images]}
    return html(
        "judge.html",
        ["judge.js"],
        script_json(data),
        title=title,
        question=QUESTIONS[mode].format(n=f"{len(images):,}"),
        choices=CHOICES[mode],
        command=command,
        n=len(images),
    )
