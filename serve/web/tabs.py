"""What Gradio keeps of the page's tabs: whose it is, how much of it there may be, and when it goes.

A tab has a name that its browser chooses. Gradio gives the state and the answers of a tab to everybody who knows its
name, takes any number of events, and keeps what nobody fetches for as long as the server runs.
"""

import re
from time import monotonic
from typing import Any

import gradio as gr
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import APIError, invalid_json
from serve.web.sessions import PageSessions

MAX_EVENTS = 16  # of a tab, in work or not fetched
# How long events wait for a browser that has gone, and how long the tab itself does: a machine may have slept.
EVENTS_S, TAB_S = 60.0, 3600.0
LISTENING = re.compile(r"/(?:en|zh)/gradio_api/(?:heartbeat/(?P<tab>[^/]+)|queue/data)")
EVENT = re.compile(r"/(?P<language>en|zh)/gradio_api/(?P<kind>queue/join|cancel|reset)")


class GradioTabs:
    """What the page's Gradio apps hold of tabs. blocks: the apps by language."""

    def __init__(self) -> None:
        self.blocks: dict[str, gr.Blocks] = {}

    def check_event(self, language: str, tab: Any, function: Any) -> None:
        """Raises APIError 404 for an unknown function, 401 for a tab whose state is gone, 429 for too many events."""
        blocks = self.blocks[language]
        found = blocks.fns.get(function) if type(function) is int else None
        if found is None:
            raise APIError(404, "this page has no such function; load it again", "not_found")
        if tab not in blocks.state_holder and not any(event == "load" for _, event in found.targets):
            raise APIError(401, "this tab has ended; load the page again", "no_tab")
        if len(blocks._queue.pending_event_ids_session.get(tab, ())) >= MAX_EVENTS:
            message = f"{MAX_EVENTS} events of this tab are in work or were not fetched; fetch them first"
            raise APIError(429, message, "too_many_events", kind="rate_limit_error", retry_after_s=int(EVENTS_S))

    def drop_dead(self, tab: str) -> None:
        """Forgets the events of a tab that ended with its connection: Gradio would count them for ever."""
        for blocks in self.blocks.values():
            queue = blocks._queue
            messages = queue.pending_messages_per_session.get(tab)
            waiting = {message.event_id for message in messages._queue} if messages else set()
            alive = {event._id for event in queue.event_ids_to_events.values() if event.alive}
            queue.pending_event_ids_session.get(tab, set()).intersection_update(waiting | alive)

    def drop_events(self, tab: str) -> None:
        """Ends the events of a tab, and forgets what nobody has fetched of them."""
        for blocks in self.blocks.values():
            queue = blocks._queue
            for event in [one for one in queue.event_ids_to_events.values() if one.session_hash == tab]:
                event.alive = False
                waiting = queue.event_queue_per_concurrency_id[event.concurrency_id].queue
                if event in waiting:
                    waiting.remove(event)
                    del queue.event_ids_to_events[event._id]
            queue.pending_messages_per_session.pop(tab, None)
            queue.pending_event_ids_session.pop(tab, None)

    def drop(self, tab: str) -> None:
        """Forgets a tab."""
        self.drop_events(tab)
        for blocks in self.blocks.values():
            blocks.state_holder.session_data.pop(tab, None)
            blocks.state_holder.time_last_used.pop(tab, None)

    def expire(self, sessions: PageSessions) -> None:
        """Drops what waits for browsers that have gone."""
        for session, name, tab in sessions.tabs():
            if tab.unused_s > TAB_S:
                sessions.end_tab(session, name)
            elif tab.unused_s > EVENTS_S:
                self.drop_events(name)


class TabGuard:
    """ASGI middleware behind SessionGuard: a session reaches its own tabs only, each within its limits."""

    def __init__(self, app: ASGIApp, sessions: PageSessions, tabs: GradioTabs, max_bytes: int):
        self.app, self.sessions, self.tabs, self.max_bytes = app, sessions, tabs, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        listening, event = LISTENING.fullmatch(path), EVENT.fullmatch(path)
        try:
            if listening:
                name = listening["tab"] or Request(scope).query_params.get("session_hash", "")
                tab = self.sessions.claim(scope["state"]["session"], name)
                try:
                    with tab.connected():
                        await self.app(scope, receive, send)
                finally:
                    self.tabs.drop_dead(name)
                return
            if event:
                receive = _replayed(await self._event(Request(scope, receive), event), receive)
        except APIError as error:
            await error.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _event(self, request: Request, path: re.Match[str]) -> bytes:
        """Returns the body of a checked request. Raises APIError."""
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > self.max_bytes:
                raise APIError(413, f"the request is larger than {self.max_bytes} bytes", "request_too_large")
        try:
            values = from_json(bytes(data))
        except ValueError as error:
            raise invalid_json() from error
        if not isinstance(values, dict):
            raise APIError(400, "the request is not an object", "invalid_value")
        name = values.get("session_hash")
        if path["kind"] != "reset":  # which names no tab, and does nothing
            self.sessions.claim(request.state.session, name).used_at = monotonic()
        if path["kind"] == "queue/join":
            self.tabs.check_event(path["language"], name, values.get("fn_index"))
        return bytes(data)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that was read already, and then what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message
