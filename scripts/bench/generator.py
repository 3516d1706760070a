"""How close data generation with a language model comes to what the delay of its server allows, in requests a second.

    python scripts/bench/generator.py [--requests 6400] [--in-flight 64] [--delay 0.2]

The server is `scripts/stand_in.py`, in a process of its own. The ideal is in-flight / delay, which is 320 a second.
"""

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from data_gen.generators.llm import LlmGenerator
from videollm.datasets.clip import Clip, Note
from videollm.inference.openai import ChatClient

ITEM = "qa_spatial"


async def measure(url: str, requests: int, in_flight: int) -> float:
    """Seconds for so many requests, including the writing of prompts and the reading of replies."""
    notes = (Note(kind="short", text="A man opens the door and lets his dog out into the garden."),)
    clips = iter(Clip(id=str(n), video=Path("v.mp4"), source="bench", notes=notes) for n in range(requests))
    async with ChatClient(url, "stand-in", concurrency=in_flight) as client:
        generator = LlmGenerator(client)

        async def worker() -> None:
            for clip in clips:
                assert (await generator.make(clip, ITEM)).drafts

        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker())
        return perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=6400)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that the server takes to answer")
    options = parser.parse_args()
    command = [sys.executable, str(Path(__file__).parents[1] / "stand_in.py"), "--delay", str(options.delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            seconds = asyncio.run(measure(server.stdout.readline().strip(), options.requests, options.in_flight))
        finally:
            server.kill()
    ideal, reached = options.in_flight / options.delay, options.requests / seconds
    print(
        f"{options.requests} requests in {seconds:.1f} s: {reached:.0f} a second, {reached / ideal:.0%} of {ideal:.0f}"
    )


if __name__ == "__main__":
    main()
