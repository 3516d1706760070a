"""What the Live tab does: watches a stream, shows what happens in it, and answers questions about it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

import gradio as gr

from serve.api.schemas.chat import ChatMessage, ChatRequest
from serve.api.schemas.live import StreamRequest
from serve.api.schemas.media import TextPart, VideoPart, VideoUrl
from serve.runtime.chat import prepare_chat, stream_answers
from serve.runtime.live import SCHEME, WatchedStream
from serve.runtime.service import Service
from serve.web import render, render_live
from serve.web.answering import UPDATE_S
from serve.web.context import PageContext, PageError, action
from serve.web.progress import Progress
from serve.web.render_live import LiveTurn
from videollm.chat.answer import Answer
from videollm.live.window import with_clock_times

SHOWN_EVERY_S = 0.5  # between two looks at a stream that a tab shows
UNSEEN_S = 600.0  # for which a stream of the page goes on while no tab shows it
KEPT_TURNS = 20  # questions and answers that the tab shows
SAME = gr.skip()


class LiveUpdate(NamedTuple):
    """New values of the components of the Live tab. turns: the questions and answers, a tuple of LiveTurn."""

    setup: Any = SAME
    controls: Any = SAME
    streams: Any = SAME
    screen: Any = SAME
    alerts: Any = SAME
    timeline: Any = SAME
    turns: Any = SAME
    answers: Any = SAME
    question: Any = SAME


class PageStreams:
    """The streams that were begun on the page, which end when no tab has shown them for `UNSEEN_S`."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def see(self, stream: WatchedStream) -> None:
        """Takes note that a tab shows a stream, if it was begun here."""
        if stream.id in self._seen:
            self.begin(stream)

    def begin(self, stream: WatchedStream) -> None:
        self._seen[stream.id] = monotonic()

    async def expire(self, service: Service) -> None:
        for stream in service.streams.running:
            if monotonic() - self._seen.get(stream.id, monotonic()) > UNSEEN_S:
                await service.streams.delete(stream.owner, stream.id)
        self._seen = {stream.id: self._seen[stream.id] for stream in service.streams.running if stream.id in self._seen}


