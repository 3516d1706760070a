"""An engine whose language model runs in a vLLM server, which serves the directory that `videollm export` wrote.

Prompts with a video are embedded here and sent as embeddings, so that vLLM needs no code for video. The server must be
started with --enable-prompt-embeds (https://docs.vllm.ai/en/latest/features/prompt_embeds/).
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

CONNECT_S = 5.0
PATIENCE_S = 120.0  # for the next token; a long queue delays a first one by much less
HEALTH_S = 2.0
# Sent with every request, because vLLM would otherwise take the values of the model's generation_config.json.
PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings (L,H) of a prompt. They take the place of its keys and values, which vLLM keeps."""

    embeds: torch.Tensor

    @property
    def length(self) -> int:
        return len(self.embeds)

    @property
    def nbytes(self) -> int:
        return self.embeds.nbytes

    def crop(self, length: int) -> None:
        """Does nothing: the embeddings are never changed, and the next prompt makes its own."""

    def fork(self, length: int) -> "Embeddings":
        return Embeddings(self.embeds[:length].clone())


class VLLMEngine:
    """A vLLM server, for use by any number of threads: it batches requests that arrive together and reuses the common
    beginnings of prompts.

    url: of the server, such as http://localhost:8001. api_key: the key that the server was started with, if any. owner:
    whose prompts these are; vLLM reuses nothing of one owner's prompts for another's (`cache_salt`).
    Raises ConfigError for another kind of URL.
    """

    def __init__(self, model: Model, url: str, api_key: str | None = None, owner: str | None = None):
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
        """The same server for another owner. It is closed separately."""
        return VLLMEngine(self.model, self.url, self.api_key, owner)

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        """See `Engine.stream`. Closing the generator cancels the request. `cache` keeps the prompt's embeddings.

        Raises EngineError where the server cannot be reached, refuses, or breaks off.
        """
        body = self._prompt(prompt, cache) | {
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
            "cache_salt": self.owner,
            **PLAIN,
        }
        headers = self._headers | {"Content-Type": "application/json"}
        try:
            with self._connected() as connection:
                connection.request("POST", f"{self._path}/v1/completions", json.dumps(body), headers)
                response = connection.getresponse()
                if response.status != 200:
                    said = response.read().decode(errors="replace")
                    raise self._error(f"refused, {response.status}: {_reason(said)}")
                for event in self._events(response):
                    if usage := event.get("usage"):
                        cache.reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                    for choice in event["choices"]:
                        yield from self._tokens(choice, generation.logprobs)
        except (OSError, HTTPException, json.JSONDecodeError) as error:
            raise self._error(f"does not answer ({type(error).__name__}: {error})") from error

    def alive(self) -> bool:
        try:
            with closing(self._http(self._host, timeout=HEALTH_S)) as connection:
                connection.request("GET", f"{self._path}/health", headers=self._headers)
                return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False

    def close(self) -> None:
        """End every stream, from any thread. Streams raise EngineError, those that wait for their first token too."""
        self._closed = True
        for connected in list(self._sockets):
            with suppress(OSError):  # the stream has ended by itself meanwhile
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
        """Embeddings (L,H) of the prompt. The temporal module runs only if the cache lacks some of the visual ones."""
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
                raise self._error(f"broke off: {_reason(data)}")
            yield event
        raise self._error("broke off in the middle of an answer")

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
    """The id in a token's name, which is "token_id:198" with return_tokens_as_token_ids."""
    return int(name.partition(":")[2])


def _reason(said: str) -> str:
    """The message in the body of an error response, in one line."""
    try:
        return json.loads(said)["error"]["message"].splitlines()[0]
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(said.split())[:200]
