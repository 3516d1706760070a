"""What the page does: each method answers an event with new values for components. All work goes through the service,
under the same limits and in the same queue as the API's requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import gradio as gr
from pydantic import ValidationError

from serve.api.errors import APIError, as_api_error
from serve.api.schemas import (
    CaptionRequest,
    ChatMessage,
    ChatRequest,
    SummarizeRequest,
    TextPart,
    VideoOptions,
    VideoPart,
    VideoUrl,
)
from serve.runtime.files import StoredFile
from serve.runtime.service import RequestVideo, Service, evidence_out
from serve.web import render
from serve.web.conversation import PageVideo, Turn
from serve.web.labels import Labels
from serve.web.pictures import Pictures
from serve.web.sessions import Session, Sessions
from serve.web.shelf import EXAMPLE, Shelf, shelf_name
from videollm.chat.answer import Answer
from videollm.errors import VideoLLMError
from videollm.retrieval.grounding import ground

CELLS = 24  # of the timeline; segments are merged down to them
FRAMES = 48  # shown of those that the model saw
MOMENTS = 12
PART_S = 0.05  # between two updates of an answer
ROUNDING_S = 0.0005  # of times in a receipt
WAITING = "…"

Update = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    model: str
    temperature: float
    video: VideoOptions


class Actions:
    def __init__(self, service: Service, sessions: Sessions, shelf: Shelf, pictures: Pictures, labels: Labels):
        self.service, self.sessions, self.shelf, self.pictures = service, sessions, shelf, pictures
        self.labels = labels

    # --- videos; outputs: state, choices, player, timeline, chat, saves, captions, summary, saw

    async def load(self, request: gr.Request, *settings: Any) -> AsyncIterator[Update]:
        """What a new tab shows first."""
        await self.shelf.refresh()
        session = self._session(request)
        choices = self.shelf.choices(session.owner, self.labels)
        if not choices:
            yield self._blank(choices)
            return
        first = EXAMPLE if EXAMPLE in self.shelf.shared else choices[0][1]
        async for update in self.open(request, first, PageVideo(), *settings):
            yield update

    async def open(
        self, request: gr.Request, choice: str | None, before: PageVideo, *settings: Any, at_s: float = 0.0
    ) -> AsyncIterator[Update]:
        """Shows another video, and starts a conversation about it. One that cannot be read is not shown."""
        if not choice or (choice == before.choice and not at_s):
            yield tuple(gr.skip() for _ in range(9))
            return
        session = self._session(request)
        try:
            async with self._work(request):
                file = self.shelf.open(session.owner, choice)
                yield self._shown(session, PageVideo(file.id, choice, file.name), at_s, gr.skip())
                timeline = await self._timeline(file, session, self._settings(*settings))
        except gr.Error:
            self.shelf.drop(session.owner, choice)
            yield self._shown(session, before, 0.0, gr.skip())
            raise
        yield tuple(timeline if place == 3 else gr.skip() for place in range(9))

    async def look_again(self, request: gr.Request, watched: PageVideo, *settings: Any) -> str:
        """The timeline with other settings."""
        async with self._work(request) as session:
            return await self._timeline(self._file(session, watched), session, self._settings(*settings))

    def _blank(self, choices: list[tuple[str, str]]) -> Update:
        nothing = render.empty(self.labels.no_timeline)
        return PageVideo(), gr.update(choices=choices), render.waiting_player(), nothing, [], "", "", "", ""

    def _shown(self, session: Session, watched: PageVideo, at_s: float, timeline: Any) -> Update:
        choices = gr.update(choices=self.shelf.choices(session.owner, self.labels), value=watched.choice or None)
        if not watched.file:
            return watched, choices, render.waiting_player(), timeline, [], "", "", "", ""
        player = render.player(watched.file, watched.name, self.labels, at_s)
        chat, saves = self._messages(watched), render.saves(watched, self.labels)
        saw = render.empty(self.labels.saw_note)
        return watched, choices, player, timeline, chat, saves, "", "", saw

    async def _timeline(self, file: StoredFile, session: Session, settings: Settings) -> str:
        look = await self._look(file, session, settings)
        model = self.service.model
        segments = await asyncio.to_thread(look.video.segments, model.config, model.encoder.vocabulary, CELLS)
        times = [float(segment.times_s[len(segment.times_s) // 2]) for segment in segments]
        return render.timeline(segments, await self.pictures.at(file.path, file.sha, times), self.labels)

    async def _look(self, file: StoredFile, session: Session, settings: Settings) -> RequestVideo:
        return await self.service.look(file.id, session.owner, settings.video, param="video")

    # --- chat; outputs: state, chat, question, saves

    async def ask(
        self, request: gr.Request, question: str, watched: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        if not question.strip():
            raise self._error(self.labels.no_question)
        async for update in self._answer(watched.asked(question.strip()), settings, request):
            yield update

    async def ask_example(
        self, request: gr.Request, data: gr.SelectData, watched: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        async for update in self.ask(request, data.value["text"], watched, *settings):
            yield update

    async def retry(
        self, request: gr.Request, data: gr.RetryData, watched: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        number = _turn(data.index)
        question = watched.turns[number].question
        async for update in self._answer(watched.until(number).asked(question), settings, request):
            yield update

    async def edit(
        self, request: gr.Request, data: gr.EditData, watched: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        """Asks the changed question in place of the old one and what came after it."""
        async for update in self._answer(watched.until(_turn(data.index)).asked(data.value), settings, request):
            yield update

    def undo(self, data: gr.UndoData, watched: PageVideo) -> Update:
        number = _turn(data.index)
        kept = watched.until(number)
        return kept, self._messages(kept), watched.turns[number].question, render.saves(kept, self.labels)

    def clear(self, watched: PageVideo) -> Update:
        kept = watched.until(0)
        return kept, [], gr.skip(), ""

    def stopped(self, watched: PageVideo) -> Update:
        """What there is of the answer stays."""
        return gr.skip(), self._messages(watched), self.idle(), render.saves(watched, self.labels)

    def idle(self) -> dict[str, Any]:
        return gr.update(submit_btn=True, stop_btn=False)

    async def _answer(
        self, watched: PageVideo, settings: tuple[Any, ...], request: gr.Request
    ) -> AsyncIterator[Update]:
        """To the last question of `watched`. Where that is refused, the question goes back to where it was written."""
        busy = gr.update(value="", submit_btn=False, stop_btn=True)
        yield watched, self._messages(watched), busy, gr.skip()
        try:
            async with self._work(request) as session:
                file = self._file(session, watched)
                chat = await self.service.chat(_chat_request(watched, self._settings(*settings)), session.owner)
                text, shown_s = "", 0.0
                async with aclosing(self.service.answers(chat)) as items:
                    async for _, item in items:
                        if isinstance(item, Answer):
                            evidence = sorted(evidence_out(item), key=lambda one: one.start)
                            receipt = self.service.receipt(chat, item)
                            watched = watched.answered(answer=item.text, evidence=evidence, receipt=receipt)
                            continue
                        text += item.text
                        watched = watched.answered(answer=text)
                        if perf_counter() - shown_s > PART_S:
                            shown_s = perf_counter()
                            yield watched, self._messages(watched), gr.skip(), gr.skip()
                evidence = watched.turns[-1].evidence
                pictures = await self.pictures.at(file.path, file.sha, [(one.start + one.end) / 2 for one in evidence])
        except gr.Error:
            before, question = watched.until(len(watched.turns) - 1), watched.turns[-1].question
            yield before, self._messages(before), gr.update(value=question), gr.skip()
            raise
        watched = watched.answered(chips=render.chips(evidence, pictures, self.labels))
        yield watched, self._messages(watched), gr.skip(), render.saves(watched, self.labels)

    def _messages(self, watched: PageVideo) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for turn in watched.turns:
            answer: list[Any] = [turn.answer or WAITING]
            if turn.chips:
                answer.append(gr.HTML(turn.chips))
            messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": answer}]
        return messages

    # --- the other tabs

    async def caption(self, request: gr.Request, watched: PageVideo, *settings: Any) -> str:
        async with self._work(request) as session:
            chosen, url = self._settings(*settings), VideoUrl(url=self._file(session, watched).id)
            body = CaptionRequest(model=chosen.model, video=url, options=chosen.video, dense=True)
            return render.captions(await self.service.caption(body, session.owner), watched.name, self.labels)

    async def summarize(self, request: gr.Request, parts: int, watched: PageVideo, *settings: Any) -> str:
        async with self._work(request) as session:
            chosen, file = self._settings(*settings), self._file(session, watched)
            url = VideoUrl(url=file.id)
            body = SummarizeRequest(model=chosen.model, video=url, options=chosen.video, parts=int(parts))
            reply = await self.service.summarize(body, session.owner)
            pictures = await self.pictures.at(file.path, file.sha, [part.time for part in reply.parts])
            return render.storyboard(reply, pictures, self.labels)

    async def search(self, request: gr.Request, query: str, indexed: bool, watched: PageVideo, *settings: Any) -> str:
        """Moments of the video that is shown, or of all that are indexed."""
        if not query.strip():
            raise self._error(self.labels.no_query)
        async with self._work(request) as session:
            cards = await (
                self._search_index(query)
                if indexed
                else self._search_here(query, self._file(session, watched), session, self._settings(*settings))
            )
        return render.grid(cards) if cards else render.empty(self.labels.nothing)

    async def _search_here(self, query: str, file: StoredFile, session: Session, settings: Settings) -> list[str]:
        look, model = await self._look(file, session, settings), self.service.model
        spans = await asyncio.to_thread(ground, look.video, query, model.encoder, MOMENTS)
        pictures = await self.pictures.at(file.path, file.sha, [(span.start_s + span.end_s) / 2 for span in spans])
        cards = []
        for span, picture in zip(spans, pictures, strict=True):
            part = look.video.part(span.start_s, span.end_s)
            (segment,) = part.segments(model.config, model.encoder.vocabulary, 1)
            tags = [(tag.word, tag.prob) for tag in segment.tags]
            cards.append(render.moment(None, file.name, span.start_s, span.end_s, span.score, tags, picture))
        return cards

    async def _search_index(self, query: str) -> list[str]:
        from videollm.retrieval.search import search  # needs the extra `index`

        await self.shelf.refresh()
        moments = await asyncio.to_thread(search, self.shelf.index, query, MOMENTS)
        cards = []
        for moment in moments:
            name = shelf_name(moment.path)
            shared = self.shelf.shared[name]
            try:
                middle_s = (moment.start_s + moment.end_s) / 2
                (picture,) = await self.pictures.at(shared.path, shared.sha, [middle_s])
            except APIError:  # the file has changed since; to open it says why
                picture = render.NO_PICTURE
            tags = [(tag.word, tag.prob) for tag in moment.tags]
            cards.append(
                render.moment(name, shared.path.name, moment.start_s, moment.end_s, moment.score, tags, picture)
            )
        return cards

    async def open_named(
        self, request: gr.Request, data: gr.EventData, watched: PageVideo, *settings: Any
    ) -> AsyncIterator[Update]:
        """An upload, or a moment that was found."""
        async for update in self.open(request, data.name, watched, *settings, at_s=data.at):
            yield update

    async def saw(self, request: gr.Request, watched: PageVideo) -> str:
        """Of the last whole answer."""
        turns = [turn for turn in watched.turns if turn.receipt]
        if not turns:
            return render.empty(self.labels.saw_note)
        async with self._work(request) as session:
            return await self._saw(self._file(session, watched), turns[-1])

    async def _saw(self, file: StoredFile, turn: Turn) -> str:
        assert turn.receipt is not None
        every = turn.receipt.videos[0].times
        count = min(len(every), FRAMES)
        times = [every[(2 * n + 1) * len(every) // (2 * count)] for n in range(count)]
        pictures = await self.pictures.at(file.path, file.sha, [time + ROUNDING_S for time in times])
        return render.saw(turn, times, pictures, self.labels)

    # --- what they share

    @asynccontextmanager
    async def _work(self, request: gr.Request) -> AsyncIterator[Session]:
        """A place in the queue of the server. Refusals are shown on the page."""
        session = self._session(request)
        try:
            self.service.rate.take(session.key)
            async with self.service.admission.slot():
                yield session
        except ValidationError as error:
            raise self._error(error.errors()[0]["msg"]) from error
        except (APIError, VideoLLMError) as error:
            raise self._error(str(as_api_error(error))) from error

    def _session(self, request: gr.Request) -> Session:
        assert request.request is not None and request.session_hash is not None
        session: Session = request.request.state.session
        self.sessions.claim(session, request.session_hash)
        return session

    def _file(self, session: Session, watched: PageVideo) -> StoredFile:
        if not watched.file:
            raise self._error(self.labels.no_video)
        return self.service.files.get(session.owner, watched.file)

    def _settings(
        self, model: str, looks: str, fps: float | None, frames: float | None, temperature: float
    ) -> Settings:
        video = {"auto": {}, "fps": {"fps": fps}, "frames": {"frames": frames and int(frames)}}[looks]
        return Settings(model, temperature, VideoOptions(**video))

    def _error(self, reason: str) -> gr.Error:
        return gr.Error(reason, duration=15, title=self.labels.refused, print_exception=False)


def _turn(index: Any) -> int:
    """The number of the turn that a message belongs to."""
    return index // 2


def _chat_request(watched: PageVideo, settings: Settings) -> ChatRequest:
    messages = []
    for turn in watched.turns:
        messages.append(ChatMessage(role="user", content=[TextPart(type="text", text=turn.question)]))
        messages.append(ChatMessage(role="assistant", content=turn.answer))
    video = VideoPart(type="video_url", video_url=VideoUrl(url=watched.file))
    messages[0] = ChatMessage(role="user", content=[video, *messages[0].content])
    return ChatRequest(
        model=settings.model,
        messages=messages[:-1],  # the last answer is to be made
        temperature=settings.temperature,
        video=settings.video,
        stream=True,
    )
