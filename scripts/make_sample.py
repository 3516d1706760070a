"""Make the sample clip: three photographs of scikit-image under a slowly moving camera, with a hard cut between them.

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
SHOT_S = 4  # seconds


@dataclass(frozen=True)
class CameraView:
    """The part of a photograph that the camera sees: its middle and its width, as shares of the photograph's size."""

    x: float
    y: float
    width: float

    def towards(self, other: "CameraView", t: float) -> "CameraView":
        return CameraView(
            x=self.x + (other.x - self.x) * t,
            y=self.y + (other.y - self.y) * t,
            width=self.width + (other.width - self.width) * t,
        )


@dataclass(frozen=True)
class PhotoShot:
    """A photograph, and where the camera moves over it."""

    photo: str
    start: CameraView
    end: CameraView


SHOTS = (
    PhotoShot("chelsea.png", CameraView(0.50, 0.50, 0.99), CameraView(0.51, 0.48, 0.84)),
    PhotoShot("coffee.png", CameraView(0.44, 0.50, 0.86), CameraView(0.53, 0.48, 0.76)),
    PhotoShot("rocket.jpg", CameraView(0.50, 0.50, 0.60), CameraView(0.50, 0.50, 0.38)),
)


def frames() -> Iterator[tuple[PhotoShot, CameraView]]:
    """Yields the shot and the view of each frame. The camera starts and stops smoothly in each shot."""
    count = SHOT_S * FPS
    for shot in SHOTS:
        for i in range(count):
            t = i / (count - 1)
            yield shot, shot.start.towards(shot.end, t * t * (3 - 2 * t))


def render(photo: Image.Image, view: CameraView) -> Image.Image:
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
