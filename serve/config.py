"""The configuration of a server: what it serves, to whom, and the most that requests may take."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from videollm.errors import ConfigError
from videollm.output_config import Modality

MiB = 1 << 20
LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHORTEST_KEY = 16  # characters


def _limit(default: Any, help: str) -> Any:
    """Returns a field with the sentence that `videollm serve --help` prints about it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one request, one video and the server as a whole may take. All numbers are above 0."""

    body_bytes: int = _limit(64 * MiB, "size of a request, including the videos inside it")
    json_bytes: int = _limit(MiB, "bytes of JSON in a request besides the videos and pictures in it")
    text: int = _limit(1 << 17, "characters of text in a request")
    media_bytes: int = _limit(512 * MiB, "size of a video that is uploaded, fetched or below the media root")
    video_s: float = _limit(4 * 3600, "duration of a video")
    pixels: int = _limit(4096 * 2304, "pixels of a frame")
    frames: int = _limit(2048, "frames used of one video")
    videos: int = _limit(8, "videos of one request")
    turns: int = _limit(2048, "messages of one conversation")
    answers: int = _limit(8, "answers to one request, its `n`")
    embeddings: int = _limit(64, "inputs of one embeddings request")
    decode_s: float = _limit(120, "seconds for decoding one video")
    decode_bytes: int = _limit(2048 * MiB, "memory for decoding one video")
    decoders: int = _limit(2, "videos decoded at a time")
    fetch_s: float = _limit(60, "seconds for fetching a remote video")
    connections: int = _limit(1000, "open connections; the longest unused one makes room for a new one")
    header_bytes: int = _limit(1 << 16, "size of a request's address and headers")
    header_s: float = _limit(10, "seconds for a request's address and headers")
    body_s: float = _limit(20, "seconds for a request's body, and one more for each 8 KiB of it")
    waiting: int = _limit(32, "requests that wait or are in work; further ones get 429")
    batch: int = _limit(16, "answers generated at a time in this process")
    requests_per_minute: int | None = _limit(None, "requests a minute of one key (default: no limit)")
    files: int = _limit(100, "uploads kept for one key")
    files_bytes: int = _limit(2048 * MiB, "size of all uploads of one key together")
    file_s: float = _limit(24 * 3600, "seconds that an upload is kept")
    features_bytes: int = _limit(512 * MiB, "memory for the features of videos")
    prefix_bytes: int = _limit(512 * MiB, "memory for the KV caches of conversations")
    responses_bytes: int = _limit(512 * MiB, "memory for responses that later ones continue")
    streams: int = _limit(4, "streams watched at a time")
    drain_s: int = _limit(60, "seconds that a stopping server gives to answers in work")

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and value <= 0:
                raise ConfigError(f"{limit.name} is {value}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What a server serves, and to whom.

    Args:
        model: A preset, a checkpoint directory or a hub id.
        host: The address to listen on.
        port: The port. 0 takes a free one.
        api_keys: The keys that may use the server. Without keys, everybody who reaches it may use it, which is allowed
            on loopback only.
        allow_remote: Whether requests may name videos by public http(s) addresses.
        media_root: A folder whose files requests may name.
        index: The search index that `/v1/videos/search` reads.
        engine: What runs the language model: this process, the vLLM server at `vllm_url`, or the OpenAI-compatible
            server that the model names.
        vllm_url: The URL of the vLLM server.
        senses: The senses that look at the videos of requests, see `videollm.config.split_sense`. None means the
            model's.
        cors_origins: Sites whose pages may call the server.
        trusted_hosts: Names of this server in front of a proxy, such as videos.example.org. Requests under other names
            than these and loopback's are then refused.
        cameras: Sources of streams by the names under which requests may watch them, whatever their addresses.
        decoders: The diffusers pipelines that make what a model with outputs shows, as directories or hub ids.
        steps, size: How they make it, see `videollm.decoders.pipeline.DecodingConfig`.
        limits: The most that requests may take.

    Raises:
        ConfigError: If a value is out of range, or a host other than loopback has no key.
    """

    model: str = "lite"
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    allow_remote: bool = False
    media_root: Path | None = None
    index: str | None = None
    engine: Literal["local", "vllm", "openai"] = "local"
    vllm_url: str | None = None
    whisper: str = "asset:whisper-base"
    senses: tuple[str, ...] | None = None
    cors_origins: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cameras: dict[str, str] = field(default_factory=dict)
    decoders: dict[Modality, str] = field(default_factory=dict)
    steps: int = 40
    size: int | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.is_loopback and not self.api_keys:
            raise ConfigError(
                f"host {self.host} can be reached from other machines; give --api-key, or keep host 127.0.0.1"
            )
        if self.trusted_hosts and not self.api_keys:
            raise ConfigError(
                f"trusted host {self.trusted_hosts[0]} can be reached from other machines; give --api-key too"
            )
        if any(len(key) < SHORTEST_KEY for key in self.api_keys):
            raise ConfigError(
                f"an API key is shorter than {SHORTEST_KEY} characters; make one with: openssl rand -hex 24"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; it must be from 0 (any free one) to 65535")
        if self.media_root is not None and not self.media_root.is_dir():
            raise ConfigError(f"media root {self.media_root} is not a folder; give one that exists")
        if self.decoders and self.engine != "local":
            raise ConfigError(
                f"engine {self.engine} does not tell the hidden states that pictures, videos and sounds are made from; "
                "leave the decoders out, or take engine local"
            )
        if not self.whisper.startswith("asset:") and not Path(self.whisper).is_dir():
            raise ConfigError(f"Whisper model {self.whisper} is not a folder; give one, or leave the default")

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK
