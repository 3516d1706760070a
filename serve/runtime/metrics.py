"""What Prometheus reads at /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """One registry a server, so that several fit in a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "videollm_requests", "Requests by their end.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "videollm_step_seconds",
            "Time of a step: intake, queue, decode, encode, first_token, generate, request.",
            ["step"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "videollm_tokens", "Tokens of prompts, of which cached, and of answers.", ["kind"], registry=self.registry
        )
        self.batch = Histogram(
            "videollm_batch_size",
            "Conversations that a pass through the language model in this process was for.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.answers = Gauge(
            "videollm_answers", "Answers being made, and waiting for it.", ["state"], registry=self.registry
        )
        self.inside = Gauge("videollm_requests_inside", "Requests that wait or are worked on.", registry=self.registry)
        self.cache_bytes = Gauge(
            "videollm_cache_bytes", "Memory of features, prefixes; disk of files.", ["cache"], registry=self.registry
        )
        self.hits = Counter("videollm_cache_lookups", "Lookups.", ["cache", "found"], registry=self.registry)
        self.decoder_restarts = Gauge(
            "videollm_decoder_restarts", "Times the decoding process had to be started again.", registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
