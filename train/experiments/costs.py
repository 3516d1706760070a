"""What the steps of an experiment cost."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def timed(out: Path, step: str) -> Iterator[None]:
    """Adds the seconds of a step to DIR/costs.json, also of one that is stopped: wall-clock and processor seconds."""

    def cpu() -> float:
        return sum(os.times()[:4])

    clock, used = time.perf_counter(), cpu()
    try:
        yield
    finally:
        file = out / "costs.json"
        costs = json.loads(file.read_text()) if file.exists() else {}
        before = costs.get(step, {"seconds": 0, "cpu_seconds": 0})
        spent = {"seconds": round(time.perf_counter() - clock), "cpu_seconds": round(cpu() - used)}
        costs[step] = {name: before[name] + spent[name] for name in spent}
        file.write_text(json.dumps(costs, indent=2) + "\n")
