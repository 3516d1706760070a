"""The actions of the page on its videos and its conversation. Each method answers an event with new component
values."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from time import perf_counter
from typing import Any

import gradio as gr

from serve.api.schemas.chat import ChatMessage, ChatRequest
from serve.api.schemas.media import TextPart, VideoPart, VideoUrl
from serve.runtime.chat import PreparedChat, evidence_json, make_receipt, prepare_chat, stream_answers
from serve.runtime.files import StoredFile
from serve.web import render
from serve.web.catalog import EXAMPLE
from serve.web.context import PageSettings
from serve.web.conversation import PageVideo
from serve.web.sessions import PageSession
from serve.web.tab_actions import TabActions
from videollm.chat.answer import Answer

UPDATE_S = 0.05  # shortest time between two updates of an answer that streams in
OPENED = 11  # outputs of `open`
PENDING = "…"  # shown in place of an answer until its first token

Update = tuple[Any, ...]


class Actions(TabActions):
    # --- videos; outputs: video, choices, player, timeline, chat, saves, captions, summary, receipt, lanes, transcript

    async def load_page(self, request: gr.Request, *settings: Any) -> AsyncIterator[Update]:
        """Fills a new tab with the example, or with the first video that there is."""
        await self.catalog.refresh()
        session = self.session_of(request)
        choices = self.catalog.choices(session.owner, self.labels)
        if not choices:
            yield self._outputs(PageVideo(), gr.update(choices=choices), render.note(self.labels.no_timeline))
            return
        first = EXAMPLE if EXAMPLE in self.catalog.shared else choices[0][1]
        async for update in self.open(request, first, PageVideo(), *settings):
            yield update

    async def open(
        self, request: gr.Request, choice: str | None, before: PageVideo, *settings: Any, at_s: float = 0.0
    ) -> AsyncIterator[Update]:
        """Shows another video and starts a conversation about it. If it cannot be decoded, shows the previous one."""
        if not choice or (choice == before.choice and not at_s):
            yield tuple(gr.skip() for _ in range(OPENED))
            return
        session = self.session_of(request)
        try:
            async with self.work(request):
                file = self.catalog.open(session.owner, choice)
                # The player first: the browser plays the video while the server decodes it.
                yield self._show(session, PageVideo(file.id, choice, file.name), at_s)
                timeline = await self.timeline(file, session, self.settings(*settings))
        except gr.Error:
            self.catalog.remove(session.owner, choice)
            yield self._show(session, before, 0.0)
            raise
        yield tuple(timeline if place == 3 else gr.skip() for place in range(OPENED))

    async def open_by_name(
        self, request: gr.Request, data: gr.EventData, video: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        """Opens an upload or a moment that a search found. `data` is what page.js sends with the event."""
        async for update in self.open(request, data.name, video, *settings, at_s=data.at):
            yield update

    async def refresh_timeline(self, request: gr.Request, video: PageVideo, *settings: Any) -> str:
        """Makes the timeline again with other settings."""
        async with self.work(request) as session:
            return await self.timeline(self.file_of(session, video), session, self.settings(*settings))

    def _show(self, session: PageSession, video: PageVideo, at_s: float) -> Update:
        choices = gr.update(choices=self.catalog.choices(session.owner, self.labels), value=video.choice or None)
        return self._outputs(video, choices, gr.skip(), at_s)

    def _outputs(self, video: PageVideo, choices: Any, timeline: Any, at_s: float = 0.0) -> Update:
        if not video.file:
            return video, choices, render.empty_player(), timeline, [], "", "", "", "", "", ""
        player = render.player(video.file, video.name, self.labels, at_s)
        receipt = render.note(self.labels.receipt_note)
        chat, saves = self._messages(video), render.saves(video, self.labels)
        return video, choices, player, timeline, chat, saves, "", "", receipt, "", ""

    # --- chat; outputs: video, chat, question, saves

    async def ask(self, request: gr.Request, question: str, video: PageVideo, *settings: Any) -> AsyncIterator[Update]:
        if not question.strip():
            raise self.error(self.labels.no_question)
        async for update in self._answer(video.with_question(question.strip()), settings, request):
            yield update

    async def ask_example(
        self, request: gr.Request, data: gr.SelectData, video: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        async for update in self.ask(request, data.value["text"], video, *settings):
            yield update

    async def retry(
        self, request: gr.Request, data: gr.RetryData, video: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        number = _turn_number(data.index)
        question = video.turns[number].question
        async for update in self._answer(video.before_turn(number).with_question(question), settings, request):
            yield update

    async def edit(
        self, request: gr.Request, data: gr.EditData, video: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        """Asks the changed question in place of the old one and of all turns after it."""
        changed = video.before_turn(_turn_number(data.index)).with_question(data.value)
        async for update in self._answer(changed, settings, request):
            yield update

    def undo(self, data: gr.UndoData, video: PageVideo) -> Update:
        number = _turn_number(data.index)
        kept = video.before_turn(number)
        return kept, self._messages(kept), video.turns[number].question, render.saves(kept, self.labels)

    def clear(self, video: PageVideo) -> Update:
        return video.before_turn(0), [], gr.skip(), ""

    def stop(self, video: PageVideo) -> Update:
        """Keeps the part of the answer that there is. Gradio has cancelled the event that was generating it."""
        return gr.skip(), self._messages(video), self.enable_input(), render.saves(video, self.labels)

    def enable_input(self) -> dict[str, Any]:
        return gr.update(submit_btn=True, stop_btn=False)

    async def _answer(self, video: PageVideo, settings: tuple[Any, ...], request: gr.Request) -> AsyncIterator[Update]:
        """Answers the last question of `video`. If it is refused, the question returns to the input."""
        busy = gr.update(value="", submit_btn=False, stop_btn=True)
        yield video, self._messages(video), busy, gr.skip()
        try:
            async with self.work(request) as session:
                file = self.file_of(session, video)
                body = _chat_request(video, self.settings(*settings))
                chat = await prepare_chat(self.service, body, session.owner)
                async for latest in self._stream(video, chat):
                    video = latest
                    yield video, self._messages(video), gr.skip(), gr.skip()
                evidence_html = await self._evidence_html(file, video)
        except gr.Error:
            before, question = video.before_turn(len(video.turns) - 1), video.turns[-1].question
            yield before, self._messages(before), gr.update(value=question), gr.skip()
            raise
        video = video.with_answer(evidence_html=evidence_html)
        yield video, self._messages(video), gr.skip(), render.saves(video, self.labels)

    async def _stream(self, video: PageVideo, chat: PreparedChat) -> AsyncIterator[PageVideo]:
        """Yields the video with the answer so far, at intervals, and at last with its evidence and receipt."""
        text, updated = "", 0.0
        async with aclosing(stream_answers(self.service, chat)) as stream:
            async for _, item in stream:
                if isinstance(item, Answer):
                    evidence = sorted(evidence_json(item), key=lambda one: one.start)
                    video = video.with_answer(answer=item.text, evidence=evidence, receipt=make_receipt(chat, item))
                    continue
                text += item.text
                video = video.with_answer(answer=text)
                if perf_counter() - updated > UPDATE_S:
                    updated = perf_counter()
                    yield video
        yield video

    async def _evidence_html(self, file: StoredFile, video: PageVideo) -> str:
        evidence = video.turns[-1].evidence
        thumbnails = await self.middle_thumbnails(file, [(one.start, one.end) for one in evidence])
        cells = [
            render.PreviewCell(one.start, one.end, one.tags, thumbnail)
            for one, thumbnail in zip(evidence, thumbnails, strict=True)
        ]
        return render.evidence(cells, self.labels)

    def _messages(self, video: PageVideo) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for turn in video.turns:
            answer: list[Any] = [turn.answer or PENDING]
            if turn.evidence_html:
                answer.append(gr.HTML(turn.evidence_html))
            messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": answer}]
        return messages


def _turn_number(index: Any) -> int:
    """Returns the turn of a message: each turn has two, a question and an answer."""
    return index // 2


def _chat_request(video: PageVideo, settings: PageSettings) -> ChatRequest:
    """Returns the API's request for the answer to the last question."""
    messages = []
    for turn in video.turns:
        content = [TextPart(type="text", text=turn.question)]
        messages.append(ChatMessage(role="user", content=[*content]))
        messages.append(ChatMessage(role="assistant", content=turn.answer))
    part = VideoPart(type="video_url", video_url=VideoUrl(url=video.file))
    messages[0] = ChatMessage(role="user", content=[part, *messages[0].content])
    return ChatRequest(
        model=settings.model,
        messages=messages[:-1],  # without the answer that is to be generated
        temperature=settings.temperature,
        video=settings.options,
        stream=True,
    )
