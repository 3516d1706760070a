"""Sessions of the page, one per browser. A session is opened with an API key if the server has keys.

A session is a random token in a cookie that scripts cannot read (HttpOnly) and other sites cannot send (SameSite). Its
uploads, and what is computed from them, are visible to this session only. Sessions are kept on disk as hashes of their
tokens, so that a browser finds its conversations again after the server was started anew.
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import APIError
from serve.runtime.files import FileStore
from serve.security.auth import ANYBODY, ApiKeys
from serve.web.answering import Answering
from serve.web.conversation import PageConversation
from serve.web.history import History

# The paths that the page needs; all others are closed. Gradio has many more, some of which serve files or take them.
PAGE_PATHS = re.compile(
    r"/|/(en|zh)/((assets|static|svelte)/.+|theme\.css|favicon\.ico|manifest\.json|config|"
    r"gradio_api/(queue/(join|data)|heartbeat/[^/]+|cancel|reset|startup-events))?|"
    r"/login|/logout|/favicon\.ico|/media(/[^/]+)?|/clip/[^/]+"
)
ENTRIES = ("/", "/en/", "/zh/")
OPEN = (*ENTRIES, "/login", "/favicon.ico")
UPLOAD = "/media"
MAX_SESSIONS = 1000  # of one key; one without a page makes room, and else the least recently used one
MAX_TABS = 64  # of one key; the longest unused one makes room
TAB_NAME = re.compile(r"[A-Za-z0-9]{1,64}")
SESSION_S = 30 * 24 * 3600.0  # how long an unused session is kept
HEADERS = {
    # Nothing is loaded from other sites. Gradio needs the unsafe parts: inline scripts, and functions made from text.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # "no-referrer" would make browsers send Origin: null with forms
}


def is_page(path: str) -> bool:
    return PAGE_PATHS.fullmatch(path) is not None


# SameSite=Strict: the browser sends no cookie where a link of another site leads here, but does so once this page asks.
AGAIN = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>videollm</title>"""


@dataclass(slots=True)
class PageTab:
    """An open page.

    Attributes:
        shown: The name in the catalog of what is in its player.
        searches_index: Whether its last search was in all indexed videos, and not in the one that is shown.
        answering: The answer in work.
        stream: The id of the stream that it shows.
        connections: How many requests wait for news of it.
        used_at: When it last asked for something or ceased to wait, on the clock of `monotonic`.
    """

    shown: str = ""
    searches_index: bool = False
    answering: Answering | None = None
    stream: str = ""
    connections: int = 0
    used_at: float = field(default_factory=monotonic)

    async def stop(self, conversation: PageConversation) -> PageConversation:
        """Ends the answer in work, and returns the conversation with what there is of it."""
        working, self.answering = self.answering, None
        return conversation if working is None else await working.stop()

    @property
    def unused_s(self) -> float:
        return 0.0 if self.connections else monotonic() - self.used_at

    @contextmanager
    def connected(self) -> Iterator[None]:
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1
            self.used_at = monotonic()


@dataclass(slots=True)
class PageSession:
    """A session of one browser.

    Attributes:
        owner: The owner of its files and features, which count for the key (see `account_of`).
        key: The owner name of the API key that opened it.
        used_at: When it was last used, in seconds since 1970.
        has_page: Whether it ever had a tab.
        tabs: Its tabs by Gradio's names of them (session hashes).
    """

    owner: str
    key: str
    used_at: float
    has_page: bool = False
    tabs: dict[str, PageTab] = field(default_factory=dict)

    @property
    def reader(self) -> str:
        """The owner of its conversations: the key, and on a server without keys the browser."""
        return self.owner if self.key == ANYBODY else self.key


