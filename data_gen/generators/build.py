"""From plain settings to a generator and a judge, in this process or in a worker's."""

import os
from dataclasses import dataclass
from pathlib import Path

from data_gen.generators.base import Generator, Judge
from data_gen.generators.llm import LlmGenerator, LlmJudge
from data_gen.generators.semi import SemiGenerator
from data_gen.generators.template import TemplateGenerator
from videollm.errors import ConfigError
from videollm.inference.openai import ChatClient

GENERATORS = ("template", "llm", "semi")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Which generator, and how. languages, tasks: see the generators. base_url, model, key_variable (the environment
    variable with the key), concurrency, rate: of the language model's server. judge: a second model there.
    review: the file of `semi`."""

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

    def __post_init__(self) -> None:
        if self.generator not in GENERATORS:
            raise ConfigError(f"generator is {self.generator!r}; choose one of {', '.join(GENERATORS)}")
        if (self.generator == "llm" and not self.model) or ((self.model or self.judge) and not self.base_url):
            raise ConfigError("a language model needs --base-url, such as http://127.0.0.1:8000/v1, and --model")
        if self.generator == "semi" and self.review is None:
            raise ConfigError("generator semi needs --review, the file of proposals")
        if self.concurrency < 1 or (self.rate is not None and self.rate <= 0):
            raise ConfigError(f"concurrency {self.concurrency} must be 1 or more and rate {self.rate} above 0")

    @property
    def reviewed(self) -> bool:
        """Whether there is something to merge."""
        return self.review is not None and self.review.exists()


def build_generator(config: GeneratorConfig) -> Generator:
    if config.generator == "llm":
        assert config.model
        client = _client(config, config.model)
        return LlmGenerator(client, seed=config.seed, languages=config.languages, tasks=config.tasks)
    if config.generator == "semi":
        assert config.review
        return SemiGenerator(config.review, seed=config.seed, tasks=config.tasks)
    return TemplateGenerator(seed=config.seed, languages=config.languages, tasks=config.tasks)


def build_judge(config: GeneratorConfig) -> Judge | None:
    return LlmJudge(_client(config, config.judge), seed=config.seed) if config.judge else None


def _client(config: GeneratorConfig, model: str) -> ChatClient:
    assert config.base_url
    key = os.environ.get(config.key_variable)
    return ChatClient(config.base_url, model, key=key, rate=config.rate, concurrency=config.concurrency)
