"""Contact sheets: images that show several frames with captions, such as search results or a storyboard."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from videollm.config import SamplingConfig
from videollm.video.decoding import decode

CELL = (320, 180)  # width and height of a frame in pixels; frames of another shape are scaled to fit
LINE_PX, MARGIN_PX = 18, 8
BACKGROUND, TITLE_COLOUR, NOTE_COLOUR = (250, 250, 250), (20, 20, 20), (110, 110, 110)  # RGB


@dataclass(frozen=True, slots=True)
class Panel:
    """A frame of a contact sheet.

    Args:
        path: The video.
        time_s: The time at which the frame is shown, in seconds.
        title: The first line below the frame.
        note: The second line, in smaller print.
    """

    path: str
    time_s: float
    title: str
    note: str = ""


def contact_sheet(panels: Sequence[Panel], columns: int = 4) -> Image.Image:
    """Returns an image of the panels in rows, in their order. Raises a `VideoError` if a frame cannot be read."""
    columns = max(1, min(columns, len(panels)))
    width, height = CELL[0] + MARGIN_PX, CELL[1] + 2 * LINE_PX + 2 * MARGIN_PX
    sheet = Image.new(
        "RGB", (columns * width + MARGIN_PX, math.ceil(len(panels) / columns) * height + MARGIN_PX), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    fonts = ImageFont.load_default(14), ImageFont.load_default(12)
    for i, panel in enumerate(panels):
        left, top = MARGIN_PX + i % columns * width, MARGIN_PX + i // columns * height
        picture = _frame(panel)
        sheet.paste(picture, (left + (CELL[0] - picture.width) // 2, top + (CELL[1] - picture.height) // 2))
        below = top + CELL[1] + MARGIN_PX // 2
        for line, (text, font, colour) in enumerate(
            zip((panel.title, panel.note), fonts, (TITLE_COLOUR, NOTE_COLOUR), strict=True)
        ):
            draw.text((left, below + line * LINE_PX), _fitted(text, font), fill=colour, font=font)
    return sheet


def _frame(panel: Panel) -> Image.Image:
    # Twice the height of a cell is decoded, so that scaling down keeps the frame sharp.
    frames = decode(panel.path, SamplingConfig(times_s=(panel.time_s,)), short_side=2 * CELL[1])
    picture = Image.fromarray(frames.pixels[0].permute(1, 2, 0).numpy())
    picture.thumbnail(CELL)
    return picture


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Returns the text, cut and ended by an ellipsis if it is wider than a cell."""
    if font.getlength(text) <= CELL[0]:
        return text
    while text and font.getlength(f"{text}…") > CELL[0]:
        text = text[:-1]
    return f"{text.rstrip()}…"
