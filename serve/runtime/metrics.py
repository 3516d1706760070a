"""The metrics that Prometheus reads at /metrics."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from serve.runtime.live import StreamRegistry

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one server. Each server has its own registry, so that one process can have several servers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "videollm_requests", "Requests by route and HTTP status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "videollm_step_seconds",
            "Time of a step: load, queue, decode, encode, first_token, generate, transcribe, request.",
            ["step"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "videollm_tokens",
            "Tokens: prompt, the cached ones of them, and completion.",
            ["kind"],
            registry=self.registry,
        )
        self.batch = Histogram(
            "videollm_batch_size",
            "Conversations in one forward pass of the language model in this process.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.answers = Gauge(
            "videollm_answers", "Answers that are running or waiting.", ["state"], registry=self.registry
        )
        self.active = Gauge("videollm_requests_active", "Requests that wait or are in work.", registry=self.registry)
        self.cache_bytes = Gauge(
            "videollm_cache_bytes",
            "Memory of features and prefixes, and disk space of files.",
            ["cache"],
            registry=self.registry,
        )
        self.lookups = Counter(
            "videollm_cache_lookups", "Lookups of features and prefixes.", ["cache", "hit"], registry=self.registry
        )
        self.decoder_restarts = Gauge(
            "videollm_decoder_restarts", "Times that the decoding process had to be restarted.", registry=self.registry
        )

    def watch_streams(self, registry: "StreamRegistry") -> None:
        """Adds the metrics of the streams that are watched now."""

        def gauge(name: str, help: str, read: Callable[[], float]) -> None:
            Gauge(f"videollm_{name}", help, registry=self.registry).set_function(read)

        def total(count: str) -> Callable[[], float]:
            return lambda: sum(getattr(s.watcher.reader.stats, count) for s in registry.running)

        gauge("streams", "Streams that are watched.", lambda: len(registry.running))
        gauge(
            "stream_lag_seconds",
            "Age of the latest frame when it had been looked at, of the stream with the largest.",
            lambda: max((s.watcher.lag_s for s in registry.running), default=0.0),
        )
        gauge(
            "stream_bytes",
            "Memory of what is remembered of streams.",
            lambda: sum(s.watcher.session.memory.nbytes for s in registry.running),
        )
        for count in ("frames", "dropped", "lost", "reconnects"):
            gauge(f"stream_{count}", f"Sum of {count} of the streams that are watched.", total(count))

    def text(self) -> bytes:
        return generate_latest(self.registry)
