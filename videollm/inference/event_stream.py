"""Requests to a server of a language model, whose replies are streams of server-sent events with JSON.

Any thread can end a request, also while it waits for its first event, which HTTP libraries do not allow.
"""

import json
import socket
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from videollm.errors import ConfigError, EngineError

KEY_VARIABLE = "OPENAI_API_KEY"  # the environment variable of the key for a server
CONNECT_S = 5.0
HEALTH_S = 2.0


class RefusalError(EngineError):
    """The server refuses a request.

    Attributes:
        status: The status of its reply.
        said: Its reason.
        retry_after: The header Retry-After, if it has one.
    """

    def __init__(self, server: str, status: int, said: str, retry_after: str | None):
        super().__init__(server, f"refused the request with status {status}: {said}")
        self.status, self.said, self.retry_after = status, said, retry_after


class EventStreamClient:
    """A client of one server.

    Args:
        name: What the server is called in errors.
        url: Its URL, which paths are added to.
        api_key: The key that it wants, if any.
        example: A URL for the error about another one.
        patience_s: The longest wait for an event in seconds.

    Raises:
        ConfigError: If the URL is not an HTTP URL.
    """

    def __init__(self, name: str, url: str, api_key: str | None, example: str, patience_s: float):
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"the URL of {name} is {url!r}; it must be like {example}")
        self._name, self._host, self._path = name, parts.netloc, parts.path
        self._http = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._sockets: set[socket.socket] = set()  # connections of the streams that are running
        self._patience_s, self._closed = patience_s, False

    def post(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any]]:
        """Yields the events of the reply to a request. Closing the generator ends the request.

        Raises EngineError if the server cannot be reached or ends the stream early, and RefusalError if it refuses the
        request.
        """
        with self._reply("POST", path, json.dumps(body), {"Content-Type": "application/json"}) as response:
            yield from self._events(response)

    def call(
        self, method: str, path: str, body: Iterable[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Returns the JSON object that a request is answered with. Raises EngineError and RefusalError as `post`
        does."""
        with self._reply(method, path, body, headers or {}) as response:
            return json.loads(response.read())

    def get(self, path: str) -> tuple[int, str]:
        """Returns the status and the body of a reply. Raises OSError or HTTPException if there is none."""
        with closing(self._http(self._host, timeout=HEALTH_S)) as connection:
            connection.request("GET", self._path + path, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")

    def answers(self, path: str) -> bool:
        """Returns whether the server answers a request for `path` with status 200."""
        try:
            return self.get(path)[0] == 200
        except (OSError, HTTPException):
            return False

    def close(self) -> None:
        """Ends all streams, from any thread. They raise EngineError, including those that wait for their first
        event."""
        self._closed = True
        for connected in list(self._sockets):
            with suppress(OSError):  # the stream may have ended in the meantime
                connected.shutdown(socket.SHUT_RDWR)

    def error(self, reason: str) -> EngineError:
        return EngineError(self._server, reason)

    @property
    def _server(self) -> str:
        return f"{self._name} at {self.url}"

    @contextmanager
    def _reply(
        self, method: str, path: str, body: str | Iterable[bytes] | None, headers: dict[str, str]
    ) -> Iterator[HTTPResponse]:
        try:
            with self._connected() as connection:
                with suppress(BrokenPipeError):  # a server that refuses a request need not read its body
                    connection.request(method, self._path + path, body, self._headers | headers)
                response = connection.getresponse()
                if response.status != 200:
                    said = _reason(response.read().decode(errors="replace"))
                    raise RefusalError(self._server, response.status, said, response.headers["Retry-After"])
                yield response
        except (OSError, HTTPException, json.JSONDecodeError) as error:
            raise self.error(f"does not answer ({type(error).__name__}: {error}); check that it is running") from error

    @contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        with closing(self._http(self._host, timeout=CONNECT_S)) as connection:
            connection.connect()
            own = connection.sock
            own.settimeout(self._patience_s)
            self._sockets.add(own)
            try:
                if self._closed:
                    raise self.error("was closed")
                yield connection
            finally:
                self._sockets.remove(own)

    def _events(self, response: HTTPResponse) -> Iterator[dict[str, Any]]:
        for line in response:
            kind, _, data = line.decode().rstrip().partition(":")
            if kind != "data":
                continue
            if (data := data.strip()) == "[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise self.error(f"ended the stream early: {_reason(data)}")
            yield event
        raise self.error("ended the stream in the middle of an answer")


def _reason(said: str) -> str:
    """Returns the message in the body of an error response, in one line."""
    try:
        return json.loads(said)["error"]["message"].splitlines()[0]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return " ".join(said.split())[:200]
