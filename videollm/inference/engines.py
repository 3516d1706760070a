"""The choice of the engine for a model."""

import os
from typing import TYPE_CHECKING

from videollm.inference.chat_completions import ChatCompletionsEngine
from videollm.inference.engine import LocalEngine
from videollm.inference.vllm_chat import VLLMChatEngine
from videollm.model import Model
from videollm.models.served import ServedLLM

if TYPE_CHECKING:
    from videollm.inference.vllm import VLLMEngine


def make_engine(model: Model, vllm_url: str | None = None) -> "LocalEngine | ChatCompletionsEngine | VLLMEngine":
    """Returns what runs the language model: this process, or the server that has it.

    Args:
        model: The model.
        vllm_url: The vLLM server that has the language model of a checkpoint that was exported.

    Raises:
        ConfigError: If the server's URL is not an HTTP URL, or vLLM cannot run the model.
    """
    llm: object = model.llm
    if isinstance(llm, ServedLLM):
        kind = VLLMChatEngine if llm.is_vllm else ChatCompletionsEngine
        return kind(model.config.name, llm.url, os.environ.get(kind.key_variable))
    if vllm_url is not None:
        from videollm.inference.vllm import VLLMEngine  # imports transformers' models, which takes seconds

        return VLLMEngine(model, vllm_url, os.environ.get(VLLMChatEngine.key_variable))
    return LocalEngine(model.llm, model.processor.stop_ids)
