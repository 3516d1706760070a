"""Sends damaged files to a real server: python scripts/fuzz_intake.py [--inputs 10000] [--seed 0] [--first 0]

Small clips and pictures of seven formats are damaged (bytes changed, ends cut off, parts exchanged, repeated, zeroed)
and sent, each in a request of its own, to a server of the debug model. Each must be answered in time with 200 or 4xx.
The server and its decoding process must survive, and their memory must not grow. Input N of a seed is the same every
time: `--first N --inputs 1` sends it again. The exit code is 0 if all of this holds, else 1.
"""

import argparse
import base64
import io
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import av
import httpx
import numpy as np
from PIL import Image
from serving import MiB, Served, serving

SIZE, FRAMES, RATE = (96, 64), 12, 12
AT_ONCE = 4
DECODE_S = 20
LIMIT_S = 2 * DECODE_S  # for a request, including the wait for another one that is being decoded
WARM = 50  # inputs after which memory is read for the first time
GROWTH = 0.05  # growth of memory that still counts as flat
CLIPS = {
    "mp4": ("libx264", "yuv420p", {}),
    "fragmented.mp4": ("libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("libx264", "yuv420p", {}),
    "webm": ("libvpx-vp9", "yuv420p", {}),
}
PICTURES = ("gif", "png", "jpg")


@dataclass(frozen=True, slots=True)
class Ended:
    """How an input was answered. status: the HTTP status, or what went wrong instead."""

    number: int
    name: str
    status: str
    code: str
    seconds: float

    @property
    def good(self) -> bool:
        return self.status.startswith(("2", "4")) and self.seconds <= LIMIT_S


def drawn(number: int) -> np.ndarray:
    """Returns a picture, uint8 (H,W,3), which differs for every number."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return np.stack([(x + 9 * number) % 256, (y * 4) % 256, (x * y + 31 * number) % 256], -1).astype(np.uint8)


def make_clip(folder: Path, name: str) -> bytes:
    codec, pixel_format, mux = CLIPS[name]
    path = folder / f"clip.{name}"
    with av.open(str(path), "w", options=mux) as container:
        stream = container.add_stream(codec, rate=RATE, options={"g": "6"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixel_format
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(number))))
        container.mux(stream.encode())
    return path.read_bytes()


def make_picture(name: str) -> bytes:
    first, *others = (Image.fromarray(drawn(number)) for number in range(FRAMES))
    file = io.BytesIO()
    if name == "gif":
        first.save(file, "GIF", save_all=True, append_images=others, duration=80)
    else:
        first.save(file, {"png": "PNG", "jpg": "JPEG"}[name])
    return file.getvalue()


def change_bytes(data: bytearray, rng: random.Random) -> None:
    """Changes a few or many bytes, in the header or anywhere."""
    end = min(len(data), rng.choice([64, 1024, len(data)]))
    for _ in range(rng.choice([1, 4, 32, 256])):
        data[rng.randrange(end)] = rng.choice([0, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 4, 32])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def span(data: bytearray, rng: random.Random) -> slice:
    start = rng.randrange(len(data))
    return slice(start, start + rng.choice([1, 4, 16, 256, 4096]))


def swap(data: bytearray, rng: random.Random) -> None:
    a, b = sorted((span(data, rng), span(data, rng)), key=lambda part: part.start)
    first, second = bytes(data[a]), bytes(data[b])
    data[b] = first
    data[a] = second


def repeat(data: bytearray, rng: random.Random) -> None:
    part = span(data, rng)
    data[part.start : part.start] = data[part] * rng.choice([1, 2, 50])


def remove(data: bytearray, rng: random.Random) -> None:
    del data[span(data, rng)]


def zero(data: bytearray, rng: random.Random) -> None:
    part = span(data, rng)
    data[part] = bytes(len(data[part]))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(change_bytes, change_bytes, flip_bits, flip_bits, cut, swap, swap, repeat, remove, zero),
)


def damaged(files: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Returns the format and the bytes of an input."""
    rng = random.Random(f"{seed}:{number}")
    name = rng.choice([*files])
    data = bytearray(files[name])
    for _ in range(rng.choice([1, 1, 2, 4])):
        rng.choice(DAMAGES)(data, rng)
        if not data:
            break
    return name, bytes(data)


def send(client: httpx.Client, number: int, name: str, data: bytes) -> Ended:
    """Sends a clip as a video and a picture as an image."""
    kind = "image" if name in PICTURES else "video"
    url = f"data:{kind}/{name};base64,{base64.b64encode(data).decode()}"
    body = {"model": "debug", "input": [{"type": f"{kind}_url", f"{kind}_url": {"url": url}}]}
    started, code = perf_counter(), ""
    try:
        answer = client.post("/v1/embeddings", json=body)
        status = str(answer.status_code)
        if answer.status_code != 200:
            error = answer.json()["error"]
            code = "worker killed" if "decoding it crashed" in error["message"] else error["code"]
    except httpx.TimeoutException:
        status = "no answer in time"
    except httpx.TransportError as error:
        status = type(error).__name__
    return Ended(number, name, status, code, perf_counter() - started)


def fuzz(server: Served, inputs: int, seed: int, first: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: make_clip(Path(folder), name) for name in CLIPS}
    files |= {name: make_picture(name) for name in PICTURES}
    started, before, ends = perf_counter(), 0, []
    with httpx.Client(base_url=server.url, timeout=LIMIT_S) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        for name, data in files.items():
            assert send(client, -1, name, data).status == "200", f"{name} is refused though nothing is wrong with it"
        numbers = range(first, first + inputs)
        for end in pool.map(lambda number: send(client, number, *damaged(files, seed, number)), numbers):
            ends.append(end)
            if len(ends) == min(WARM, inputs):
                before = server.memory()
    seconds, after = perf_counter() - started, server.memory()
    bad = [end for end in ends if not end.good]
    alive = server.alive and httpx.get(f"{server.url}/ready").status_code == 200
    restarts, left = int(server.metric("videollm_decoder_restarts")), server.left_over()

    print(f"{inputs} inputs, seed {seed}, in {seconds:.0f} s; {len(files)} formats, {AT_ONCE} requests at a time")
    for (status, code), count in sorted(Counter((end.status, end.code) for end in ends).items()):
        print(f"  {status} {code}".rstrip() + f": {count}")
    by_format = Counter(end.name for end in ends if end.status == "200")
    print("  decoded though damaged: " + ", ".join(f"{name} {by_format[name]}" for name in files))
    for end in bad:
        print(f"  BAD input {end.number} ({end.name}): {end.status} {end.code} after {end.seconds:.1f} s")
    print(f"crashes of the server: {0 if alive else 1}; of the process that decodes: {restarts}")
    slowest = max(ends, key=lambda end: end.seconds)
    hangs = sum(end.seconds > LIMIT_S for end in ends)
    print(f"hangs over {LIMIT_S} s: {hangs}; slowest input: {slowest.seconds:.2f} s ({slowest.name})")
    print(f"memory: {before / MiB:.0f} MiB after {min(WARM, inputs)} inputs, {after / MiB:.0f} MiB at the end")
    print(f"left behind: {', '.join(left) or 'nothing'}")
    return alive and not restarts and not bad and not left and after <= (1 + GROWTH) * before


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    options = parser.parse_args()
    # Features of so small videos never reach the default limit of their cache, which would look like a leak.
    limits = ("--features-bytes", str(MiB), "--decode-s", str(DECODE_S))
    with serving("--model", "debug", *limits) as server:
        good = fuzz(server, options.inputs, options.seed, options.first)
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
