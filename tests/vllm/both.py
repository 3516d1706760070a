"""vLLM and our server in front of it, as scripts/vllm/serve.sh starts them."""

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import httpx
import openai
import psutil

from tests.serve.conftest import ROOT, SAMPLE, asked, data_url

MORE = os.environ.get("VLLM_OPTIONS", "")  # such as --enforce-eager, which starts sooner
START_S = 900


@dataclass
class Both:
    """What scripts/vllm/serve.sh started."""

    process: subprocess.Popen
    log: Path
    url: str
    vllm_url: str
    model: str

    def health(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/health", timeout=30).json()

    def until(self, condition: Callable[[], bool]) -> None:
        end = monotonic() + START_S
        while not condition():
            assert self.process.poll() is None and monotonic() < end, self.log.read_text()[-4000:]
            sleep(0.2)

    def metric(self, name: str) -> float:
        """Of vLLM."""
        text = httpx.get(f"{self.vllm_url}/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}\{{.*\}} (\S+)$", text, re.MULTILINE))

    @property
    def client(self) -> Any:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=300)

    def ask(self, question: str, **more: Any) -> Any:
        return self.client.chat.completions.create(
            model=self.model, messages=asked(data_url(SAMPLE.read_bytes()), question), **more
        )


@contextmanager
def starting_both(model: Path, folder: Path, options: str) -> Iterator[Both]:
    """Starts both with options of vLLM, and ends them."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, vllm_port = one.getsockname()[1], two.getsockname()[1]
    log = folder / "both.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["bash", "scripts/vllm/serve.sh", str(model), "--port", str(port), "--waiting", "64"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"VLLM_PORT": str(vllm_port), "VLLM_OPTIONS": f"{options} {MORE}"},
        )
    made = Both(process, log, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{vllm_port}", model.name)
    started = perf_counter()
    try:
        made.until(lambda: f"running on {made.url}" in log.read_text())
        made.until(lambda: made.health()["status"] == "ok")
        print(f"vLLM started in {perf_counter() - started:.0f} s")
        yield made
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        status, left = process.wait(timeout=120), psutil.wait_procs(children, timeout=60)[1]
    assert status == 0 and not left  # both ended, with all their processes
