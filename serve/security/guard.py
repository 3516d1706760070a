"""The first middleware of every request. It checks who sends it, whether there is room, and how much it may send.

A refusal is sent before the body is read. What the client still sends is then read and dropped for a few seconds. If
the connection were closed while the client sends, the client would often lose the refusal too (TCP reset).
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from time import perf_counter

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import APIError
from serve.config import LOOPBACK, ServerConfig
from serve.runtime.service import Service
from serve.security.auth import ApiKeys
from serve.web.sessions import UPLOAD as PAGE_UPLOAD
from serve.web.sessions import is_page

OPEN = ("/health", "/ready")  # monitoring has no key
UPLOAD = "/v1/files"
SPEECH = ("/v1/audio/transcriptions", "/v1/audio/translations")  # a form with a file too, which is worked on at once
BODY_RATE = 1 << 13  # least bytes a second of a request's body, after the first `body_s` seconds
SEND_S = 60.0  # longest wait for a client to take a piece of its answer
DROP_S = 5.0  # how long the body of a refused request is read
FORM_BYTES = 1 << 16  # what a multipart form adds to the file inside it


class Guard:
    """ASGI middleware that admits or refuses requests and counts them in the metrics."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service
        self.keys = ApiKeys(service.config.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            async with asyncio.timeout(SEND_S):
                await send(message)

        try:
            async with AsyncExitStack() as slots:
                try:
                    max_bytes = await self._admit(scope, slots)
                except APIError as error:
                    await _refuse(error, receive, send_and_note_status)
                    return
                limited = limit_body(receive, max_bytes, self.service.config.limits.body_s)
                await self.app(scope, limited, send_and_note_status)
        finally:
            # The label is the route's pattern, because clients choose paths and labels are never dropped.
            path = getattr(scope.get("route"), "path", "other")
            self.service.metrics.requests.labels(path, status).inc()
            self.service.metrics.seconds.labels("request").observe(perf_counter() - started)

    async def _admit(self, scope: Scope, slots: AsyncExitStack) -> int:
        """Returns the most bytes that the body may have, and enters the request's slot into `slots`.

        Raises APIError.
        """
        headers, config = Headers(scope=scope), self.service.config
        scope.setdefault("state", {})
        check_origin(scope["method"], headers, config)
        if scope["path"] in OPEN:
            return 0
        page = is_page(scope["path"])  # the page has sessions of its own, see serve.web.sessions
        owner = scope["state"]["owner"] = "" if page else self.keys.owner(headers.get("authorization"))
        upload = scope["path"] in (UPLOAD, PAGE_UPLOAD)
        form = upload or scope["path"] in SPEECH
        max_bytes = config.limits.media_bytes + FORM_BYTES if form else config.limits.body_bytes
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > max_bytes:
            advice = "" if form else "; upload the file"
            raise APIError(413, f"the request is larger than {max_bytes >> 20} MiB{advice}", "request_too_large")
        if scope["method"] == "POST" and not page:
            self.service.rate_limiter.take(owner)
            if not upload:
                await slots.enter_async_context(self.service.concurrency.slot(owner))
        return max_bytes


def check_origin(method: str, headers: Headers, config: ServerConfig) -> None:
    """Checks under which name the server is called, and which site's page calls it. Raises APIError.

    A form with a file is sent from one site to another without asking, by every browser.
    """
    names = (*LOOPBACK, *config.trusted_hosts)
    # DNS rebinding: a site can point a name of its own to loopback. The browser still sends that name as Host.
    if (config.is_loopback or config.trusted_hosts) and _host_name(headers.get("host", "")) not in names:
        raise APIError(421, f"this server answers to {', '.join(names)} only", "wrong_host")
    origin = headers.get("origin")
    if method in ("GET", "HEAD", "OPTIONS") or origin is None or origin in config.cors_origins:
        return
    place = origin.partition("://")[2]
    if place != headers.get("host") and _host_name(place) not in config.trusted_hosts:
        raise APIError(403, "this server accepts no requests from other sites", "wrong_origin")


def _host_name(host: str) -> str:
    """Returns a Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def limit_body(receive: Receive, max_bytes: int, seconds: float) -> Receive:
    """Wraps `receive` so that a body that gets too large raises HTTPException 413, and a slow one 408.

    Args:
        seconds: The time for a body, to which one second is added for each BODY_RATE bytes.
    """
    size, complete, until = 0, False, asyncio.get_running_loop().time() + seconds

    async def limited() -> Message:
        nonlocal size, complete
        if complete:  # waits for the disconnect, which may come much later
            return await receive()
        try:
            async with asyncio.timeout_at(until + size / BODY_RATE):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, f"after {size} bytes the request's body is too slow; send it faster") from error
        size += len(message.get("body", b""))
        if size > max_bytes:
            raise HTTPException(413, f"the request is larger than {max_bytes >> 20} MiB")
        complete = not message.get("more_body", False)
        return message

    return limited


async def _refuse(error: APIError, receive: Receive, send: Send) -> None:
    response = error.response()
    await send({"type": "http.response.start", "status": error.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(DROP_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
