"""Memory and time of reading long videos: python scripts/bench/long_video.py [--minutes 5 20 60]

The script encodes 20 seconds of 720p H.264, repeats the packets up to each length, and streams each file through
`iter_frames` at two frames a second in a process of its own. It prints one line for each length: frames, seconds, and
peak resident memory.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import av
import numpy as np

from videollm.config import SamplingConfig
from videollm.video import iter_frames

SIZE, RATE, CLIP_S = (1280, 720), 30, 20


def encode_clip(path: Path) -> None:
    """A textured picture that drifts and changes brightness, with some noise: so that it is neither trivial nor
    incompressible."""
    noise, (width, height) = np.random.default_rng(0), SIZE
    rough = noise.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    texture = np.kron(rough, np.ones((20, 20, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(CLIP_S * RATE):
            picture = np.roll(texture, (2 * i, 3 * i), (0, 1)) // 2 + noise.integers(0, 24, texture.shape, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def repeat_clip(clip: Path, path: Path, minutes: int) -> None:
    with av.open(str(path), "w") as output:
        target = None
        for turn in range(minutes * 60 // CLIP_S):
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                target = target or output.add_stream_from_template(stream)
                offset = int(turn * CLIP_S / (stream.time_base or Fraction(1, 1)))
                for packet in source.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = target
                    output.mux(packet)


def read(path: str, fps: float, short_side: int) -> None:
    start = perf_counter()
    frames = sum(len(part) for part in iter_frames(path, SamplingConfig(fps=fps), short_side=short_side))
    seconds = perf_counter() - start
    size, peak = Path(path).stat().st_size / 2**20, peak_bytes() / 2**30
    print(f"{frames:6} frames  {size:7.0f} MiB file  {seconds:7.1f} s  {peak:5.2f} GiB peak", flush=True)


def peak_bytes() -> int:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, nargs="+", default=[5, 20, 60])
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--short-side", type=int, default=224)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        encode_clip(clip)
        for minutes in arguments.minutes:
            path = Path(folder) / "long.mp4"
            repeat_clip(clip, path, minutes)
            print(f"{minutes:3} min", end="  ", flush=True)
            process = spawn.Process(target=read, args=(str(path), arguments.fps, arguments.short_side))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
