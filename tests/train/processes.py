"""Training commands as real processes, forked from one that has imported everything: quick to start, really killed."""

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is imported
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["train.stage1", "train.stage2", "deepspeed"])


def start(function: Callable[..., Any], *arguments: Any, ranks: int = 1, log: Path) -> list[Any]:
    """A process a rank, each of which calls the function."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = [CONTEXT.Process(target=_rank, args=(rank, ranks, port, log, function, arguments)) for rank in range(ranks)]
    for process in made:
        process.start()
    return made


def finish(processes: list[Any], log: Path) -> None:
    for process in processes:
        process.join(300)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()  # what has not ended by then
    assert codes == [0] * len(codes), f"{codes}: " + "".join(p.read_text()[-3000:] for p in log.parent.glob("*.log"))


def run(function: Callable[..., Any], *arguments: Any, ranks: int = 1, log: Path) -> None:
    finish(start(function, *arguments, ranks=ranks, log=log), log)


def kill_once(there: Path, processes: list[Any]) -> None:
    """SIGKILL to all of them as soon as the file is there."""
    until = time.monotonic() + 300
    while not there.exists() and time.monotonic() < until and all(p.is_alive() for p in processes):
        time.sleep(0.001)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join(60)
    assert there.exists() and all(p.exitcode == -signal.SIGKILL for p in processes)


def _rank(
    rank: int, ranks: int, port: int, log: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    if ranks > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    torch.set_num_threads(1)
    with log.with_name(f"{log.stem}-{rank}.log").open("w", buffering=1) as file:
        sys.stdout = sys.stderr = file
        try:
            function(*arguments)
        except BaseException:
            traceback.print_exc()
            file.flush()
            os._exit(1)
        file.flush()
    os._exit(0)  # without the wait of process groups for each other
