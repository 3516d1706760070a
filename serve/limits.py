"""What a server is told when it starts, what it accepts, and how many requests it takes at a time."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import monotonic
from typing import Literal

from serve.api.errors import APIError
from videollm.errors import ConfigError

MiB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one request, one video and the server as a whole may take. Every number is above 0.

    body_bytes: a request, with the videos inside it. media_bytes: a video that is uploaded, fetched or below the media
    root. video_s, pixels: its duration and the size of a picture. frames: looked at in one video. videos: of one
    request. turns: messages of a conversation. answers: `n` of one request. embeddings: inputs of one request.
    decode_s, decode_bytes: time and memory for one video's decoding. fetch_s: for fetching it.
    waiting: requests that wait or are worked on; further ones get 429. batch: answers made at a time, in this process.
    requests_per_minute: of one key; None: any.
    files, files_bytes, file_s: uploads kept for one key, their size together, and how long. features_bytes,
    prefix_bytes: memory for what has been computed from videos and prompts. drain_s: for answers that are being made
    when the server is told to stop.
    """

    body_bytes: int = 64 * MiB
    media_bytes: int = 512 * MiB
    video_s: float = 4 * 3600
    pixels: int = 4096 * 2304
    frames: int = 2048
    videos: int = 8
    turns: int = 64
    answers: int = 8
    embeddings: int = 64
    decode_s: float = 120
    decode_bytes: int = 2048 * MiB
    decoders: int = 2
    fetch_s: float = 60
    waiting: int = 32
    batch: int = 16
    requests_per_minute: int | None = None
    files: int = 100
    files_bytes: int = 2048 * MiB
    file_s: float = 24 * 3600
    features_bytes: int = 512 * MiB
    prefix_bytes: int = 512 * MiB
    drain_s: int = 60

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and value <= 0:
                raise ConfigError(f"{limit.name} is {value}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """api_keys: who may use the server; none: everybody who reaches it, which only loopback allows. media_root: a
    folder whose files requests may name. index: a search index. cors_origins: sites whose pages may call the server.
    engine: what runs the language model, this process or the vLLM server at vllm_url."""

    model: str = "lite"
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    allow_remote: bool = False
    media_root: Path | None = None
    index: str | None = None
    engine: Literal["local", "vllm"] = "local"
    vllm_url: str | None = None
    cors_origins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.is_loopback and not self.api_keys:
            raise ConfigError(
                f"host {self.host} can be reached from elsewhere; give --api-key, or leave it at 127.0.0.1"
            )
        if any(len(key) < 16 for key in self.api_keys):
            raise ConfigError("an API key is shorter than 16 characters; make one with: openssl rand -hex 24")
        if (self.engine == "vllm") != (self.vllm_url is not None):
            raise ConfigError(f"engine is {self.engine}, the vLLM server's URL {self.vllm_url}; give both or neither")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; it must be from 0 (any free one) to 65535")
        if self.media_root is not None and not self.media_root.is_dir():
            raise ConfigError(f"media root {self.media_root} is not a folder")

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK


LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ConcurrencyLimiter:
    """Lets so many requests in, and turns the others away at once."""

    def __init__(self, most: int):
        self.most = most
        self.inside = 0
        self._mean_s = 1.0  # how long a request takes, the latest counting most

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Raises APIError 429 with the time after which to try again."""
        if self.inside >= self.most:
            wait_s = min(60, math.ceil(self._mean_s))
            raise APIError(
                429,
                f"{self.inside} requests are waiting, the most this server takes; try again in {wait_s} s",
                "server_busy",
                kind="rate_limit_error",
                retry_after_s=wait_s,
            )
        self.inside += 1
        started = monotonic()
        try:
            yield
        finally:
            self.inside -= 1
            self._mean_s += 0.2 * (monotonic() - started - self._mean_s)


class RateLimiter:
    """At most so many requests a minute for each key, in a bucket that fills steadily."""

    def __init__(self, per_minute: int | None):
        self.per_minute = per_minute
        self._spent: dict[str, tuple[float, float]] = {}  # owner -> requests not yet forgiven, and when that was

    def take(self, owner: str) -> None:
        """Raises APIError 429 where the key has spent its requests."""
        if self.per_minute is None:
            return
        now = asyncio.get_running_loop().time()
        spent, then = self._spent.get(owner, (0.0, now))
        spent = max(0.0, spent - (now - then) * self.per_minute / 60)
        if spent + 1 > self.per_minute:
            wait_s = math.ceil((spent + 1 - self.per_minute) * 60 / self.per_minute)
            raise APIError(
                429,
                f"this key may send {self.per_minute} requests a minute; try again in {wait_s} s",
                "rate_limit_exceeded",
                kind="rate_limit_error",
                retry_after_s=wait_s,
            )
        self._spent[owner] = spent + 1, now
