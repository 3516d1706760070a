"""Watches an hour of stream time in accelerated play and reads the memory: python scripts/soak_live.py [--minutes 60]

The source is a file of changing scenes that the script makes. `videollm watch` plays it as fast as the machine can,
with the model `debug` by default. The exit code is 0 if every segment was reported and memory stayed flat, else 1: the
median of the last third of the time, in which the ring is full, may exceed that of the middle third by 5 %.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic

import av
import numpy as np
import psutil

MiB = 1 << 20
FPS, SIDE = 2, 64
SCENE_S = 10
GROWTH = 0.05
EVERY_S = 0.25


def write_source(path: Path, seconds: int) -> None:
    """Writes scenes of noise in changing colours."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=FPS, options={"g": str(FPS * SCENE_S), "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        for second in range(0, seconds, SCENE_S):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8).repeat(SIDE // 8, 0).repeat(SIDE // 8, 1)
            for _ in range(FPS * min(SCENE_S, seconds - second)):
                output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        output.mux(video.encode(None))


def memory_of(process: subprocess.Popen[str]) -> int:
    """Returns the resident bytes of the command and of the process that reads the source."""
    try:
        own = psutil.Process(process.pid)
        return sum(one.memory_info().rss for one in (own, *own.children()))
    except psutil.NoSuchProcess:
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="of stream time")
    parser.add_argument("--model", default="debug")
    options = parser.parse_args()
    seconds = round(60 * options.minutes)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "stream.mp4"
        write_source(source, seconds)
        command = [sys.executable, "-m", "videollm.cli", "watch", str(source), "--speed", "10000", "--json"]
        command += ["--model", options.model, "--when", "a circle appears"]
        memory: list[int] = []
        watched_s = 0.0
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            ended = threading.Event()

            def read_memory() -> None:
                while not ended.wait(EVERY_S):
                    memory.append(memory_of(process))

            reading = threading.Thread(target=read_memory)
            assert process.stdout is not None
            segments, started = 0, 0.0
            for line in process.stdout:
                if json.loads(line)["event"] != "segment":
                    continue
                segments += 1
                if segments == 1:
                    started = monotonic()
                    reading.start()
            watched_s = monotonic() - started
            ended.set()
            reading.join()
    memory = [value for value in memory if value]
    third = max(1, len(memory) // 3)
    middle, last = (statistics.median(part) for part in (memory[third : 2 * third] or memory, memory[-third:]))
    least = seconds // SCENE_S
    print(f"{options.minutes:g} minutes of stream time in {watched_s:.1f} s: {segments} segments of {options.model}")
    print(f"memory: middle third {middle / MiB:.1f} MiB, last third {last / MiB:.1f} MiB ({last / middle - 1:+.1%})")
    good = process.returncode == 0 and segments >= least and last <= (1 + GROWTH) * middle
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
