"""The page as an application: login and logout, uploads, and one Gradio app for each language."""

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import PurePath
from typing import Annotated
from urllib.parse import quote

import gradio as gr
from fastapi import FastAPI, Form, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, StreamingResponse
from gradio.routes import App as GradioApp
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.errors import APIError, on_api_error, on_http, on_validation
from serve.api.forms import announced_bytes, receive_file
from serve.runtime.service import Service
from serve.security.auth import ApiKeys
from serve.security.disconnect import cancel_on_disconnect
from serve.web import render
from serve.web.actions import Actions
from serve.web.catalog import VideoCatalog
from serve.web.history import History, state_dir
from serve.web.labels import LANGUAGES, Labels
from serve.web.layout import THEME, layout
from serve.web.live_actions import LiveActions, PageStreams
from serve.web.sessions import PageSession, PageSessions, SessionGuard, cookie, cookie_name, is_page
from serve.web.tabs import GradioTabs, TabGuard
from serve.web.thumbnails import Thumbnails

EXPIRE_S = 60.0  # between two deletions of what has expired
IDLE_S = 0.02  # between two looks for events of a page
CHUNK = 1 << 18  # bytes of a file that are read at a time
Seconds = Annotated[float, Query(ge=0, allow_inf_nan=False)]
PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/bmp")  # none with scripts
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="8" fill="#0f766e"/><path d="M12 9l12 7-12 7z" fill="#fff"/></svg>"""


class PageMiddleware:
    """ASGI middleware that serves the page's paths, and leaves all others to the application behind it."""

    def __init__(self, app: ASGIApp, page: FastAPI):
        self.app, self.page = app, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for_page = scope["type"] == "http" and is_page(scope["path"])
        await (self.page if for_page else self.app)(scope, receive, send)


def create_page(service: Service) -> FastAPI:
    """Builds the page's application."""
    limits, keys = service.config.limits, ApiKeys(service.config.api_keys)
    history = History(state_dir())
    tabs, catalog, streams = GradioTabs(), VideoCatalog(service), PageStreams()
    sessions = PageSessions(service.files, history, keys, drop_tab=tabs.drop)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        expiring = asyncio.create_task(_expire(sessions, tabs, history, streams, service))
        yield
        expiring.cancel()
        await asyncio.gather(expiring, return_exceptions=True)
        sessions.save()

    page = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    page.add_exception_handler(APIError, on_api_error)
    page.add_exception_handler(RequestValidationError, on_validation)
    page.add_exception_handler(HTTPException, on_http)

    @page.get("/login")
    async def login(request: Request) -> Response:
        return _login(request, "")

    @page.post("/login")
    async def open_session(request: Request, key: Annotated[str, Form()]) -> Response:
        try:
            owner = keys.owner(f"Bearer {key}")
        except APIError as error:
            return _login(request, _labels(request).key_wrong, error.status)
        service.rate_limiter.take(owner)
        redirect = RedirectResponse("/", 303)
        redirect.headers.append("Set-Cookie", cookie(request, sessions.open(owner)))
        return redirect

    @page.get("/logout")
    async def close_session(request: Request) -> Response:
        sessions.close(request.cookies.get(cookie_name(request)))
        return RedirectResponse("/login" if keys.required else "/", 303)

    @page.post("/media")
    async def upload(request: Request) -> dict[str, str]:
        session: PageSession = request.state.session
        service.rate_limiter.take(session.key)
        with service.files.receive(session.owner, announced_bytes(request)) as target:
            name, _ = await receive_file(request, target)
            return {"name": catalog.add(session.owner, target.keep(name, "user_data")).id}

    @page.get("/media/{file_id}")
    async def media(file_id: str, request: Request) -> FileResponse:
        session: PageSession = request.state.session
        stored = service.files.get(session.owner, file_id)
        guessed = mimetypes.guess_type(stored.name)[0] or ""
        # The browser is told a type of media or none: uploaded HTML must not run as a page of this server.
        is_media = guessed.startswith(("video/", "audio/")) or guessed in PICTURES
        kind = guessed if is_media else "application/octet-stream"
        return FileResponse(stored.path, media_type=kind, headers={"Cache-Control": "private, no-cache"})

    @page.get("/clip/{name}")
    async def clip(name: str, start: Seconds, end: Seconds, request: Request) -> StreamingResponse:
        """Sends a moment of a video as a file of its own."""
        session: PageSession = request.state.session
        service.rate_limiter.take(session.key)
        stored = catalog.open(session.owner, name)
        async with service.concurrency.slot(session.owner):
            cutting = service.decoder.clip(stored.path, start, end, session.owner)
            file = await cancel_on_disconnect(request.receive, cutting)
        title = f"{PurePath(stored.name).stem} {start:.2f}-{end:.2f}.mp4"
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(title)}"}
        return StreamingResponse(iter(partial(file.read, CHUNK), b""), media_type="video/mp4", headers=headers)

    @page.get("/favicon.ico")
    async def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    @page.get("/")
    async def redirect(request: Request) -> Response:
        """Leads to the page in the reader's language."""
        return RedirectResponse(f"/{_labels(request).language}/", 303)

    thumbnails = Thumbnails(service.decoder)
    package = files("serve.web")
    for language, labels in LANGUAGES.items():
        blocks = layout(
            Actions(service, sessions, history, catalog, thumbnails, labels),
            LiveActions(service, sessions, history, catalog, thumbnails, labels, streams=streams),
            labels,
            model=service.model.config.name,
            hours=limits.file_s / 3600,
            logout=keys.required,
            indexed=catalog.index is not None,
        )
        blocks.queue(default_concurrency_limit=None)  # the service limits concurrency itself
        tabs.blocks[language] = blocks
        blocks._queue.sleep_when_free = IDLE_S  # Gradio's millisecond costs an idle server a tenth of a processor
        gr.mount_gradio_app(
            page,
            blocks,
            f"/{language}",
            footer_links=[],
            run_history=False,
            show_error=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            max_file_size=1,  # nothing is uploaded to Gradio
            theme=THEME,
            css=package.joinpath("page.css").read_text(),
            head=f"<script>{package.joinpath('page.js').read_text()}</script>",
        )
    page.add_middleware(TabGuard, sessions=sessions, tabs=tabs, max_bytes=limits.json_bytes)
    page.add_middleware(SessionGuard, sessions=sessions, keys=keys)
    return page


def close_tabs(page: FastAPI) -> None:
    """Closes the connections that open tabs hold."""
    for route in page.router.routes:
        if isinstance(route, Mount) and isinstance(route.app, GradioApp):
            route.app.stop_event.set()


async def _expire(
    sessions: PageSessions, tabs: GradioTabs, history: History, streams: PageStreams, service: Service
) -> None:
    """Deletes what has expired at intervals, so that it also ends while no requests come."""
    while True:
        await asyncio.sleep(EXPIRE_S)
        sessions.expire()
        tabs.expire(sessions)
        await streams.expire(service)
        sessions.save()
        history.purge()
        service.files.expire()


def _labels(request: Request) -> Labels:
    wanted = request.headers.get("accept-language", "").lower()
    return LANGUAGES["zh" if wanted.startswith("zh") else "en"]


def _login(request: Request, problem: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(render.login(_labels(request), problem), status)
