"""Builds a generator and a judge from their settings, in this process or in a worker of a cluster."""

import os

from data_gen.generators.base import Generator, SampleJudge
from data_gen.generators.config import GeneratorConfig
from data_gen.generators.llm import LlmGenerator, LlmJudge
from data_gen.generators.semi import SemiGenerator
from data_gen.generators.template import TemplateGenerator
from videollm.inference.openai import ChatClient


def build_generator(config: GeneratorConfig) -> Generator:
    if config.generator == "llm":
        assert config.model  # checked by GeneratorConfig, as is `review` below
        client = chat_client(config, config.model)
        return LlmGenerator(client, seed=config.seed, languages=config.languages, tasks=config.tasks)
    if config.generator == "semi":
        assert config.review
        return SemiGenerator(config.review, seed=config.seed, tasks=config.tasks)
    if config.generator == "auto":
        from data_gen.generators.auto import AutoGenerator  # loads torch

        assert config.review
        return AutoGenerator(config.review, captioner=config.captioner, seed=config.seed, tasks=config.tasks)
    return TemplateGenerator(seed=config.seed, languages=config.languages, tasks=config.tasks)


def build_judge(config: GeneratorConfig) -> SampleJudge | None:
    return LlmJudge(chat_client(config, config.judge), seed=config.seed) if config.judge else None


def chat_client(config: GeneratorConfig, model: str) -> ChatClient:
    assert config.base_url
    key = os.environ.get(config.key_variable)
    return ChatClient(config.base_url, model, key=key, rate=config.rate, concurrency=config.concurrency)
