"""The page as an application of its own: its sessions, its videos, and Gradio, in each language."""

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import gradio as gr
from fastapi import FastAPI, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from gradio.routes import App as GradioApp
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.errors import APIError, on_api_error, on_http, on_validation
from serve.runtime.service import Service
from serve.security.auth import Keys
from serve.web.actions import Actions
from serve.web.labels import LANGUAGES, Labels
from serve.web.layout import THEME, layout
from serve.web.pictures import Pictures
from serve.web.sessions import Access, Session, Sessions, cookie, cookie_name, is_page
from serve.web.shelf import Shelf

SWEEP_S = 60.0
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="8" fill="#0f766e"/><path d="M12 9l12 7-12 7z" fill="#fff"/></svg>"""


class Page:
    """Serves the page's paths, and leaves all others to the application behind it."""

    def __init__(self, app: ASGIApp, page: FastAPI):
        self.app, self.page = app, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and is_page(scope["path"])
        await (self.page if ours else self.app)(scope, receive, send)


def create_page(service: Service) -> FastAPI:
    limits, keys = service.config.limits, Keys(service.config.api_keys)
    sessions = Sessions(service.files, limits.file_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(sessions, service))
        yield
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)

    page = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    page.add_exception_handler(APIError, on_api_error)
    page.add_exception_handler(RequestValidationError, on_validation)
    page.add_exception_handler(HTTPException, on_http)

    @page.get("/login")
    async def login(request: Request) -> Response:
        return _login(request, "")

    @page.post("/login")
    async def enter(request: Request, key: Annotated[str, Form()]) -> Response:
        try:
            owner = keys.owner(f"Bearer {key}")
        except APIError as error:
            return _login(request, _labels(request).key_wrong, error.status)
        service.rate.take(owner)
        back = RedirectResponse("/", 303)
        back.headers.append("Set-Cookie", cookie(request, sessions.open(owner)))
        return back

    @page.get("/logout")
    async def leave(request: Request) -> Response:
        sessions.close(request.cookies.get(cookie_name(request)))
        return RedirectResponse("/login" if keys.required else "/", 303)

    @page.post("/media")
    async def upload(request: Request, file: UploadFile) -> dict[str, str]:
        session: Session = request.state.session
        service.rate.take(session.key)
        held = sum(one.size for owner in sessions.owners(session.key) for one in service.files.of(owner))
        if held + (file.size or 0) > limits.files_bytes:
            raise APIError(429, "the pages of this key hold as many uploads as they may", "file_limit_exceeded")
        name = Path(file.filename or "video").name[:200]
        stored = await asyncio.to_thread(service.files.add, session.owner, file.file, name, "user_data")
        return {"name": stored.id}

    @page.get("/media/{file_id}")
    async def media(file_id: str, request: Request) -> FileResponse:
        session: Session = request.state.session
        stored = service.files.get(session.owner, file_id)
        guessed = mimetypes.guess_type(stored.name)[0] or ""
        kind = guessed if guessed.startswith("video/") else "application/octet-stream"
        return FileResponse(stored.path, media_type=kind, headers={"Cache-Control": "private, no-cache"})

    @page.get("/favicon.ico")
    async def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    @page.get("/")
    async def start(request: Request) -> Response:
        """The page in the reader's language."""
        return RedirectResponse(f"/{_labels(request).language}/", 303)

    shelf, pictures = Shelf(service), Pictures(service.decoders)
    own = files("serve.web")
    for language, labels in LANGUAGES.items():
        blocks = layout(
            Actions(service, sessions, shelf, pictures, labels),
            labels,
            model=service.model.config.name,
            hours=limits.file_s / 3600,
            leave=keys.required,
            indexed=shelf.index is not None,
        )
        blocks.queue(default_concurrency_limit=None)  # the service has its own queue
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
            css=own.joinpath("page.css").read_text(),
            head=f"<script>{own.joinpath('page.js').read_text()}</script>",
        )
    page.add_middleware(Access, sessions=sessions, keys=keys)
    return page


def close_tabs(page: FastAPI) -> None:
    """Ends the connections by which open tabs keep their state."""
    for route in page.router.routes:
        if isinstance(route, Mount) and isinstance(route.app, GradioApp):
            route.app.stop_event.set()


async def _sweep(sessions: Sessions, service: Service) -> None:
    """Old files and sessions end even while nobody comes."""
    while True:
        await asyncio.sleep(SWEEP_S)
        sessions.sweep()
        service.files.of("")


def _labels(request: Request) -> Labels:
    wanted = request.headers.get("accept-language", "").lower()
    return LANGUAGES["zh" if wanted.startswith("zh") else "en"]


def _login(request: Request, problem: str, status: int = 200) -> HTMLResponse:
    labels = _labels(request)
    text = files("serve.web").joinpath("login.html").read_text()
    words = {"language": labels.language, "tagline": labels.tagline, "key": labels.key, "note": labels.key_note}
    words |= {"enter": labels.enter, "problem": problem}
    for name, word in words.items():
        text = text.replace(f"[[{name}]]", escape(word))
    return HTMLResponse(text, status)
