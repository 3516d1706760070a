"""Starts a server in a process of its own, for scripts that test it."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import httpx
import psutil

MiB = 1 << 20


class Served:
    """A running server. folder: the directory of its temporary files."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, folder: Path, log: Path):
        self.process, self.url, self.folder, self.log = process, url, folder, log

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def metric(self, name: str) -> float:
        """Returns a metric by its name with labels; 0 if it was never counted."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def memory(self) -> int:
        """Returns the resident bytes of the server and its decoding process, without the children of the latter."""
        server = psutil.Process(self.process.pid)
        return sum(process.memory_info().rss for process in (server, *server.children()))

    def left_over(self) -> list[str]:
        """Lists videos of requests that are still on disk and decoding children that do not end within 10 seconds.

        A child may still be ending when its request has been answered.
        """
        files = [str(path) for path in self.folder.glob("*/media/*")]
        server = psutil.Process(self.process.pid)
        workers = [worker for decoder in server.children() for worker in decoder.children()]
        _, running = psutil.wait_procs(workers, timeout=10)
        return files + [f"process {worker.pid}" for worker in running if worker.status() != psutil.STATUS_ZOMBIE]


def medians_of_thirds(memory: list[int]) -> tuple[float, float, float]:
    """Returns the median of the first, middle and last third of what was read of a server's memory."""
    third = max(1, len(memory) // 3)
    start, middle, end = (statistics.median(memory[at : at + third]) for at in (0, third, len(memory) - third))
    return start, middle, end


def percentile(values: list[float], share: float) -> float:
    """Returns the value that a share of the values do not exceed; 0 where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


@contextmanager
def serving(*options: str, folder: Path | None = None, **environment: str) -> Iterator[Served]:
    """Runs `videollm serve` with these options on a free port and yields once it is ready.

    Args:
        folder: The directory of its temporary files, its state and its log; by default one of its own.
        environment: Variables of its environment besides those of this process.

    Raises RuntimeError with the server's log if it does not start.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = folder or Path(made)
        log = folder / "server.log"
        command = [sys.executable, "-m", "serve", "--port", "0", *options]
        places = {"TMPDIR": str(folder), "VIDEOLLM_STATE": str(folder / "state")}
        with open(log, "wb") as stderr:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=stderr, env=os.environ | places | environment
            )
        try:
            while not (found := re.search(r"running on (http://\S+)", log.read_text())):
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                sleep(0.1)
            while httpx.get(f"{found[1]}/ready").status_code != 200:
                sleep(0.1)
            yield Served(process, found[1], folder, log)
        finally:
            process.terminate()
            process.wait()
