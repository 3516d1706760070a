"""Replays what other clients have sent against a real server: python -m scripts.replay_clients [--minutes 30]

The requests are those of tests/serve/api/recorded_clients.json, one after another with a pause between, and again from
the first. The model is a tiny Qwen3-VL of random weights, whose chat template knows functions. The exit code is 0 if
every request was answered and memory stayed flat, else 1.
"""

import argparse
import base64
import json
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter, sleep

import httpx

from scripts.serving import MiB, serving
from scripts.tiny_hub.__main__ import write

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests/serve/api/recorded_clients.json"
TIMEOUT_S = 300
GROWTH = 0.05  # growth of memory that still counts as flat


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--pause-s", type=float, default=1, help="seconds between two requests (default: 1)")
    options = parser.parse_args()
    clip = base64.b64encode((ROOT / "scripts/samples/sample.mp4").read_bytes()).decode()
    recorded = json.loads(RECORDED.read_text().replace('"CLIP"', json.dumps(f"data:video/mp4;base64,{clip}")))
    answered: Counter[str] = Counter()
    failed: list[str] = []
    memory: list[int] = []  # after each round
    with tempfile.TemporaryDirectory() as folder:
        write("qwen3_vl", Path(folder) / "qwen3")
        with serving("--model", f"{folder}/qwen3") as server:
            end = perf_counter() + 60 * options.minutes
            while perf_counter() < end:
                for one in recorded:
                    body = one["body"] | {"model": "qwen3"}
                    made = httpx.post(f"{server.url}{one['path']}", json=body, timeout=TIMEOUT_S)
                    if made.status_code == 200:
                        answered[one["client"]] += 1
                    else:
                        failed.append(f"{one['client']}: {made.status_code} {made.text[:200]}")
                    sleep(options.pause_s)
                memory.append(server.memory())
    print(f"{options.minutes:g} minutes, {len(memory)} rounds of {len(recorded)} requests")
    print("answered: " + ", ".join(f"{client} {count}" for client, count in sorted(answered.items())))
    print(f"failed: {len(failed)}")
    for line in failed[:10]:
        print(f"  {line}")
    third = max(1, len(memory) // 3)
    start, last = statistics.median(memory[:third]), statistics.median(memory[-third:])
    print(f"server's memory, MiB: first third {start / MiB:.0f}, last third {last / MiB:.0f}")
    good = not failed and last <= (1 + GROWTH) * start
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
