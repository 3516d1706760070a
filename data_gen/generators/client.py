"""Chat completions from any OpenAI-compatible server: paced, retried, as strict about JSON as the server can be."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2 as httpx

from videollm.errors import VideoLLMError

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
REFUSED = frozenset({400, 413, 422})  # this request is not for this server; another may be
TRIES = 6
LONGEST_WAIT_S = 60.0
FORMATS = ("json_schema", "json_object", None)


class EndpointError(VideoLLMError):
    """The server cannot be used: not there, no right to use it, no such model."""


class RefusedError(VideoLLMError):
    """The server refuses one request, such as one that is too long for the model."""


@dataclass(frozen=True, slots=True)
class Completion:
    text: str
    prompt_tokens: int
    completion_tokens: int


class ChatClient:
    """base_url: up to and with /v1. rate: requests a second, None for no limit. timeout_s: for one request.

    Replies are asked for by JSON Schema; a server that refuses that is asked for any JSON object from then on, and one
    that refuses that too is left to the prompt. Use as an asynchronous context manager.
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
        first_wait_s: float = 0.5,
    ):
        self.model, self.first_wait_s = model, first_wait_s
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
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
        await self._http.aclose()

    async def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        *,
        seed: int,
        temperature: float,
        max_tokens: int,
    ) -> Completion:
        """Raises EndpointError where the server cannot be used and RefusedError where it will not have this request."""
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        while True:
            used = self._format
            response = await self._send(body | _response_format(FORMATS[used], schema))
            if response.status_code not in REFUSED:
                break
            if used + 1 < len(FORMATS) and not self._served:
                self._format = max(self._format, used + 1)
            elif self._format == used:
                raise (RefusedError if self._served else EndpointError)(_refusal(self._url, response))
        self._served = True
        try:
            values = response.json()
            usage = values.get("usage") or {}
            text = values["choices"][0]["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointError(f"{self._url} gave no chat completion: {response.text[:200]!r}") from error
        return Completion(text, usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)

    async def _send(self, body: dict[str, Any]) -> httpx.Response:
        """One answer that is final: waits longer and longer where the server is busy or away, at least as long as it
        asks for."""
        trouble = ""
        for attempt in range(TRIES):
            wait_s = self.first_wait_s * 2**attempt * random.uniform(0.75, 1.25)
            try:
                async with self._slots:
                    await self._turn()
                    response = await self._http.post(self._url, json=body)
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__} {error}"
            else:
                if response.status_code not in RETRIED:
                    if response.is_success or response.status_code in REFUSED:
                        return response
                    raise EndpointError(_refusal(self._url, response))
                trouble = _refusal("", response)
                asked = response.headers.get("retry-after", "")
                wait_s = max(wait_s, float(asked) if asked.replace(".", "", 1).isdigit() else 0.0)
            if attempt + 1 < TRIES:
                await asyncio.sleep(min(wait_s, LONGEST_WAIT_S))
        raise EndpointError(f"{self._url} gave no answer in {TRIES} tries ({trouble.strip()}); is the server up?")

    async def _turn(self) -> None:
        """Wait for this request's turn at the allowed rate."""
        if self._interval_s:
            now = asyncio.get_running_loop().time()
            mine = max(self._next_s, now)
            self._next_s = mine + self._interval_s
            await asyncio.sleep(mine - now)


def _response_format(name: str | None, schema: Mapping[str, Any]) -> dict[str, Any]:
    if name is None:
        return {}
    if name == "json_object":
        return {"response_format": {"type": name}}
    return {"response_format": {"type": name, "json_schema": {"name": "reply", "schema": schema, "strict": True}}}


def _refusal(url: str, response: httpx.Response) -> str:
    try:
        said = json.dumps(response.json().get("error", response.json()))
    except (ValueError, AttributeError):
        said = response.text
    return f"{url} answers {response.status_code}: {said[:300]}"
