"""An engine whose language model runs in a vLLM server, which serves the directory that `videollm export` writes.

Prompts with a video or virtual tokens are embedded in this process and sent as embeddings, so that vLLM needs no code
for video. The server must be started with --enable-prompt-embeds
(https://docs.vllm.ai/en/latest/features/prompt_embeds/).
"""

import base64
import io
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from videollm.errors import ConfigError
from videollm.inference.engine import PromptCache
from videollm.inference.event_stream import EventStreamClient
from videollm.inference.sampling import GenerationConfig, Token
from videollm.inference.vllm_chat import PLAIN
from videollm.model import Model
from videollm.models.processor import Prompt, shared_prefix

PATIENCE_S = 120.0  # the longest wait for a token; even a long queue delays a first token by much less


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embeddings (L,H) of a prompt. A `PromptCache` has them instead of keys and values, which vLLM keeps."""

    embeds: torch.Tensor

    @property
    def length(self) -> int:
        return len(self.embeds)

    @property
    def nbytes(self) -> int:
        return self.embeds.nbytes

    def crop(self, length: int) -> None:
        """Does nothing, because the embeddings are never changed and the next prompt makes its own."""

    def fork(self, length: int) -> "Embeddings":
        return Embeddings(self.embeds[:length].clone())


class VLLMEngine:
    """Runs the language model in a vLLM server. Any number of threads may use the engine.

    The server batches requests that arrive together, and reuses the common beginnings of prompts.

    Args:
        model: The exported model, whose language model the server has.
        url: The URL of the server, such as http://localhost:8001.
        api_key: The key that the server was started with, if any.
        owner: The user whose prompts these are. vLLM reuses nothing of one owner's prompts for another's
            (`cache_salt`).

    Raises:
        ConfigError: If the URL is not an HTTP URL.
    """

    def __init__(self, model: Model, url: str, api_key: str | None = None, owner: str | None = None):
        from videollm.models.video_llm import VideoLLM  # imports transformers, which takes seconds

        if not isinstance(model.llm, VideoLLM):
            raise ConfigError(
                f"{model.config.name} is a video model of transformers, whose prompts cannot be sent to vLLM as "
                "embeddings; use --engine local, or --engine openai if vLLM serves that model itself"
            )
        self.model, self.api_key, self.owner = model, api_key, owner
        self.llm, self.stop_ids = model.llm, model.processor.stop_ids
        self._client = EventStreamClient("vLLM", url, api_key, "http://localhost:8001", PATIENCE_S)
        self.url = self._client.url

    def of(self, owner: str) -> "VLLMEngine":
        """Returns an engine of the same server for another owner. It is closed separately."""
        return VLLMEngine(self.model, self.url, self.api_key, owner)

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        """See `Engine.stream`. Closing the generator cancels the request. `cache` keeps the embeddings of the prompt.

        Raises EngineError if the server cannot be reached, refuses the request, or ends the stream early.
        """
        body = self._prompt(prompt, cache) | {
            "max_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "seed": generation.seed,
            "logprobs": generation.logprobs,
            "frequency_penalty": generation.frequency_penalty,
            "presence_penalty": generation.presence_penalty,
            "logit_bias": {str(token): bias for token, bias in generation.logit_bias} or None,
            "stop_token_ids": sorted(self.stop_ids),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_salt": self.owner,
            **PLAIN,
        }
        if generation.grammar:
            body["structured_outputs"] = {"json": generation.grammar.schema}
        with closing(self._client.post("/v1/completions", body)) as events:
            for event in events:
                if usage := event.get("usage"):
                    cache.reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                for choice in event["choices"]:
                    yield from self._tokens(choice, generation.logprobs)

    def alive(self) -> bool:
        """Returns whether the server answers and reports itself healthy."""
        return self._client.answers("/health")

    def close(self) -> None:
        """See `EventStreamClient.close`."""
        self._client.close()

    def _prompt(self, prompt: Prompt, cache: PromptCache) -> dict[str, Any]:
        if min(prompt.ids) >= 0:
            return {"prompt": prompt.ids}
        embeds = self._embed(prompt, cache)
        cache.past, cache.ids = Embeddings(embeds), prompt.ids
        file = io.BytesIO()
        torch.save(embeds.cpu(), file)  # the format that vLLM's API defines for prompt_embeds
        return {"prompt_embeds": base64.b64encode(file.getvalue()).decode()}

    @torch.inference_mode()
    def _embed(self, prompt: Prompt, cache: PromptCache) -> torch.Tensor:
        """Returns the embeddings (L,H) of the prompt. The temporal module runs only if a visual token is not in the
        cache."""
        kept = shared_prefix(cache.ids, prompt.ids)
        ids = torch.tensor(prompt.ids, device=self.llm.device)
        if isinstance(cache.past, Embeddings) and (ids[kept:] >= 0).all():
            return torch.cat([cache.past.embeds[:kept], self.llm.get_input_embeddings()(ids[kept:])])
        visual = prompt.visual()
        return self.llm.embed_prompt(ids[None], visual.to(self.llm.device) if visual else None)[0]

    def _tokens(self, choice: dict[str, Any], most: int | None) -> Iterator[Token]:
        ids = choice["token_ids"] or ()
        for position, chosen in enumerate(ids):
            if chosen in self.stop_ids:
                return
            if most is None:
                yield Token(chosen)
                continue
            scores = choice["logprobs"]
            top = {_id(name): score for name, score in scores["top_logprobs"][position].items()}
            best = sorted(top.items(), key=lambda item: -item[1])[:most]
            yield Token(chosen, scores["token_logprobs"][position], tuple(best))


def _id(name: str) -> int:
    """Returns the id in the name of a token, which is "token_id:198" with return_tokens_as_token_ids."""
    return int(name.partition(":")[2])
