"""Frames with captions on one picture: contact sheets of search results, storyboards of one video."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from videollm.config import SamplingConfig
from videollm.video.decode import decode

CELL = (320, 180)  # pixels of a frame; other shapes are fitted in
LINE, MARGIN = 18, 8
PAPER, INK, FAINT = (250, 250, 250), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True, slots=True)
class Panel:
    """The frame of `path` shown at time_s, with a title and a line of smaller print under it."""

    path: str
    time_s: float
    title: str
    note: str = ""


def contact_sheet(panels: Sequence[Panel], columns: int = 4) -> Image.Image:
    """The panels in rows, in their order. Raises the VideoError family where a frame cannot be read."""
    columns = max(1, min(columns, len(panels)))
    width, height = CELL[0] + MARGIN, CELL[1] + 2 * LINE + 2 * MARGIN
    sheet = Image.new("RGB", (columns * width + MARGIN, math.ceil(len(panels) / columns) * height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    fonts = ImageFont.load_default(14), ImageFont.load_default(12)
    for i, panel in enumerate(panels):
        left, top = MARGIN + i % columns * width, MARGIN + i // columns * height
        picture = _frame(panel)
        sheet.paste(picture, (left + (CELL[0] - picture.width) // 2, top + (CELL[1] - picture.height) // 2))
        below = top + CELL[1] + MARGIN // 2
        for line, (text, font, colour) in enumerate(zip((panel.title, panel.note), fonts, (INK, FAINT), strict=True)):
            draw.text((left, below + line * LINE), _fitted(text, font), fill=colour, font=font)
    return sheet


def _frame(panel: Panel) -> Image.Image:
    frames = decode(panel.path, SamplingConfig(times_s=(panel.time_s,)), short_side=2 * CELL[1])
    picture = Image.fromarray(frames.pixels[0].permute(1, 2, 0).numpy())
    picture.thumbnail(CELL)
    return picture


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= CELL[0]:
        return text
    while text and font.getlength(f"{text}…") > CELL[0]:
        text = text[:-1]
    return f"{text.rstrip()}…"
