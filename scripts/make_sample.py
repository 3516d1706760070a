"""Make the sample clips: photographs of scikit-image under a slowly moving camera, with a hard cut between them.

    python scripts/make_sample.py PHOTO_DIR scripts/samples

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
SPEECH = Path(__file__).parents[1] / "tests/senses/data"


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
    """A photograph, and where the camera moves over it in how many seconds."""

    photo: str
    start: CameraView
    end: CameraView
    seconds: int = 4


@dataclass(frozen=True)
class SampleClip:
    """Shots in order. speech: files of `SPEECH` that are heard one after the other."""

    shots: tuple[PhotoShot, ...]
    speech: tuple[str, ...] = ()


CLIPS = {
    "sample.mp4": SampleClip(
        (
            PhotoShot("chelsea.png", CameraView(0.50, 0.50, 0.99), CameraView(0.51, 0.48, 0.84)),
            PhotoShot("coffee.png", CameraView(0.44, 0.50, 0.86), CameraView(0.53, 0.48, 0.76)),
            PhotoShot("rocket.jpg", CameraView(0.50, 0.50, 0.60), CameraView(0.50, 0.50, 0.38)),
        )
    ),
    "reading.mp4": SampleClip(
        (PhotoShot("coffee.png", CameraView(0.45, 0.46, 0.60), CameraView(0.47, 0.46, 0.66), seconds=11),),
        ("austen-0870.ogg", "austen-0880.ogg"),
    ),
    "astronaut.mp4": SampleClip(
        (
            PhotoShot("astronaut.png", CameraView(0.50, 0.34, 0.98), CameraView(0.45, 0.34, 0.84)),
            PhotoShot("rocket.jpg", CameraView(0.50, 0.56, 0.42), CameraView(0.50, 0.46, 0.60)),
        )
    ),
}


def frames(clip: SampleClip) -> Iterator[tuple[PhotoShot, CameraView]]:
    """Yields the shot and the view of each frame. The camera starts and stops smoothly in each shot."""
    for shot in clip.shots:
        count = shot.seconds * FPS
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


def samples(clip: SampleClip) -> Iterator[av.AudioFrame]:
    for file in clip.speech:
        with av.open(str(SPEECH / file)) as source:
            for frame in source.decode(audio=0):
                frame.pts = None  # the encoder counts on from the file before
                yield frame


def write(clip: SampleClip, photos: Path, path: Path) -> None:
    opened = {shot.photo: Image.open(photos / shot.photo).convert("RGB") for shot in clip.shots}
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "slow", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono", bit_rate=48000) if clip.speech else None
        for i, (shot, view) in enumerate(frames(clip)):
            frame = av.VideoFrame.from_image(render(opened[shot.photo], view))
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for heard in samples(clip):
                container.mux(sound.encode(heard))
            container.mux(sound.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path, help="the folder of the clips")
    arguments = parser.parse_args()
    for name, clip in CLIPS.items():
        write(clip, arguments.photos, arguments.out / name)


if __name__ == "__main__":
    main()
