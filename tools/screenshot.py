"""A page of genjax as an image, as a browser shows it: for the documentation.

    python -m tools.screenshot runs/ddpm_fashion/report.html docs/run_page.webp

Needs playwright (pip install -e '.[browser]') and a Chromium on the PATH.
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image


def main() -> None:
    """Takes the screenshot."""
    parser = argparse.ArgumentParser("python -m tools.screenshot", description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("to", type=Path, help="a .png or .webp")
    parser.add_argument("--width", type=int, default=1280, help="of the window")
    parser.add_argument("--height", type=int, default=1000, help="of the window")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--at", default="", help="id of the section to show: curves, scores, …")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        sys.exit("error: no Chromium on the PATH")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": given.width, "height": given.height},
            color_scheme="dark" if given.dark else "light",
        )
        page.goto(f"{given.page.absolute().as_uri()}#{given.at}")
        page.wait_for_timeout(1000)  # charts are drawn when they come into the window
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    image.save(given.to, **({"quality": 82} if given.to.suffix == ".webp" else {}))
    print(given.to)


if __name__ == "__main__":
    main()
