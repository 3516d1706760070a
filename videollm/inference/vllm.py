"""An engine whose language model runs in a vLLM server, which serves the directory that `videollm export` writes.

Prompts with a video are embedded in this process and sent as embeddings, so that vLLM needs no code for video. The
server must be started with --enable-prompt-embeds (https://docs.vllm.ai/en/latest/features/prompt_embeds/).
"""

import base64
import io
import json
import socket
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import torch

from videollm.checkpoint import Model
from videollm.errors import ConfigError, EngineError
from videollm.inference.engine import PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.models.processor import Prompt, shared_prefix
from videollm.models.video_llm import VideoLLM

CONNECT_S = 5.0
PATIENCE_S = 120.0  # the longest wait for a token; even a long queue delays a first token by much less
HEALTH_S = 2.0
# Sent with every request, because vLLM would otherwise take the values of the model's generation_config.json.
PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


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
        if not isinstance(model.llm, VideoLLM):
            raise ConfigError(
                f"{model.config.name} is a video model of transformers, whose prompts cannot be sent to vLLM as "
                "embeddings; use --engine local"
            )
        self.model, self.api_key, self.owner = model, api_key, owner
        self.llm, self.stop_ids, self.url = model.llm, model.processor.stop_ids, url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"the vLLM server's URL is {url!r}; it must be like http://localhost:8001")
        self._http = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        self._host, self._path = parts.netloc, parts.path
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._sockets: set[socket.socket] = set()  # connections of the streams that are running
        self._closed = False

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
        headers = self._headers | {"Content-Type": "application/json"}
        try:
            with self._connected() as connection:
                connection.request("POST", f"{self._path}/v1/completions", json.dumps(body), headers)
                response = connection.getresponse()
                if response.status != 200:
                    said = response.read().decode(errors="replace")
                    raise self._error(f"refused the request with status {response.status}: {_reason(said)}")
                for event in self._events(response):
                    if usage := event.get("usage"):
                        cache.reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                    for choice in event["choices"]:
                        yield from self._tokens(choice, generation.logprobs)
        except (OSError, HTTPException, json.JSONDecodeError) as error:
            raise self._error(f"does not answer ({type(error).__name__}: {error})") from error

    def alive(self) -> bool:
        """Returns whether the server answers and reports itself healthy."""
        try:
            with closing(self._http(self._host, timeout=HEALTH_S)) as connection:
                connection.request("GET", f"{self._path}/health", headers=self._headers)
                return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False

    def close(self) -> None:
        """Ends all streams, from any thread. They raise EngineError, including those that wait for their first
        token."""
        self._closed = True
        for connected in list(self._sockets):
            with suppress(OSError):  # the stream may have ended in the meantime
                connected.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        with closing(self._http(self._host, timeout=CONNECT_S)) as connection:
            connection.connect()
            own = connection.sock
            own.settimeout(PATIENCE_S)
            self._sockets.add(own)
            try:
                if self._closed:
                    raise self._error("was closed")
                yield connection
            finally:
                self._sockets.remove(own)

    def _error(self, reason: str) -> EngineError:
        return EngineError(f"vLLM at {self.url}", reason)

    def _prompt(self, prompt: Prompt, cache: PromptCache) -> dict[str, Any]:
        if not prompt.segments:
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

    def _events(self, response: HTTPResponse) -> Iterator[dict[str, Any]]:
        for line in response:
            kind, _, data = line.decode().rstrip().partition(": ")
            if kind != "data":
                continue
            if data == "[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise self._error(f"ended the stream early: {_reason(data)}")
            yield event
        raise self._error("ended the stream in the middle of an answer")

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


def _reason(said: str) -> str:
    """Returns the message in the body of an error response, in one line."""
    try:
        return json.loads(said)["error"]["message"].splitlines()[0]
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(said.split())[:200]
