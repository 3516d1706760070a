"""An overview picture of a split: for each clip frames over time, their times, and the annotation."""

import textwrap
from itertools import islice
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videollm.datasets.world_annotation import WorldAnnotation, read_world

_CLIPS = 16
_COLUMNS = 2
_FRAMES = 8
_SIDE = 96  # pixels of a frame on the sheet
_TEXT = 72  # pixels of height under each row of frames
_LETTERS = 120  # that fit in a line below a clip
_LINES = 2  # for the facts, and as many for the caption


def write_sheet(folder: Path) -> Path:
    """Writes contact_sheet.png into the folder of a split, from the files in it, and returns its path."""
    rows = list(islice(read_world(folder), _CLIPS))
    font = ImageFont.load_default(11)
    width = _FRAMES * _SIDE + 12
    sheet = Image.new("RGB", (_COLUMNS * width, -(-len(rows) // _COLUMNS) * (_SIDE + _TEXT)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        left, top = number % _COLUMNS * width, number // _COLUMNS * (_SIDE + _TEXT)
        for column, (time_s, picture) in enumerate(_spread(folder / row.video)):
            sheet.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (left + column * _SIDE, top))
            draw.text((left + column * _SIDE + 3, top + 1), f"{time_s:.2f}", fill="red", font=font)
        texts = (_facts(row), row.captions["en"].short)
        written = [line for text in texts for line in textwrap.wrap(text, _LETTERS, max_lines=_LINES)]
        for line, text in enumerate(written):
            draw.text((left + 3, top + _SIDE + 2 + 16 * line), text, fill="black", font=font)
    path = folder / "contact_sheet.png"
    sheet.save(path)
    return path


def _facts(row: WorldAnnotation) -> str:
    actions = ", ".join(f"{event.kind} {event.start_s:.1f}-{event.end_s:.1f}" for event in row.events)
    facts = ", ".join(filter(None, (row.style, *row.background, row.perturbation)))
    paired = f" (with {row.order_pair})" if row.order_pair else ""
    return f"{row.id}{paired}: {facts}; {actions}"


def _spread(video: Path) -> list[tuple[float, Image.Image]]:
    """Evenly spaced frames from the first to the last, with their times in seconds."""
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
    chosen = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
    return [(float(frames[k].time or 0), frames[k].to_image()) for k in chosen]
