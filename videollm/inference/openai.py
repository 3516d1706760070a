"""Chat completions from any OpenAI-compatible server, for the judge of answers and for data generation.

The `openai` package sends, retries and times out. This module adds what is needed for many requests with JSON replies:
a rate, a limit of requests in flight, and a fallback for servers that do not know JSON Schema.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import openai

from videollm.errors import VideoLLMError

RETRIES = 5  # after the first try; the waits between them grow from half a second to eight
REFUSED = frozenset({400, 413, 422})  # the server rejects this request, but may accept another one
FORMATS = ("json_schema", "json_object", None)  # from the strictest to none at all


class EndpointError(VideoLLMError):
    """The server cannot be used: it is not reachable, refuses the key, or does not know the model."""


class RefusedError(VideoLLMError):
    """The server rejects one request, for example one that is too long for the model."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The text of a reply, and the number of tokens that it cost (0 if the server does not report it)."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class ChatClient:
    """A model behind an OpenAI-compatible server, used as an asynchronous context manager in one event loop.

    Replies are requested by JSON Schema. If a server rejects this, it is asked for any JSON object from then on, and if
    it rejects that too, only the prompt asks for JSON.

    Args:
        base_url: The server, up to and including /v1.
        model: The name of the model on the server.
        key: The API key. None sends no key.
        rate: The largest number of requests per second, retries included. None sets no limit.
        concurrency: The largest number of requests in flight.
        timeout_s: The seconds after which one try counts as failed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key: str | None = None,
        rate: float | None = None,
        concurrency: int = 64,
        timeout_s: float = 600.0,
    ):
        self.model = model
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        # The package insists on a key. Without one its header is left out, because a proxy may reject an invalid key.
        self._headers: dict[str, Any] = {} if key else {"Authorization": openai.Omit()}
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key or "none",
            max_retries=RETRIES,
            timeout=timeout_s,
            # A hook sees every try, so that retries keep to the rate too.
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [self._wait_for_turn]}),
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._interval_s = 1 / rate if rate else 0.0
        self._next_s = 0.0
        self._format = 0
        self._served = False

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        *,
        seed: int,
        temperature: float,
        max_tokens: int,
    ) -> Completion:
        """Requests one reply that follows the JSON Schema.

        Raises EndpointError if the server cannot be used, and RefusedError if it rejects this request or has no reply
        to it.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        while True:
            used = self._format
            try:
                async with self._slots:
                    reply = await self._client.chat.completions.create(
                        **body | _response_format(used, schema), extra_headers=self._headers
                    )
                break
            except openai.APIStatusError as error:
                if error.status_code not in REFUSED:
                    raise EndpointError(self._refusal(error)) from error
                self._fall_back(used, error)
            except openai.APIConnectionError as error:
                cause = error.__cause__ or error
                reason = f"{type(cause).__name__} {cause}".strip()
                raise EndpointError(
                    f"{self._url} gave no answer in {RETRIES + 1} tries ({reason}); check that the server is running"
                ) from error
            except (openai.OpenAIError, ValueError) as error:
                raise EndpointError(f"{self._url} gave no chat completion: {error}") from error
        return self._read(reply)

    def _fall_back(self, used: int, error: openai.APIStatusError) -> None:
        """Selects the next weaker format after the server rejected format number `used`.

        Raises an error if the format was not the reason, or if there is no weaker format.
        """
        if used + 1 < len(FORMATS) and not self._served:
            # Requests in flight fail together; each must lower the format once only.
            self._format = max(self._format, used + 1)
        elif self._format == used:
            # A server that has answered other requests knows the format, so that this request itself is the reason.
            raise (RefusedError if self._served else EndpointError)(self._refusal(error)) from error

    def _read(self, reply: Any) -> Completion:
        try:
            text = reply.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError) as error:
            # A server that has answered other requests filtered this one. Otherwise the address is not that of an API.
            kind = RefusedError if self._served else EndpointError
            raise kind(f"{self._url} gave no chat completion: {str(reply)[:200]!r}") from error
        self._served = True
        usage = reply.usage
        return Completion(
            text, getattr(usage, "prompt_tokens", None) or 0, getattr(usage, "completion_tokens", None) or 0
        )

    async def _wait_for_turn(self, request: object) -> None:
        """Delays a try until it is due at the allowed rate."""
        if self._interval_s:
            now = asyncio.get_running_loop().time()
            due = max(self._next_s, now)
            self._next_s = due + self._interval_s
            await asyncio.sleep(due - now)

    def _refusal(self, error: openai.APIStatusError) -> str:
        try:
            said = json.dumps(error.response.json().get("error", error.response.json()))
        except (ValueError, AttributeError):
            said = error.response.text
        return f"{self._url} answers {error.status_code}: {said[:300]}"


def _response_format(number: int, schema: Mapping[str, Any]) -> dict[str, Any]:
    match FORMATS[number]:
        case None:
            return {}
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case name:
            reply = {"name": "reply", "schema": schema, "strict": True}
            return {"response_format": {"type": name, "json_schema": reply}}
