"""What an attack is, and the server that is attacked."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.serving import Served

WAIT_S = 60.0  # longest wait for what must happen


@dataclass(frozen=True)
class Target:
    """The attacked server.

    Attributes:
        served: The server.
        folder: A directory for files of attacks.
        root: Its media root, with `inside/clip.mp4`.
        index: Its index, of one film.
    """

    served: Served
    folder: Path
    root: Path
    index: Path

    @property
    def url(self) -> str:
        return self.served.url

    def post(self, path: str, json: object = None, **more: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=json, timeout=WAIT_S, **more)  # type: ignore[arg-type]

    def health_s(self) -> float:
        """Returns how long the server takes to say that it is alive."""
        started = time.perf_counter()
        httpx.get(f"{self.url}/health", timeout=WAIT_S).raise_for_status()
        return time.perf_counter() - started

    @property
    def working(self) -> int:
        """How many requests are in work."""
        return httpx.get(f"{self.url}/health", timeout=WAIT_S).json()["waiting"]

    def uploads(self) -> list[Path]:
        return list(self.served.folder.glob("videollm-serve-*/files/*"))

    @contextmanager
    def connection(self, data: bytes = b"") -> Iterator[socket.socket]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as made:
            made.sendall(data)
            yield made


@dataclass(frozen=True)
class Outcome:
    """What an attack has seen, and whether it is what is promised."""

    seen: str
    ok: bool


@dataclass(frozen=True)
class Attack:
    """An attack. promised: what the server or the library promises, in a few words."""

    name: str
    promised: str
    run: Callable[[Target], Outcome]


def attack(promised: str) -> Callable[[Callable[[Target], Outcome]], Attack]:
    """Makes an attack of a function, whose name is that of the attack."""
    return lambda run: Attack(run.__name__.replace("_", " "), promised, run)


def until(condition: Callable[[], bool]) -> bool:
    """Waits for a condition, and returns whether it came true within WAIT_S."""
    end = time.monotonic() + WAIT_S
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def codes(answers: list[httpx.Response]) -> str:
    """Returns the statuses and the codes of errors of answers."""
    said = {(answer.status_code, answer.json()["error"]["code"] if answer.is_error else "") for answer in answers}
    return ", ".join(sorted(f"{status} {code}".strip() for status, code in said))
