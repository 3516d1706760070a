"""An engine whose language model runs in a vLLM server, which holds what `videollm export` wrote.

Prompts with a video go there as embeddings, made here, so that vLLM needs to know nothing about video. It has to be
started with --enable-prompt-embeds (https://docs.vllm.ai/en/latest/features/prompt_embeds/).
"""

import base64
import io
import json
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import torch

from videollm.chat.engine import Cache, Generation, Token
from videollm.checkpoint import Model
from videollm.errors import EngineError
from videollm.models.processor import Prompt

# A long queue delays a first token, never by this much; no answer to a request for health is one.
PATIENCE = httpx.Timeout(120, connect=5)
HEALTH_S = 2.0
# What a model's generation_config.json says would count where these were left out.
PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


class VLLMEngine:
    """vLLM at `url`, such as http://localhost:8001. For any number of threads: it batches what arrives together, and
    keeps what prompts have in common. api_key: the one that vLLM was started with, if any."""

    def __init__(self, model: Model, url: str, api_key: str | None = None):
        self.llm, self.stop_ids, self.url = model.llm, model.processor.stop_ids, url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        many = httpx.Limits(max_connections=None)
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, limits=many)

    def stream(self, prompt: Prompt, cache: Cache, generation: Generation) -> Generator[Token]:
        """Closing it ends vLLM's work on it. Raises EngineError."""
        body = self._prompt(prompt) | {
            "max_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "seed": generation.seed,
            "logprobs": generation.logprobs,
            "stop_token_ids": sorted(self.stop_ids),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **PLAIN,
        }
        try:
            with self._client.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code != 200:
                    said = response.read().decode(errors="replace")
                    raise EngineError(f"vLLM at {self.url} refused, {response.status_code}: {_reason(said)}")
                for event in self._events(response):
                    if usage := event.get("usage"):
                        cache.reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                    for choice in event["choices"]:
                        yield from self._tokens(choice, generation.logprobs)
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise EngineError(f"vLLM at {self.url} does not answer ({type(error).__name__}: {error})") from error

    def alive(self) -> bool:
        try:
            return self._client.get("/health", timeout=HEALTH_S).status_code == 200
        except httpx.HTTPError:
            return False

    @torch.inference_mode()
    def _prompt(self, prompt: Prompt) -> dict[str, Any]:
        visual = prompt.visual()
        if visual is None:
            return {"prompt": prompt.ids}
        device = self.llm.device
        embeds = self.llm.embed_prompt(torch.tensor([prompt.ids], device=device), visual.to(device))
        file = io.BytesIO()
        torch.save(embeds[0].cpu(), file)
        return {"prompt_embeds": base64.b64encode(file.getvalue()).decode()}

    def _events(self, response: httpx.Response) -> Iterator[dict[str, Any]]:
        for line in response.iter_lines():
            kind, _, data = line.partition(": ")
            if kind != "data":
                continue
            if data == "[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise EngineError(f"vLLM at {self.url} broke off: {_reason(data)}")
            yield event
        raise EngineError(f"vLLM at {self.url} broke off in the middle of an answer")

    def _tokens(self, choice: dict[str, Any], most: int | None) -> Iterator[Token]:
        ids = choice["token_ids"] or ()
        for place, chosen in enumerate(ids):
            if chosen in self.stop_ids:
                return
            if most is None:
                yield Token(chosen)
                continue
            scores = choice["logprobs"]
            top = {_id(name): score for name, score in scores["top_logprobs"][place].items()}
            best = sorted(top.items(), key=lambda item: -item[1])[:most]
            yield Token(chosen, scores["token_logprobs"][place], tuple(best))


def _id(name: str) -> int:
    """Of "token_id:198"."""
    return int(name.partition(":")[2])


def _reason(said: str) -> str:
    """What an error's body says, in one line."""
    try:
        return json.loads(said)["error"]["message"].splitlines()[0]
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(said.split())[:200]
