"""Loads a real server with many clients for minutes: python scripts/soak.py [--clients 200] [--minutes 5]

Every client asks one question after another about one of several videos. A client that is refused tries again after
once to twice the time that the refusal names. Every fourth answer is read as a stream, and every twentieth is abandoned
after its first piece. The model is `debug` with a seed for each question, so that all answers differ: each must equal
the answer to the same question asked alone. The script counts answers, refusals, losses and mix-ups, and reads the
server's memory. The exit code is 0 if nothing was lost or mixed up and memory stayed flat, else 1.
"""

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
from serving import MiB, Served, medians_of_thirds, percentile, serving

SAMPLE = Path(__file__).parent / "samples" / "sample.mp4"
VIDEOS, QUESTIONS = 5, 60
TOKENS = 16
COMING_S = 2  # over which the clients start
TIMEOUT_S = 120
REJECT_S = 0.1  # longest refusal, at the 99th percentile
WARM = 0.1  # share of the time before memory counts
GROWTH = 0.05  # growth of memory that still counts as flat


@dataclass
class Seen:
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    rejected_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)  # of the clients' own event loop
    memory: list[int] = field(default_factory=list)  # every second


def clip(number: int) -> bytes:
    """Returns the sample with another hash: a `free` box, which players skip, is appended."""
    box = f"{number:016d}".encode()
    return SAMPLE.read_bytes() + (8 + len(box)).to_bytes(4, "big") + b"free" + box


def upload(server: Served) -> list[str]:
    answers = [
        httpx.post(f"{server.url}/v1/files", data={"purpose": "vision"}, files={"file": (f"{n}.mp4", clip(n))})
        for n in range(VIDEOS)
    ]
    return [answer.raise_for_status().json()["id"] for answer in answers]


def question(number: int, files: list[str]) -> dict[str, Any]:
    """Returns the body of a request, about one video, several or none."""
    about = {0: [], 1: files[:2]}.get(number % 10, [files[number % VIDEOS]])
    content = [{"type": "video_url", "video_url": {"url": file}} for file in about]
    text = {"type": "text", "text": f"Marker {number}: what is it?"}
    messages = [{"role": "user", "content": [*content, text]}]
    return {"model": "debug", "messages": messages, "max_tokens": TOKENS, "temperature": 2, "seed": number}


async def ask(client: httpx.AsyncClient, body: dict[str, Any], leave: bool, seen: Seen) -> tuple[str, float]:
    """Returns the answer ("" if there is none), and the seconds to wait if the server is full."""
    started, text = perf_counter(), ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code == 429:
            seen.rejected_s.append(perf_counter() - started)
            seen.ends["rejected"] += 1
            return "", float(response.headers["Retry-After"])
        if response.status_code != 200:
            raise httpx.RequestError(f"status {response.status_code}: {await response.aread()}")
        if not body.get("stream"):
            text = json.loads(await response.aread())["choices"][0]["message"]["content"]
        else:
            lines = [line[6:] async for line in pieces(response, leave) if line.startswith("data: ")]
            if leave:
                seen.ends["left by the client"] += 1
                return "", 0.0
            if lines[-1] != "[DONE]":
                raise httpx.RequestError(f"the stream ended with {lines[-1]}")
            choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
            text = "".join(choice["delta"].get("content") or "" for choice in choices)
    seen.answered_s.append(perf_counter() - started)
    return text, 0.0


async def pieces(response: httpx.Response, first: bool) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        yield line
        if first and line:
            return


async def one_client(
    client: httpx.AsyncClient, number: int, end: float, bodies: list[dict[str, Any]], expected: list[str], seen: Seen
) -> None:
    rng = random.Random(number)
    await asyncio.sleep(rng.uniform(0, COMING_S))
    while perf_counter() < end:
        marker, kind = rng.randrange(QUESTIONS), rng.random()
        leave = kind < 0.05
        body = bodies[marker] | ({"stream": True} if kind < 0.3 else {})
        try:
            text, wait_s = await ask(client, body, leave, seen)
        except httpx.HTTPError as error:
            seen.ends["lost"] += 1
            seen.wrong.append(f"lost: {type(error).__name__} {error}")
            continue
        if wait_s:
            await asyncio.sleep(wait_s * rng.uniform(1, 2))
        elif not leave:
            right = text == expected[marker]
            seen.ends["answered" if right else "mixed up"] += 1
            if not right:
                whose = [other for other, one in enumerate(expected) if one == text]
                seen.wrong.append(f"mixed up: marker {marker} got {text!r}, which belongs to {whose or 'none'}")


async def watch(server: Served, seen: Seen) -> None:
    while True:
        seen.memory.append(await asyncio.to_thread(server.memory))
        started = perf_counter()
        await asyncio.sleep(1)
        seen.late_s.append(perf_counter() - started - 1)


async def soak(server: Served, clients: int, seconds: float) -> Seen:
    bodies, seen = [question(number, files) for files in [upload(server)] for number in range(QUESTIONS)], Seen()
    unlimited = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S, limits=unlimited) as client:
        expected = [(await ask(client, body, False, Seen()))[0] for body in bodies]
        assert len(set(expected)) == QUESTIONS, "two questions have the same answer"
        end = perf_counter() + seconds
        watching = asyncio.create_task(watch(server, seen))
        await asyncio.gather(*(one_client(client, n, end, bodies, expected, seen) for n in range(clients)))
        watching.cancel()
    return seen


def spread(seconds: list[float]) -> str:
    return ", ".join(f"{name} {1000 * percentile(seconds, at):.0f} ms" for name, at in (("p50", 0.5), ("p99", 0.99)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    # What is kept of prompts fills up before memory is read for the first time.
    with serving("--model", "debug", "--prefix-bytes", str(16 * MiB)) as server:
        seen = asyncio.run(soak(server, options.clients, 60 * options.minutes))
        active, left = int(server.metric("videollm_requests_active")), server.left_over()

    memory = seen.memory[int(WARM * len(seen.memory)) :]
    start, middle, end = medians_of_thirds(memory)
    sent = sum(seen.ends.values())
    print(f"{options.clients} clients, {options.minutes:g} minutes, {sent} requests, {QUESTIONS} markers")
    print(", ".join(f"{name}: {seen.ends[name]}" for name in ("answered", "rejected", "left by the client")))
    print(f"lost: {seen.ends['lost']}, mixed up: {seen.ends['mixed up']}")
    for line in seen.wrong[:10]:
        print(f"  {line}")
    print(f"time to an answer: {spread(seen.answered_s)}")
    print(f"time to a refusal: {spread(seen.rejected_s)} (goal: p99 below {1000 * REJECT_S:.0f} ms)")
    print(f"delay of the clients' own event loop: {spread(seen.late_s)}")
    print("server's memory, MiB: " + ", ".join(f"{part / MiB:.0f}" for part in (start, middle, end)))
    print(f"still active: {active}; on disk: {', '.join(left) or 'nothing'}")
    good = not seen.wrong and not active and not left and end <= (1 + GROWTH) * start
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
