"""Pillow decodes a photo for a small size several times faster in draft mode."""

import io

import numpy as np
from PIL import Image

from benchmarks.probes.finding import Finding, slowdown

CODE = "genjax/data/pixels.py"


def probe() -> Finding:
    draw = np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(draw).resize((3200, 2400), Image.Resampling.BICUBIC).save(file, "JPEG")

    def decode(draft: bool) -> np.ndarray:
        image = Image.open(io.BytesIO(file.getvalue()))
        if draft:
            image.draft(None, (128, 128))
        return np.asarray(image.resize((64, 64)))

    ratio = slowdown(lambda: decode(False), lambda: decode(True), rounds=5)
    return Finding(f"a full decode takes {ratio:.1f} times as long", ratio > 1.5)
