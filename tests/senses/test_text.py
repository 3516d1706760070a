"""Rendered lines are read with their places and times."""

from pathlib import Path

import av
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from videollm.features.observe import find
from videollm.senses.text import TextSense

LINES = (("Grand Opening, 25 March", (60, 60)), ("Straße nach Köln 3,5 km", (100, 200)))
SIZE = (640, 360)
FONT = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")  # Pillow's own has no umlauts


def page(lines: tuple[tuple[str, tuple[int, int]], ...]) -> Image.Image:
    image = Image.new("RGB", SIZE, (30, 60, 90))
    for text, place in lines:
        ImageDraw.Draw(image).text(place, text, font=ImageFont.truetype(FONT, 28), fill="white")
    return image


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both lines for four seconds, then an empty picture for two."""
    path = tmp_path_factory.mktemp("text") / "film.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for lines in [LINES] * 4 + [()] * 2:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.array(page(lines)))))
        output.mux(stream.encode())
    return path


def test_lines_are_read_where_and_while_they_are_shown(film: Path):
    found = find(film, ("text",))
    assert found.senses == ("text",) and not found.problems
    assert [f.text for f in found.of("text")] == [text for text, _ in LINES]
    for line, (_, (x, y)) in zip(found.of("text"), LINES, strict=True):
        assert (line.start_s, line.end_s) == (0, 4) and line.score > 0.9
        assert line.box is not None
        left, top, _, bottom = line.box
        assert left == pytest.approx(x / SIZE[0], abs=0.03) and top < (y + 18) / SIZE[1] < bottom


def test_an_empty_picture_has_no_lines():
    assert TextSense().read(torch.full((3, 64, 64), 90, dtype=torch.uint8)) == []