class LiveActions(PageContext):
    """The actions of the Live tab. A tab shows one stream at a time, `PageTab.stream`."""

    def __init__(self, *context: Any, streams: PageStreams):
        super().__init__(*context)
        self.streams = streams

    @action
    async def enter(self, request: gr.Request) -> AsyncIterator[LiveUpdate]:
        """Shows a stream that is watched already, unless the tab shows one."""
        session = self.session_of(request)
        known = self.service.streams.owned_by(session.owner)
        if self.tab_of(request).stream not in {stream.id for stream in known}:
            running = [stream for stream in known if stream.ended_at is None]
            async for update in self._show(request, running[-1] if running else None):
                yield update

    @action
    async def watch(self, request: gr.Request, source: str | None, when: str) -> AsyncIterator[LiveUpdate]:
        """Begins to watch a source, and shows it. when: what is to be reported, one in each line."""
        if not (source or "").strip():
            raise PageError(self.labels.no_source)
        async with self.work(request) as session:
            wanted = [line.strip() for line in when.splitlines() if line.strip()]
            body = StreamRequest(source=(source or "").strip(), when=wanted)
            stream = await self.service.streams.add(self.service, session.owner, body)
            self.streams.begin(stream)
        async for update in self._show(request, stream):
            yield update

    @action
    async def follow(self, request: gr.Request, data: gr.EventData) -> AsyncIterator[LiveUpdate]:
        """Shows another stream that is watched."""
        with self.refusals():
            stream = self.service.streams.get(self.session_of(request).owner, data.name)
        async for update in self._show(request, stream):
            yield update

    @action
    async def stop(self, request: gr.Request) -> AsyncIterator[LiveUpdate]:
        """Ends the stream that is shown."""
        tab, owner = self.tab_of(request), self.session_of(request).owner
        with self.refusals():
            await self.service.streams.delete(owner, tab.stream)
        async for update in self._show(request, None):
            yield update

    @action
    async def ask(
        self, request: gr.Request, question: str, last_s: float, turns: tuple[LiveTurn, ...]
    ) -> AsyncIterator[LiveUpdate]:
        """Answers a question about the last seconds of the stream that is shown."""
        if not question.strip():
            raise PageError(self.labels.no_question)
        tab = self.tab_of(request)
        if not tab.stream:
            raise PageError(self.labels.no_stream)
        turn, before = LiveTurn(question.strip()), turns[-KEPT_TURNS + 1 :]
        yield LiveUpdate(answers=self._answers((*before, turn)), question="")
        try:
            async with self.work(request) as session:
                stream = self.service.streams.get(session.owner, tab.stream)
                async with aclosing(self._answer(stream, turn, last_s)) as growing:
                    async for turn in growing:
                        yield LiveUpdate(turns=(*before, turn), answers=self._answers((*before, turn)))
        except PageError:
            yield LiveUpdate(turns=before, answers=self._answers(before), question=question)
            raise

    async def _answer(self, stream: WatchedStream, turn: LiveTurn, last_s: float) -> AsyncGenerator[LiveTurn]:
        """Yields the turn while its answer grows, and at last with what supports the answer. Raises APIError."""
        video = VideoPart(type="video_url", video_url=VideoUrl(url=f"{SCHEME}{stream.id}?last={last_s:g}"))
        content = [video, TextPart(type="text", text=turn.question)]
        body = ChatRequest(model=self.service.model.config.name, messages=[ChatMessage(role="user", content=content)])
        chat = await prepare_chat(self.service, body, stream.owner)
        used = chat.videos[0].used
        origin, text, updated = datetime.fromisoformat(used.starts_at or "").timestamp(), "", 0.0
        async with aclosing(stream_answers(self.service, chat)) as pieces:
            async for _, item in pieces:
                if not isinstance(item, Answer):
                    text += item.text
                    if text and monotonic() - updated > UPDATE_S:
                        updated = monotonic()
                        yield replace(turn, answer=with_clock_times(text, used.end, origin))
                    continue
                cells = [
                    render_live.LiveCell(
                        origin + one.start_s, origin + one.end_s, one.tags, stream.pictures.at(origin + one.start_s)
                    )
                    for one in sorted(item.evidence, key=lambda one: one.start_s)
                ]
                yield replace(turn, answer=with_clock_times(item.text, used.end, origin), evidence=tuple(cells))

    def _answers(self, turns: tuple[LiveTurn, ...]) -> str:
        return render_live.answers(turns, render.progress(Progress(), self.labels), self.labels)

    async def _show(self, request: gr.Request, stream: WatchedStream | None) -> AsyncIterator[LiveUpdate]:
        """Yields what there is to see of a stream, until it has ended or the tab shows another one."""
        tab, session = self.tab_of(request), self.session_of(request)
        changed = tab.stream != (stream.id if stream else "")
        tab.stream = stream.id if stream else ""
        update = LiveUpdate(setup=gr.update(open=stream is None), controls=gr.update(visible=stream is not None))
        if changed:
            update = update._replace(turns=(), answers="")
        known, screen, number = "", "", -2
        while tab.stream == (stream.id if stream else ""):
            # Gradio sends what has changed, and an update that changes nothing is not made.
            listed = render_live.streams(self.service.streams.owned_by(session.owner), tab.stream, self.labels)
            if listed != known:
                known, update = listed, update._replace(streams=listed)
            if stream is None:
                yield update._replace(
                    screen=render.empty_player(self.labels.live_empty),
                    alerts="",
                    timeline=render.note(self.labels.live_note),
                )
                return
            self.streams.see(stream)
            shown = render_live.screen(stream, self.labels)
            if shown != screen:
                screen, update = shown, update._replace(screen=shown)
            if stream.number != number:
                number = stream.number
                update = update._replace(
                    alerts=render_live.alerts(stream, self.labels), timeline=render_live.timeline(stream, self.labels)
                )
            if update != LiveUpdate():
                yield update
                update = LiveUpdate()
            if stream.ended_at is not None:
                return
            await asyncio.sleep(SHOWN_EVERY_S)
