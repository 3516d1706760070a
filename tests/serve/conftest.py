"""Real servers: the process that a user starts, on a free port."""

import base64
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.fork_server import python
from tests.serve.endless import save_endless

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "scripts/samples/sample.mp4"
START_S = 400


class Server:
    """A running `python -m MODULE`, whose log is a file.

    Args:
        log: The file of the log.
        *arguments: The options of the command.
        module: The module.
        interpreter: The Python. None takes the one that starts at once, whose process is not the server's own.
        **environment: Further variables of the environment.
    """

    def __init__(
        self, log: Path, *arguments: str, module: str = "serve", interpreter: str | None = None, **environment: str
    ):
        self.log = log
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen(
                [interpreter or python(), "-m", module, "--port", "0", *arguments],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "VIDEOLLM_STATE": f"{log}.state"} | environment,
            )
        end = monotonic() + START_S
        while not (found := re.search(r"running on (http://\S+)", log.read_text())):
            assert self.process.poll() is None and monotonic() < end, log.read_text()
            sleep(0.05)
        self.url = found[1]

    def ready(self) -> "Server":
        """Once videos can be decoded too."""
        end = monotonic() + START_S
        while httpx.get(f"{self.url}/ready").status_code != 200:
            assert self.process.poll() is None and monotonic() < end, self.log.read_text()
            sleep(0.05)
        return self

    def client(self, key: str = "none") -> Any:
        """OpenAI's own; untyped, because its types do not know what this server adds."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=300)

    def metric(self, name: str) -> float:
        """The value of a metric by its whole name, labels included; 0 where it was never counted."""
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=120)


Start = Callable[..., "Server"]


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def start(*arguments: str, **options: str) -> Server:
        servers.append(Server(folder / f"server{len(servers)}.log", *arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers with the given options; they end with the tests of the file."""
    with starting(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The debug model on loopback, as it is without options."""
    with starting(tmp_path_factory.mktemp("servers")) as started:
        yield started("--model", "debug").ready()


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a model that answers until it is stopped."""
    return save_endless(tmp_path_factory.mktemp("endless"))


@pytest.fixture(scope="session")
def client(server: Server) -> Any:
    return server.client()


@pytest.fixture(scope="session")
def clip() -> str:
    """The sample as a data: URL."""
    return data_url(SAMPLE.read_bytes())


def data_url(data: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(url: str, question: str = "What is it?") -> list:
    """Messages of one question about a video."""
    return [
        {
            "role": "user",
            "content": [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": question}],
        }
    ]
