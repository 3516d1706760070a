"""A face is found where it is, while it is shown, and nowhere else."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from videollm.features.observe import find

PHOTO = Path(__file__).parent / "data/astronaut.jpg"
SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
SIZE = (640, 360)
LEFT, TOP = 300, 60  # of the photograph in the picture
FACE = (85, 20, 140, 95)  # in the photograph: left, top, right, bottom of the face from chin to hairline, by eye


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photograph from 2 s to 5 s, on grey."""
    path = tmp_path_factory.mktemp("faces") / "film.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for second in range(7):
            image = Image.new("RGB", SIZE, (110, 110, 110))
            if 2 <= second < 5:
                image.paste(Image.open(PHOTO), (LEFT, TOP))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.array(image))))
        output.mux(stream.encode())
    return path


def test_a_face_is_followed_while_it_is_shown(film: Path):
    found = find(film, ("faces",))
    assert found.senses == ("faces",) and not found.problems
    (face,) = found.of("face")
    assert (face.start_s, face.end_s, face.text, face.track) == (2, 5, "face", 1) and face.score > 0.7
    assert face.box is not None
    expected = [(LEFT + FACE[0]) / 640, (TOP + FACE[1]) / 360, (LEFT + FACE[2]) / 640, (TOP + FACE[3]) / 360]
    assert list(face.box) == pytest.approx(expected, abs=0.04)


def test_a_cat_has_no_human_face():
    assert find(SAMPLE, ("faces",)).found == ()
