"""The application: the HTTP API below /v1, and the web page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.errors import APIError, on_api_error, on_error, on_http, on_validation
from serve.api.live import streams
from serve.api.routes import keyed, public
from serve.runtime.service import Service
from serve.security.guard import Guard
from serve.web.app import PageMiddleware, create_page
from videollm import __version__
from videollm.errors import VideoLLMError


class HeadAsGet:
    """ASGI middleware that answers HEAD as GET. The HTTP server leaves out the body."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self.app({**scope, "method": "GET"} if is_head else scope, receive, send)


def create_app(service: Service, *, api: bool = True) -> FastAPI:
    """Builds the application: the page, health and metrics, and with `api` the routes below /v1."""
    page = create_page(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The decoder starts in the background. Meanwhile /health answers, and /ready answers 503.
        decoding = asyncio.create_task(service.decoder.keep_running())
        async with page.router.lifespan_context(page):
            yield
        decoding.cancel()
        await asyncio.gather(decoding, return_exceptions=True)
        await service.close()

    app = FastAPIOffline(title="videollm", version=__version__, lifespan=lifespan)  # /docs without a network
    app.state.service, app.state.page = service, page
    app.include_router(public)
    if api:
        app.include_router(keyed)
        app.include_router(streams)
    app.add_exception_handler(APIError, on_api_error)
    app.add_exception_handler(VideoLLMError, on_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_error)
    app.add_middleware(PageMiddleware, page=page)
    # A middleware that is added later runs earlier: CORS, HEAD, then the guard, then the page.
    app.add_middleware(Guard, service=service)
    app.add_middleware(HeadAsGet)
    if service.config.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=service.config.cors_origins, allow_methods=["*"], allow_headers=["*"]
        )
    return app
