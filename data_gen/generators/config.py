"""The settings of a generator, which a command line or a worker of a cluster can build it from."""

from dataclasses import dataclass
from pathlib import Path

from videollm.errors import ConfigError

GENERATORS = ("template", "llm", "semi", "auto")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Which generator to use, and how.

    Args:
        generator: One of `GENERATORS`.
        seed: Seeds every random choice.
        languages: For `template` the languages to keep, for `llm` the languages to translate to; None for those of
            the annotation.
        tasks: Families (`qa`) or tasks (`qa/causal`) to make; None for all.
        base_url, model: The server of the language model, up to and including /v1, and the model's name there.
        key_variable: The environment variable that holds the key, if the server needs one.
        concurrency: Requests in flight.
        rate: Requests a second at most, or None.
        judge: A second model on the same server, which checks every sample.
        review: The table of proposals of `semi`, or of what `auto` is not sure of.
        captioner: The preset or checkpoint that captions, or None for what is recognised.
    """

    generator: str = "template"
    seed: int = 0
    languages: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    base_url: str | None = None
    model: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 64
    rate: float | None = None
    judge: str | None = None
    review: Path | None = None
    captioner: str | None = None

    def __post_init__(self) -> None:
        if self.generator not in GENERATORS:
            raise ConfigError(f"generator is {self.generator!r}; choose one of {', '.join(GENERATORS)}")
        if (self.generator == "llm" and not self.model) or ((self.model or self.judge) and not self.base_url):
            raise ConfigError("a language model needs --base-url, such as http://127.0.0.1:8000/v1, and --model")
        if self.generator in ("semi", "auto") and self.review is None:
            raise ConfigError(f"generator {self.generator} needs --review, the table that you review")
        if self.concurrency < 1 or (self.rate is not None and self.rate <= 0):
            raise ConfigError(f"concurrency {self.concurrency} must be 1 or more and rate {self.rate} above 0")

    @property
    def is_reviewed(self) -> bool:
        """Whether the table of proposals exists, so that its decisions can be merged."""
        return self.review is not None and self.review.exists()
