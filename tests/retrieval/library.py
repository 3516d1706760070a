"""Small collections of videos for tests, whose pictures differ from file to file and from second to second."""

from pathlib import Path

import av
import numpy as np


def write_film(
    path: Path, colours: list[tuple[int, int, int]], *, size: tuple[int, int] = (96, 64), crf: int = 18
) -> Path:
    """A second of each colour, four pictures a second, with a pattern that the colour decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=4, options={"crf": str(crf)})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for colour in colours:
            for shift in range(4):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(colour, shift, size))))
        output.mux(stream.encode())
    return path


def picture(colour: tuple[int, int, int], shift: int = 0, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """uint8 (H,W,3): smooth blobs in two shades, the same for the same colour at any size."""
    rng = np.random.default_rng(sum(c << 8 * i for i, c in enumerate(colour)))
    y, x = np.mgrid[0 : 1 : size[1] * 1j, 0 : 1 : size[0] * 1j]
    waves = sum(
        np.sin(2 * np.pi * (fx * x + fy * y) + phase + 0.02 * shift) for fx, fy, phase in rng.uniform(-2.5, 2.5, (6, 3))
    )
    shade = (np.asarray(waves) / 6 + 1) / 2
    return (np.array(colour) * (0.3 + 0.7 * shade[..., None])).clip(0, 255).astype(np.uint8)


RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 40), (30, 60, 220), (230, 230, 230)


def some_colours(seed: int, seconds: int) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(20, 255, 3).tolist()) for _ in range(seconds)]
