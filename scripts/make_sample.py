"""Make the sample clip: photographs of scikit-image under a slowly moving camera, cut hard from one to the next.

    python scripts/make_sample.py PHOTO_DIR scripts/samples/sample.mp4

PHOTO_DIR is `skimage/data` of an unpacked scikit-image wheel.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

WIDTH, HEIGHT, FPS = 480, 320, 24
SHOT_S = 4


@dataclass(frozen=True)
class View:
    """What the camera sees of a photograph: the middle and the width of its picture, as shares of the photograph's."""

    x: float
    y: float
    width: float

    def towards(self, other: "View", t: float) -> "View":
        return View(
            x=self.x + (other.x - self.x) * t,
            y=self.y + (other.y - self.y) * t,
            width=self.width + (other.width - self.width) * t,
        )


@dataclass(frozen=True)
class Shot:
    photo: str
    start: View
    end: View


SHOTS = (
    Shot("chelsea.png", View(0.50, 0.50, 0.99), View(0.51, 0.48, 0.84)),
    Shot("coffee.png", View(0.44, 0.50, 0.86), View(0.53, 0.48, 0.76)),
    Shot("rocket.jpg", View(0.50, 0.50, 0.60), View(0.50, 0.50, 0.38)),
)


def frames() -> Iterator[tuple[Shot, View]]:
    """Each frame's shot and view; the camera speeds up and slows down smoothly within a shot."""
    count = SHOT_S * FPS
    for shot in SHOTS:
        for i in range(count):
            t = i / (count - 1)
            yield shot, shot.start.towards(shot.end, t * t * (3 - 2 * t))


def render(photo: Image.Image, view: View) -> Image.Image:
    scale = view.width * photo.width / WIDTH
    left = view.x * photo.width - scale * WIDTH / 2
    top = view.y * photo.height - scale * HEIGHT / 2
    return photo.transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, (scale, 0, left, 0, scale, top), Image.Resampling.BICUBIC
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("clip", type=Path)
    arguments = parser.parse_args()
    photos = {shot.photo: Image.open(arguments.photos / shot.photo).convert("RGB") for shot in SHOTS}
    with av.open(str(arguments.clip), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "slow", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i, (shot, view) in enumerate(frames()):
            frame = av.VideoFrame.from_image(render(photos[shot.photo], view))
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