class PageSessions:
    """All sessions of a server.

    Args:
        files: Where their uploads are.
        history: Where sessions and their conversations are kept.
        keys: The keys that the server has now. Sessions of keys that it had before are not admitted.
        timeout_s: How long an unused session is kept.
        now: The clock, in seconds; tests replace it.
        drop_tab: Is called with the name of a tab that has ended.
    """

    def __init__(
        self,
        files: FileStore,
        history: History,
        keys: ApiKeys,
        timeout_s: float = SESSION_S,
        now: Callable[[], float] = time,
        drop_tab: Callable[[str], None] = lambda _: None,
    ):
        self._files, self._history, self._timeout_s, self._now = files, history, timeout_s, now
        self._drop_tab = drop_tab
        # By the hash of the token, least recently used first. Tokens themselves are not kept.
        self._sessions: OrderedDict[bytes, PageSession] = OrderedDict(
            (digest, PageSession(owner, key, used_at, has_page=True))
            for digest, owner, key, used_at in history.sessions()
            if key in keys.owners
        )

    def open(self, key: str) -> str:
        """Opens a session and returns its token. key: the owner name of the API key."""
        own = [digest for digest, session in self._sessions.items() if session.key == key]
        if len(own) >= MAX_SESSIONS:
            # Whoever sends requests without a cookie opens sessions, but no pages: these end nobody else's session.
            unused = (digest for digest in own if not self._sessions[digest].has_page)
            self._end(next(unused, own[0]))
        token = secrets.token_urlsafe(32)
        self._sessions[_digest(token)] = PageSession(f"{key}/{secrets.token_hex(12)}", key, self._now())
        return token

    def get(self, token: str | None) -> PageSession | None:
        """Returns the session of a token, or None if there is none or it has expired."""
        self.expire()
        found = self._sessions.get(_digest(token or ""))
        if found is not None:
            found.used_at = self._now()
            self._sessions.move_to_end(_digest(token or ""))
        return found

    def close(self, token: str | None) -> None:
        if _digest(token or "") in self._sessions:
            self._end(_digest(token or ""))

    def expire(self) -> None:
        """Ends the sessions that have not been used for `timeout_s`."""
        for digest, session in list(self._sessions.items()):
            if session.used_at + self._timeout_s > self._now():
                return
            self._end(digest)

    def save(self) -> None:
        """Writes to disk when each session that has had a page was last used."""
        self._history.save_sessions(
            [(digest, one.owner, one.key, one.used_at) for digest, one in self._sessions.items() if one.has_page]
        )

    def _end(self, digest: bytes) -> None:
        session = self._sessions.pop(digest)
        for tab in session.tabs:
            self._drop_tab(tab)
        for file in self._files.owned_by(session.owner):
            self._files.delete(session.owner, file.id)
        self._history.delete_session(digest)
        self._history.forget(session.owner)

    def claim(self, session: PageSession, name: Any) -> PageTab:
        """Returns a tab by its name, a new one where there was none, for which the longest unused one of the key may
        have to end.

        Raises APIError 400 for what is no name, 404 if it belongs to another session. Gradio gives the state and the
        answers of a tab to everybody who knows its name.
        """
        if not isinstance(name, str) or not TAB_NAME.fullmatch(name):
            raise APIError(400, "session_hash: letters and digits are needed", "invalid_value", param="session_hash")
        if any(name in other.tabs for other in self._sessions.values() if other is not session):
            raise APIError(404, "no such page", "not_found")
        if name not in session.tabs:
            of_key = [known for known in self.tabs() if known[0].key == session.key]
            if len(of_key) >= MAX_TABS:
                self.end_tab(*max(of_key, key=lambda known: known[2].unused_s)[:2])
            session.tabs[name] = PageTab()
            if not session.has_page:
                session.has_page = True
                self.save()
        return session.tabs[name]

    def tabs(self) -> list[tuple[PageSession, str, PageTab]]:
        return [(session, name, tab) for session in self._sessions.values() for name, tab in session.tabs.items()]

    def end_tab(self, session: PageSession, name: str) -> None:
        del session.tabs[name]
        self._drop_tab(name)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class SessionGuard:
    """ASGI middleware of the page: admits requests of a session, and opens one if no key is required."""

    def __init__(self, app: ASGIApp, sessions: PageSessions, keys: ApiKeys):
        self.app, self.sessions, self.keys = app, sessions, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, token = Request(scope), None
        try:
            session = self._admit(request)
            if session is None and request.url.path in ENTRIES and (answer := _not_a_visit(request)):
                await answer(scope, receive, send)
                return
            if session is None and request.url.path in ENTRIES and not self.keys.required:
                session = self.sessions.get(token := self.sessions.open(self.keys.owner(None)))
        except APIError as error:
            await error.response()(scope, receive, send)
            return
        if session is None and request.url.path in ENTRIES:
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

    def _admit(self, request: Request) -> PageSession | None:
        """Returns the session, or None if there is none but the request may open one. Raises APIError."""
        session = self.sessions.get(request.cookies.get(cookie_name(request)))
        if session is None and request.url.path not in OPEN:
            raise APIError(401, "the session has ended; load the page again", "no_session")
        return session


def _not_a_visit(request: Request) -> Response | None:
    """Returns the answer to a request without a session that no page of this server and no person has made.

    Browsers say what they want a page for. Clients that say nothing are no browsers.
    """
    if request.headers.get("sec-fetch-dest", "document") != "document":
        return APIError(403, "this page is for people, and not for a part of another page", "not_a_visit").response()
    if request.headers.get("sec-fetch-site") == "cross-site":
        return HTMLResponse(AGAIN, headers=HEADERS)
    return None


def cookie_name(request: Request) -> str:
    """Returns a name for each port: browsers share cookies between all ports of a host."""
    _, port = request.scope["server"]
    return f"videollm-{port}"


def cookie(request: Request, token: str) -> str:
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{cookie_name(request)}={token}; Path=/; Max-Age={SESSION_S:.0f}; HttpOnly; SameSite=Strict{secure}"
