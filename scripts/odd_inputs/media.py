"""Clips of twelve frames whose container claims odd times, tags and sizes, and pictures of odd forms.

Right is what was drawn: frame n has a grey of its own, so that its number can be read from what is decoded.
"""

import io
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from videollm.config import SamplingConfig
from videollm.errors import VideoError
from videollm.video import decode, probe

FRAMES, RATE = 12, 12
CONTAINERS = {"mkv": "libx264", "mp4": "libx264", "mov": "libx264", "ts": "mpeg2video", "avi": "mpeg4", "nut": "mpeg4"}
SIZES = ((96, 64), (64, 96), (16, 16), (640, 48), (66, 6), (96, 64))
TAGS = ("", "x", "1", "00:00:01.0", "01:00:03.000000000", "inf", "-1", "00:00:0x", "9" * 40, "1:2:3:4", "é\u2028")
SUFFIXES = ("DURATION", "duration", "title", "rotate", "creation_time", "NUMBER_OF_FRAMES", "timecode")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")
EVERY = SamplingConfig(fps=1000, max_frames=100)


class Media:
    """Makes clips from frames that are encoded once for each container and size."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.clips: dict[tuple[str, tuple[int, int]], Path] = {}

    def check(self, rng: random.Random) -> str:
        """Makes an input and looks at it. Returns how it ended; AssertionError if that is wrong."""
        return self._check_picture(rng) if rng.random() < 0.25 else self._check_clip(rng)

    def _check_clip(self, rng: random.Random) -> str:
        name, size = rng.choice([*CONTAINERS]), rng.choice(SIZES)
        ticks, is_plain = _times(rng)
        is_plain = is_plain and (name != "avi" or ticks[0] == 0)  # AVI has no start: its first frame would stay at 0
        path = self.folder / f"odd.{name}"
        try:
            self._write(path, name, size, ticks, rng)
        except (av.FFmpegError, OverflowError) as error:  # the container cannot hold such times
            return f"not written: {type(error).__name__}"
        try:
            info, frames = probe(path), decode(path, EVERY)
        except VideoError as error:
            assert not is_plain, f"{name} with usual times is refused: {error.reason}"
            return type(error).__name__
        times, numbers = frames.times_s.numpy(), [_number(image) for image in frames.pixels.numpy()]
        assert np.isfinite(times).all() and times[0] >= 0 and (np.diff(times) > 0).all(), f"times {times}"
        assert 0 < info.duration_s < 1e9 and times[-1] <= info.duration_s + 1e-6, f"duration {info.duration_s}, {times}"
        assert (info.width, info.height) == size, f"size {info.width}x{info.height} of {size}"
        if is_plain:
            assert numbers == list(range(FRAMES)) and frames.lost == 0, f"{name}: frames {numbers}, lost {frames.lost}"
            assert abs(info.duration_s - FRAMES / RATE) < 0.1, f"{name}: duration {info.duration_s}"
        return "right" if is_plain else "read"

    def _write(self, path: Path, name: str, size: tuple[int, int], ticks: list[int], rng: random.Random) -> None:
        with av.open(str(self.encoded(name, size))) as read, av.open(str(path), "w") as output:
            stream = output.add_stream_from_template(read.streams.video[0])
            for part in (stream.metadata, output.metadata):
                part.update({rng.choice(SUFFIXES): rng.choice(TAGS) for _ in range(rng.choice((0, 1, 3)))})
            packets = [packet for packet in read.demux(video=0) if packet.size]
            for packet, tick in zip(packets, ticks, strict=True):
                packet.time_base, packet.pts, packet.dts = Fraction(1, RATE), tick, tick
                packet.duration, packet.stream = 1, stream
                output.mux(packet)

    def encoded(self, name: str, size: tuple[int, int]) -> Path:
        if (name, size) not in self.clips:
            path = self.folder / f"whole-{size[0]}x{size[1]}.{name}"
            with av.open(str(path), "w") as container:
                stream = container.add_stream(CONTAINERS[name], rate=24 if name == "ts" else RATE)
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.codec_context.max_b_frames, stream.codec_context.gop_size = 0, 4
                for number in range(FRAMES):
                    grey = np.full((size[1], size[0], 3), 20 + 18 * number, np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
                container.mux(stream.encode())
            self.clips[name, size] = path
        return self.clips[name, size]

    def _check_picture(self, rng: random.Random) -> str:
        mode, size = rng.choice(MODES), (rng.choice((1, 7, 64, 300)), rng.choice((1, 7, 64)))
        kind = rng.choice(("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"))
        picture, file = Image.new(mode, size, 1), io.BytesIO()
        try:
            picture.save(file, kind, **rng.choice(({}, {"quality": 5}, {"dpi": (0, 1)})))
        except (OSError, ValueError):  # the format does not have this mode
            return "not written"
        path = self.folder / f"odd.{rng.choice((kind.lower(), 'mp4', 'jpg'))}"
        path.write_bytes(file.getvalue())
        try:
            frames = decode(path, EVERY)
        except VideoError as error:
            return type(error).__name__
        assert (frames.info.width, frames.info.height) == size, f"{kind} {mode} {size}: {frames.info}"
        assert len(frames) == 1, f"{kind} {mode} {size}: {len(frames)} frames"
        return "right"


def _times(rng: random.Random) -> tuple[list[int], bool]:
    """Returns when the frames are shown, in frames, and whether these are times that any file may have."""
    start = rng.choice((0, 0, 0, 1, 60, 12 * 3600, -6, 12 * 86400 * 365, 2**40))
    ticks = [start + n for n in range(FRAMES)]
    match rng.choice(("plain", "plain", "gap", "back", "same", "mixed")):
        case "gap":
            at, by = rng.randrange(1, FRAMES), rng.choice((1, 12, 12 * 3600, 12 * 86400 * 365, 2**33))
            ticks = ticks[:at] + [tick + by for tick in ticks[at:]]
        case "back":
            at = rng.randrange(1, FRAMES)
            ticks = ticks[:at] + [tick - rng.choice((at, 1, 5)) for tick in ticks[at:]]
        case "same":
            ticks = [start + n // 2 for n in range(FRAMES)]
        case "mixed":
            rng.shuffle(ticks)
        case _:
            return ticks, 0 <= start <= 60
    return ticks, False


def _number(image: np.ndarray) -> int:
    return round((float(image.mean()) - 20) / 18)
