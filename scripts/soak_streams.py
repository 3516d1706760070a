"""Watches cameras through a real server for minutes:

    python scripts/soak_streams.py [--streams 4] [--minutes 30] [--sound FILE]

The cameras are live playlists of a film in 720p at 25 frames a second, which the script publishes on loopback. A client
for each stream reads its events, and another one asks what is to be seen now, of one stream after the other. The script
reads lag, dropped frames and the server's memory every second. The exit code is 0 if every stream was watched all the
time, every question was answered about now, lag and drops stayed within their limits and memory stayed flat, else 1:
the median of the last third of the time may exceed that of the middle third by 5 %.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from time import perf_counter, time
from typing import Any

import av
import httpx
import torch
from live_sources import HLSServer
from serving import MiB, Served, medians_of_thirds, percentile, serving

from videollm.video.audio import SAMPLE_RATE, iter_audio

SAMPLE = Path(__file__).parent / "samples" / "sample.mp4"
WIDTH, HEIGHT, RATE = 1280, 720, 25
FPS = 1  # that are looked at
ASK_S = 5  # between two questions
NOW_S = 8  # that a question is about
OLD_S = 30  # how long before a question the beginning of what its answer is about may be
MAX_LAG_S = 2.0  # at the 99th percentile
MAX_DROPPED = 0.01  # share of the frames
LEAST_FRAMES = 0.95  # of those that the time has
START_S = 120
GROWTH = 0.05


@dataclass
class Seen:
    events: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)  # of streams, when they were read
    answered_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def write_film(path: Path, seconds: int, container: str, *, sound: Path | None = None, **options: str) -> None:
    """Writes the sample again and again in 720p, with a key frame a second, and the sound of a file again and again."""
    with av.open(str(path), "w", format=container, options=options) as output:
        video = output.add_stream("libx264", rate=RATE, options={"g": str(RATE), "preset": "ultrafast", "bf": "0"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio: Any = output.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound is not None else None
        if sound is not None:
            said = torch.cat([piece.samples for piece in iter_audio(sound)])
            samples = said.repeat(-(-seconds * SAMPLE_RATE // len(said)))[: seconds * SAMPLE_RATE]
        number = 0
        while number < seconds * RATE:
            with av.open(str(SAMPLE)) as source:
                for frame in source.decode(video=0):
                    if number == seconds * RATE:
                        break
                    scaled = frame.reformat(WIDTH, HEIGHT, "yuv420p")
                    scaled.pts, scaled.time_base = number, 1 / video.codec_context.framerate
                    output.mux(video.encode(scaled))
                    if audio is not None:
                        at = number * SAMPLE_RATE // RATE
                        part = samples[at : at + SAMPLE_RATE // RATE].numpy()[None]
                        heard = av.AudioFrame.from_ndarray(part, "fltp", "mono")
                        heard.rate, heard.pts, heard.time_base = SAMPLE_RATE, at, Fraction(1, SAMPLE_RATE)
                        output.mux(audio.encode(heard))
                    number += 1
        for stream in filter(None, (video, audio)):
            output.mux(stream.encode(None))


async def listen(client: httpx.AsyncClient, stream: str, seen: Seen) -> None:
    async with client.stream("GET", f"/v1/streams/{stream}/events", timeout=None) as response:
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                seen.events[line.removeprefix("event: ")] += 1


async def ask(client: httpx.AsyncClient, model: str, stream: str, seen: Seen) -> None:
    video = {"type": "video_url", "video_url": {"url": f"stream://{stream}?last={NOW_S}"}}
    content = [video, {"type": "text", "text": "What is in this video?"}]
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 32}
    started, asked = perf_counter(), time()
    try:
        response = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        seen.wrong.append(f"lost: {type(error).__name__} {error}")
        return
    if response.status_code != 200:
        seen.wrong.append(f"status {response.status_code}: {response.text}")
        return
    seen.answered_s.append(perf_counter() - started)
    age_s = asked - datetime.fromisoformat(response.json()["receipt"]["videos"][0]["starts_at"]).timestamp()
    if age_s > OLD_S:
        seen.wrong.append(f"an answer about what began {age_s:.0f} s before the question")


async def ask_in_turn(client: httpx.AsyncClient, model: str, streams: list[str], seen: Seen) -> None:
    number = 0
    while True:
        await ask(client, model, streams[number % len(streams)], seen)
        number += 1
        await asyncio.sleep(ASK_S)


async def read(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get("/v1/streams")).json()["data"]


async def soak(server: Served, model: str, cameras: list[str], seconds: float) -> tuple[Seen, Counter[str]]:
    """Returns what was seen, and the counts of all streams over this time."""
    seen, counts = Seen(), Counter[str]()
    async with httpx.AsyncClient(base_url=server.url, timeout=START_S) as client:
        bodies = [{"source": name, "fps": FPS, "when": ["a dog appears"]} for name in cameras]
        streams = [(await client.post("/v1/streams", json=body)).raise_for_status().json()["id"] for body in bodies]
        # Segments are there when the first questions come, and the model has been warmed up by the first answers.
        async with asyncio.timeout(START_S):
            while not all(stream["segments"] for stream in await read(client)):
                await asyncio.sleep(0.5)
        for stream in streams:
            await ask(client, model, stream, Seen())
        counts.subtract(totals(await read(client)))
        tasks = [asyncio.create_task(listen(client, stream, seen)) for stream in streams]
        tasks.append(asyncio.create_task(ask_in_turn(client, model, streams, seen)))
        end = perf_counter() + seconds
        while perf_counter() < end:
            now = await read(client)
            seen.states.update(stream["status"] for stream in now)
            seen.lag_s += [stream["lag_s"] for stream in now]
            seen.memory.append(await asyncio.to_thread(server.memory))
            await asyncio.sleep(1)
        counts.update(totals(await read(client)))
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for stream in streams:
            (await client.delete(f"/v1/streams/{stream}")).raise_for_status()
    return seen, counts


def totals(streams: list[dict[str, Any]]) -> Counter[str]:
    return sum((Counter(stream["counts"]) for stream in streams), Counter())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--sound", type=Path, metavar="FILE", help="what the cameras hear, again and again")
    options = parser.parse_args()
    names = [f"camera{number}" for number in range(options.streams)]
    with tempfile.TemporaryDirectory() as folder:
        hls = HLSServer(Path(folder), partial(write_film, sound=options.sound))
        cameras = [part for name in names for part in ("--camera", f"{name}={hls.url}")]
        with serving("--model", options.model, "--streams", str(len(names)), *cameras) as server:
            seen, counts = asyncio.run(soak(server, options.model, names, 60 * options.minutes))
        hls.close()

    start, middle, end = medians_of_thirds(seen.memory)
    expected = 60 * options.minutes * len(names) * FPS
    dropped = counts["dropped"] / max(1, counts["dropped"] + counts["frames"])
    lag = [percentile(seen.lag_s, at) for at in (0.5, 0.99, 1)]
    print(f"{len(names)} streams of {HEIGHT}p, {options.minutes:g} minutes, model {options.model}")
    print(f"frames looked at: {counts['frames']} of {expected:.0f}, dropped: {counts['dropped']} ({dropped:.2%})")
    print(", ".join(f"{name}: {counts[name]}" for name in ("lost", "late", "jumps", "reconnects")))
    print("lag: " + ", ".join(f"{name} {value:.2f} s" for name, value in zip(("p50", "p99", "max"), lag, strict=True)))
    print(f"events read: {json.dumps(seen.events)}; states: {json.dumps(seen.states)}")
    answered = [percentile(seen.answered_s, at) for at in (0.5, 0.99)]
    print(f"questions answered: {len(seen.answered_s)}, p50 {answered[0]:.2f} s, p99 {answered[1]:.2f} s")
    print(f"questions not answered about now: {len(seen.wrong)}")
    for line in seen.wrong[:10]:
        print(f"  {line}")
    print("memory, MiB: " + ", ".join(f"{part / MiB:.0f}" for part in (start, middle, end)))
    failures = {
        "a stream was not watched": set(seen.states) != {"connected"} or not seen.events["segment"],
        "a question was not answered": bool(seen.wrong) or not seen.answered_s,
        "frames are missing": counts["frames"] < LEAST_FRAMES * expected or dropped > MAX_DROPPED,
        f"lag is above {MAX_LAG_S:g} s": lag[1] >= MAX_LAG_S,
        "memory grew": end > (1 + GROWTH) * middle,
    }
    print(
        "FAILED: " + "; ".join(name for name, failed in failures.items() if failed)
        if any(failures.values())
        else "passed"
    )
    return int(any(failures.values()))


if __name__ == "__main__":
    sys.exit(main())
