"""Limits before a request is known: the number of connections, and the size and time of a request's head.

Everybody who reaches the server meets these limits, with or without a key.
"""

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.api.errors import APIError
from serve.config import Limits


class LimitedConnection(HttpToolsProtocol):
    """A connection of uvicorn that ends when a request's line and headers are too large or take too long.

    Beyond `limits.connections`, the one without a request that has waited longest is closed for a new one. Silent
    connections therefore lock nobody out.
    """

    limits: ClassVar[Limits]

    def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._head = 0  # bytes of the head of the request
        self._unparsed = 0  # bytes received since the head began, while it is incomplete
        self._expect_head()
        if len(self.connections) > self.limits.connections:
            found: Any = self.connections
            oldest = min((one for one in found if one.is_idle), key=lambda one: one.idle_since)
            oldest.refuse(APIError(503, "this server has too many connections; try again", "too_many_connections"))

    @property
    def is_idle(self) -> bool:
        """Whether there is no request in work."""
        return self.cycle is None or self.cycle.response_complete

    def _expect_head(self) -> None:
        self.idle_since = self.loop.time()
        self._deadline: TimerHandle | None = self.loop.call_later(self.limits.header_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self.refuse(APIError(408, f"no request came within {self.limits.header_s:g} s", "request_timeout"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_has_come()
        super().connection_lost(exc)

    def _head_has_come(self) -> None:
        self._unparsed = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self.is_idle:  # a further request on this connection
            self._expect_head()
        super().data_received(data)
        if self._deadline is not None:
            self._unparsed += len(data)
            if self._unparsed > self.limits.header_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)  # with the colon, a space and the line's end
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > self.limits.header_bytes:
            raise ValueError("the head is too large")  # which ends in send_400_response

    def on_headers_complete(self) -> None:
        self._head_has_come()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if self._head > self.limits.header_bytes:
            self._refuse_head()
        else:
            self.refuse(APIError(400, msg, "invalid_http"))

    def _refuse_head(self) -> None:
        most = self.limits.header_bytes
        self.refuse(APIError(431, f"the request's headers are larger than {most} bytes", "headers_too_large"))

    def refuse(self, error: APIError) -> None:
        """Sends an error and closes the connection."""
        if self.transport.is_closing():
            return
        self._head_has_come()
        response = error.response()
        fields = [*response.raw_headers, (b"connection", b"close")]
        head = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
        head += [name + b": " + value for name, value in fields]
        self.transport.write(b"\r\n".join([*head, b"", response.body]))
        self.transport.close()


def limited(most: Limits) -> type[LimitedConnection]:
    """Returns the class of a server's connections."""

    class Connection(LimitedConnection):
        limits = most

    return Connection
