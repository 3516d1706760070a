"""Draw the picture of the page that the README shows: python scripts/make_page_picture.py .github/page.png

The script starts the server with `lite`, opens the page in Debian's Chromium, asks a question about the sample clip and
saves what a visitor sees, as a PNG with a palette.
"""

import argparse
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright
from serving import serving

QUESTION = "What is in this video?"
SIZE = {"width": 1280, "height": 860}
WAIT_MS = 120_000  # an answer takes seconds; a busy machine takes longer


def photograph(url: str, path: Path) -> None:
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root, which is who runs in a container.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport=SIZE)
        page.goto(url)
        expect(page.locator("#timeline .vl-cell")).to_have_count(3)  # the clip is encoded, the page answers from now on
        page.locator("#question textarea").fill(QUESTION)
        page.keyboard.press("Enter")
        expect(page.locator("#chat .message.bot").last.locator(".vl-chip").first).to_be_visible()
        expect(page.locator("#question .stop-button")).to_have_count(0)
        page.mouse.move(0, 0)
        page.screenshot(path=path)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with serving("--model", "lite") as served:
        photograph(served.url, options.out)
    # A palette of 256 colours takes a third of the bytes, and nobody sees the difference at this size.
    Image.open(options.out).convert("RGB").quantize(256).save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
