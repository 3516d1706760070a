"""What every request passes first: who sends it, whether there is room, and how much it may send.

Refusals are sent before the body is read. What the client is still sending is then read and dropped, for a while: a
connection closed in the face of a sender loses the answer too.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import APIError
from serve.limits import LOOPBACK
from serve.runtime.service import Service
from serve.security.auth import Keys
from serve.web.sessions import UPLOAD as PAGE_UPLOAD
from serve.web.sessions import is_page

logger = logging.getLogger(__name__)

OPEN = ("/health", "/ready")  # for those who watch over the server
UPLOAD = "/v1/files"
MESSAGE_S = 60.0  # between two pieces of a request's body
DROP_S = 5.0
FORM_BYTES = 1 << 16  # around an uploaded file


class Guard:
    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service
        self.keys = Keys(service.config.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            async with AsyncExitStack() as held:
                try:
                    most = await self._admit(scope, held)
                except APIError as error:
                    await _refuse(error, receive, watched_send)
                    return
                await self.app(scope, _limited(receive, most), watched_send)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.service.metrics.requests.labels(path, status).inc()
            self.service.metrics.seconds.labels("request").observe(perf_counter() - started)

    async def _admit(self, scope: Scope, held: AsyncExitStack) -> int:
        """The most bytes that the body may have. What the request holds while it lasts goes into `held`."""
        headers, config = Headers(scope=scope), self.service.config
        scope.setdefault("state", {})
        # A page of another site may reach loopback under a name of its own; it cannot hide that name.
        if config.is_loopback and _host_name(headers.get("host", "")) not in LOOPBACK:
            raise APIError(421, "this server answers to localhost only", "wrong_host")
        if scope["path"] in OPEN:
            return 0
        page = is_page(scope["path"])  # which has sessions of its own
        owner = scope["state"]["owner"] = "" if page else self.keys.owner(headers.get("authorization"))
        upload = scope["path"] in (UPLOAD, PAGE_UPLOAD)
        most = config.limits.media_bytes + FORM_BYTES if upload else config.limits.body_bytes
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > most:
            advice = "" if upload else "; upload the file"
            raise APIError(413, f"the request is larger than {most >> 20} MiB{advice}", "request_too_large")
        if scope["method"] == "POST" and not page:
            self.service.rate.take(owner)
            if not upload:
                await held.enter_async_context(self.service.admission.slot())
        return most


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _limited(receive: Receive, most: int) -> Receive:
    """Ends a body that is too large, or too slow."""
    size, whole = 0, False

    async def limited() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), MESSAGE_S)
        except TimeoutError as error:
            raise HTTPException(408, f"nothing of the request's body came for {MESSAGE_S:g} s") from error
        size += len(message.get("body", b""))
        if size > most:
            raise HTTPException(413, f"the request is larger than {most >> 20} MiB")
        whole = not message.get("more_body", False)
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


async def unless_gone(receive: Receive, work: Any) -> Any:
    """The work's result, unless the client goes away first: then it is cancelled, and ClientGoneError raised."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        for unfinished in (task, gone):
            unfinished.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class ClientGoneError(APIError):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__(499, "the client closed the connection", "client_closed_request")
