"""Who looks at the page: a browser's session, opened with an API key where the server has keys.

A session is a random token in a cookie that scripts cannot read and other sites cannot send. What it uploads, and what
is computed from that, belongs to it alone.
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import APIError
from serve.runtime.files import Files
from serve.security.auth import Keys

# Everything of the page that can be reached. Gradio has many more routes, among them ones that serve or take files.
PAGE = re.compile(
    r"/|/(en|zh)/((assets|static|svelte)/.+|theme\.css|favicon\.ico|manifest\.json|config|"
    r"gradio_api/(queue/(join|data)|heartbeat/[^/]+|cancel|reset|startup-events))?|"
    r"/login|/logout|/favicon\.ico|/media(/[^/]+)?"
)
STARTS = ("/", "/en/", "/zh/")
OPEN = (*STARTS, "/login", "/favicon.ico")
UPLOAD = "/media"
MOST = 1000  # sessions; the one unused for longest makes room
HEADERS = {
    # Nothing from elsewhere is ever loaded. Gradio runs scripts that are in the page, and makes functions from text.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # without any, browsers hide from which site a form comes
}


def is_page(path: str) -> bool:
    return PAGE.fullmatch(path) is not None


@dataclass(slots=True)
class Session:
    """owner: of its files and features. key: the name of the API key that opened it. seen: when it was last used.
    tabs: Gradio's names for its open pages."""

    owner: str
    key: str
    seen: float
    tabs: set[str] = field(default_factory=set)


class Sessions:
    """lasts_s: how long an unused session is kept."""

    def __init__(self, files: Files, lasts_s: float, now: Callable[[], float] = monotonic):
        self._files, self._lasts_s, self._now = files, lasts_s, now
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()  # by the hash of the token, longest unused first

    def open(self, key: str) -> str:
        """A new session's token."""
        token = secrets.token_urlsafe(32)
        self._sessions[_digest(token)] = Session(f"page-{secrets.token_hex(12)}", key, self._now())
        while len(self._sessions) > MOST:
            self._end(next(iter(self._sessions)))
        return token

    def get(self, token: str | None) -> Session | None:
        self.sweep()
        found = self._sessions.get(_digest(token or ""))
        if found is not None:
            found.seen = self._now()
            self._sessions.move_to_end(_digest(token or ""))
        return found

    def close(self, token: str | None) -> None:
        if _digest(token or "") in self._sessions:
            self._end(_digest(token or ""))

    def sweep(self) -> None:
        """Ends what has not been used for long."""
        for digest, session in list(self._sessions.items()):
            if session.seen + self._lasts_s > self._now():
                return
            self._end(digest)

    def _end(self, digest: bytes) -> None:
        session = self._sessions.pop(digest)
        for file in self._files.of(session.owner):
            self._files.delete(session.owner, file.id)

    def claim(self, session: Session, tab: str) -> None:
        """Raises APIError 404 for a tab of another session, whose answers and state are not this one's to read."""
        if any(tab in other.tabs for other in self._sessions.values() if other is not session):
            raise APIError(404, "no such page", "not_found")
        session.tabs.add(tab)

    def owners(self, key: str) -> list[str]:
        return [session.owner for session in self._sessions.values() if session.key == key]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Access:
    """Before the page: lets in requests of a session, and opens one for whoever needs no key."""

    def __init__(self, app: ASGIApp, sessions: Sessions, keys: Keys):
        self.app, self.sessions, self.keys = app, sessions, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, token = Request(scope), None
        try:
            session = self._admit(request)
            if session is None and request.url.path in STARTS and not self.keys.required:
                session = self.sessions.get(token := self.sessions.open(self.keys.owner(None)))
        except APIError as error:
            await error.response()(scope, receive, send)
            return
        if session is None and request.url.path in STARTS:
            await RedirectResponse("/login", 303)(scope, receive, send)
            return
        scope.setdefault("state", {})["session"] = session

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if token:
                    headers.append("Set-Cookie", cookie(request, token))
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _admit(self, request: Request) -> Session | None:
        """None where there is no session yet but the request may open one. Raises APIError."""
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin and urlsplit(origin).netloc != request.headers.get("host"):
            raise APIError(403, "this page takes no requests from other sites", "wrong_origin")
        session = self.sessions.get(request.cookies.get(cookie_name(request)))
        path = request.url.path
        if session is None and path not in OPEN:
            raise APIError(401, "the session has ended; load the page again", "no_session")
        if session is not None:
            if "/heartbeat/" in path:
                self.sessions.claim(session, path.rpartition("/")[2])
            elif path.endswith("/queue/data"):
                self.sessions.claim(session, request.query_params.get("session_hash", ""))
        return session


def cookie_name(request: Request) -> str:
    """Of its own for each port: browsers share cookies between all servers of a machine."""
    _, port = request.scope["server"]
    return f"videollm-{port}"


def cookie(request: Request, token: str) -> str:
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{cookie_name(request)}={token}; Path=/; HttpOnly; SameSite=Strict{secure}"
