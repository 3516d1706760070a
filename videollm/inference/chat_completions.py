"""An engine whose language model runs in an OpenAI-compatible server that reads pictures: Ollama, llama.cpp, LM Studio,
vLLM, or a hosted model. Frames go there as pictures, each after its time.
"""

import json
import re
from collections.abc import Generator
from contextlib import closing
from http.client import HTTPException
from threading import Event
from typing import Any

from videollm.errors import ContextOverflowError, EngineError
from videollm.inference.engine import PromptCache
from videollm.inference.event_stream import KEY_VARIABLE, EventStreamClient, RefusalError
from videollm.inference.sampling import GenerationConfig, Token
from videollm.models.processor import Prompt
from videollm.models.served import ServedPrompt

PATIENCE_S = 600.0  # the longest wait for a token; a laptop reads the pictures of a video for minutes
BUSY, REFUSED = frozenset({429, 502, 503, 504}), frozenset({400, 413, 422})
RETRIES, LONGEST_WAIT_S = 5, 30.0  # of a busy server
# What servers say of a prompt that is too long, or that has too many or too large pictures.
TOO_MUCH = re.compile(r"context|too (long|large|many)|exceed|limit|at most", re.IGNORECASE)


class ChatCompletionsEngine:
    """Asks a server for chat completions. Any number of threads may use the engine.

    Args:
        model: The name of the model on the server.
        url: The URL of the server, up to and including /v1.
        api_key: The key for the server, if it wants one.

    Attributes:
        key_variable: The environment variable that has the key.
        fields: Further fields of each request.

    Raises:
        ConfigError: If the URL is not an HTTP URL.
    """

    key_variable = KEY_VARIABLE

    def __init__(self, model: str, url: str, api_key: str | None = None):
        self.model, self.api_key = model, api_key
        self.fields: dict[str, Any] = {}
        self._client = EventStreamClient("the server", url, api_key, "http://localhost:11434/v1", PATIENCE_S)
        self._ended = Event()

    def of(self, owner: str) -> "ChatCompletionsEngine":
        """Returns an engine of the same server for one request. It is closed separately."""
        return ChatCompletionsEngine(self.model, self._client.url, self.api_key)

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        """See `Engine.stream`. Tokens are the pieces of text that the server sends, and have no ids.

        Frames are thinned by half as long as the server refuses a prompt as too long, and the prompt then says so.

        Raises EngineError if the server cannot be used, and ContextOverflowError if one frame of each video is too
        much.
        """
        assert isinstance(prompt, ServedPrompt)
        body = _settings(generation) | {"model": self.model, **prompt.request(), **self.fields}
        tries = 0
        while True:
            try:
                yield from self._answer(prompt, cache, body)
                return
            except RefusalError as error:  # comes before the first token
                if error.status in BUSY and tries < RETRIES:
                    tries += 1
                    self._ended.wait(_wait_s(error, tries))
                elif "max_tokens" in body and "max_completion_tokens" in error.said:  # OpenAI's newer models
                    body["max_completion_tokens"] = body.pop("max_tokens")
                elif error.status in REFUSED and TOO_MUCH.search(error.said):
                    if not prompt.thin():
                        raise ContextOverflowError(
                            f"the conversation is too long for {self.model}, of which the server says: {error.said}; "
                            "ask a shorter question in a new conversation, or start the server with a larger context"
                        ) from error
                    body |= prompt.request()
                else:
                    raise self._explained(error) from error

    def alive(self) -> bool:
        """Returns whether the server answers."""
        return self._client.answers("/models")

    def close(self) -> None:
        """See `EventStreamClient.close`."""
        self._ended.set()
        self._client.close()

    def _answer(self, prompt: ServedPrompt, cache: PromptCache, body: dict[str, Any]) -> Generator[Token]:
        with closing(self._client.post("/chat/completions", body)) as events:
            for event in events:
                if usage := event.get("usage"):
                    prompt.prompt_tokens = usage.get("prompt_tokens") or 0
                    prompt.completion_tokens = usage.get("completion_tokens") or 0
                    cache.reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                for choice in event.get("choices") or ():
                    prompt.cut |= choice.get("finish_reason") == "length"
                    if text := (choice.get("delta") or {}).get("content"):
                        yield Token(text=text)

    def _explained(self, error: RefusalError) -> EngineError:
        """Returns the error with what to do about it."""
        if error.status in (401, 403):
            variable = self.key_variable
            key = f"the key in {variable}" if self.api_key else f"a request without a key; set {variable}"
            return self._client.error(f"refuses {key} (status {error.status}: {error.said})")
        if error.status != 404:
            return error
        try:
            names = [model["id"] for model in json.loads(self._client.get("/models")[1])["data"]]
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return self._client.error(
                "has no chat completions (status 404); check the URL, which ends in /v1 for most servers"
            )
        return self._client.error(f"has no model {self.model!r}; it has {', '.join(names) or 'none'}")


def _settings(generation: GenerationConfig) -> dict[str, Any]:
    """Returns the fields of a request. What has its default is left out, since servers refuse what they do not know."""
    wanted: dict[str, Any] = {
        "seed": generation.seed,
        "frequency_penalty": generation.frequency_penalty or None,
        "presence_penalty": generation.presence_penalty or None,
        "top_p": generation.top_p if generation.top_p < 1 else None,
    }
    body = {name: value for name, value in wanted.items() if value is not None}
    if generation.grammar:
        reply = {"name": "reply", "schema": generation.grammar.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": reply}
    return body | {
        "max_tokens": generation.max_new_tokens,
        "temperature": generation.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _wait_s(error: RefusalError, tries: int) -> float:
    """Returns how long to wait for a busy server: what it says, or twice as long at each try."""
    said = error.retry_after or ""
    return min(float(said) if said.isdigit() else 0.5 * 2**tries, LONGEST_WAIT_S)
