"""What the benchmarks measure and how they print it."""

import json
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from videollm.chat.plan import matrix_speed
from videollm.device import resolve_dtype


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. value is None if it was left out, and note then says why. The goal is an upper limit, or a lower
    limit if more_is_better."""

    part: str
    name: str
    value: float | None
    unit: str = ""
    note: str = ""
    goal: float | None = None
    more_is_better: bool = False

    @property
    def met(self) -> bool | None:
        if self.value is None or self.goal is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal

    def __str__(self) -> str:
        value = "-" if self.value is None else f"{self.value:.3g}" if self.value < 100 else f"{self.value:.0f}"
        goal = "" if self.goal is None else f"{'≥' if self.more_is_better else '≤'} {self.goal:g}"
        verdict = {None: "", True: "met", False: "not met"}[self.met]
        return f"| {self.part} | {self.name} | {value} {self.unit} | {goal} | {verdict} | {self.note} |"


class Times:
    """Seconds by name, one for each repeat, in the order in which they were taken."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, **seconds: float) -> None:
        for name, value in seconds.items():
            self.seconds[name].append(value)

    def ms(self, name: str) -> float:
        return 1000 * statistics.median(self.seconds[name])

    def ratio(self, a: str, b: str) -> float:
        return statistics.median(x / y for x, y in zip(self.seconds[a], self.seconds[b], strict=True))


def publish(rows: list[Row], machine: dict[str, Any], out: Path | None) -> None:
    """Print a Markdown table of the rows and, if `out` is given, write the same rows to it as JSON."""
    print("; ".join(f"{name} {value}" for name, value in machine.items()))
    print("\n| part | measure | measured | goal | | |\n|---|---|---|---|---|---|", *rows, sep="\n")
    if out:
        results = [{**asdict(row), "met": row.met} for row in rows]
        out.write_text(json.dumps({"machine": machine, "rows": results}, indent=1) + "\n")


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    started = perf_counter()
    function(*arguments, **options)
    return perf_counter() - started


def describe_machine(dtype: torch.dtype, matrix: int) -> dict[str, Any]:
    """Return what the table says about the machine. matrix: rows and columns of the product that gives the matmul
    rate."""
    return {
        "cpu": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "native dtype": str(resolve_dtype("auto", "cpu")),
        "dtype": str(dtype),
        "matmul GFLOP/s": round(matrix_speed(dtype, torch.device("cpu"), matrix, seconds=0.5) / 1e9, 1),
    }
