"""Rendered lines are read with their places and times."""

from pathlib import Path

import av
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from videollm.features.observe import find
from videollm.senses.finding import Finding
from videollm.senses.text import TextSense, _is_same_line

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


def test_another_text_at_the_same_place_is_another_line_and_a_worse_reading_is_not():
    def line(text: str, left: float = 0.1) -> Finding:
        return Finding(start_s=0, end_s=1, kind="text", text=text, score=0.9, box=(left, 0.8, left + 0.4, 0.9))

    assert _is_same_line(line("shutterstock"), line("shuttarstock", 0.12))
    assert not _is_same_line(line("Where are you going?"), line("To the harbour."))
    assert not _is_same_line(line("EXIT 12", 0.1), line("EXIT 13", 0.6))
