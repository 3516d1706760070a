"""The actions of the page on the conversation: asking and all that changes answers."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from time import perf_counter
from typing import Any

import gradio as gr

from serve.api.errors import APIError
from serve.api.schemas.chat import ChatMessage, ChatRequest
from serve.api.schemas.media import ImagePart, ImageUrl, TextPart, VideoPart, VideoUrl
from serve.runtime.chat import (
    PreparedChat,
    evidence_json,
    generated_files,
    make_receipt,
    prepare_chat,
    stream_answers,
)
from serve.runtime.files import GENERATED
from serve.runtime.generated import GeneratedFile
from serve.web import render
from serve.web.answering import UPDATE_S, Answering
from serve.web.context import MESSAGE_S, PageError, PageSettings, action
from serve.web.conversation import PageConversation, PageMedia, ShownFile
from serve.web.progress import Progress, WatchedWork
from serve.web.sessions import PageSession
from serve.web.view_actions import SAME, Update, ViewActions
from videollm.chat.answer import Answer
from videollm.cli.shapes import EvidenceJSON
from videollm.output_config import Modality

OTHER_TEMPERATURE = 0.8  # least temperature of an answer that shall differ from an earlier one
OTHER_TRIES = 3  # generations until it does
SEEDS = 2**31
SHOWN_NAMES: dict[Modality, str] = {"image": "picture.png", "video": "video.mp4", "audio": "sound.wav"}
LATIN = "\u024f"  # the last Latin letter of those that European languages use


class Actions(ViewActions):
    @action
    async def ask(
        self,
        request: gr.Request,
        question: str,
        shown: PageMedia | None,
        pending: tuple[PageMedia, ...],
        conversation: PageConversation,
        *settings: Any,
    ) -> AsyncIterator[Update]:
        if not question.strip():
            raise PageError(self.labels.no_question)
        if not pending and not conversation.media:
            raise PageError(self.labels.no_video)
        if self.service.model.encoder.english_only and any(one.isalpha() and one > LATIN for one in question):
            gr.Info(self.labels.english_only, duration=MESSAGE_S)
        asked = conversation.with_question(question.strip(), pending)
        async for update in self._answer(request, conversation, asked, shown, settings):
            yield update

    @action
    async def ask_example(
        self,
        request: gr.Request,
        data: gr.EventData,
        shown: PageMedia | None,
        pending: tuple[PageMedia, ...],
        conversation: PageConversation,
        *settings: Any,
    ) -> AsyncIterator[Update]:
        """Asks a suggested question about what is shown, or about the example clip `data.about`."""
        session = self.session_of(request)
        if data.about:
            with self.refusals():
                shown = self.catalog.media(session.owner, data.about, self.labels)
            pending = (shown,)
            yield self.put(request, session, shown)
        async for update in self.ask(request, data.question, shown, pending, conversation, *settings):
            yield update
        if data.about and shown is not None:
            async for update in self.analyse(request, session, shown, settings):
                yield update

    @action
    async def retry(
        self,
        request: gr.Request,
        data: gr.RetryData,
        shown: PageMedia | None,
        conversation: PageConversation,
        *settings: Any,
    ) -> AsyncIterator[Update]:
        """Asks a question again, for another answer."""
        number = _turn_number(data.index)
        turn = conversation.turns[number]
        asked = conversation.before_turn(number).with_question(turn.question, turn.media)
        async for update in self._answer(request, conversation, asked, shown, settings, unlike=turn.answer):
            yield update

    @action
    async def edit(
        self,
        request: gr.Request,
        data: gr.EditData,
        shown: PageMedia | None,
        conversation: PageConversation,
        *settings: Any,
    ) -> AsyncIterator[Update]:
        """Asks the changed question in place of the old one and of all turns after it, which undo brings back."""
        number = _turn_number(data.index)
        if not str(data.value).strip():
            raise PageError(self.labels.no_question)
        asked = conversation.before_turn(number).with_question(data.value.strip(), conversation.turns[number].media)
        async for update in self._answer(request, conversation, asked, shown, settings):
            yield update

    @action
    async def undo(self, request: gr.Request, shown: PageMedia | None, conversation: PageConversation) -> Update:
        """Takes back the last question, retry or edit. A question that was asked returns to the input."""
        session = self.session_of(request)
        conversation = await self._leave(request, session, conversation)
        before = self.history.undo(session.reader, conversation)
        is_shorter = len(before.turns) < len(conversation.turns)
        taken = [turn for turn in conversation.turns if turn.id not in {one.id for one in before.turns}]
        pending = tuple(media for turn in taken for media in turn.media if media not in before.media)
        talk = await self._talk(session, before)
        return talk._replace(
            pending=pending,
            attached=self._attached(before, pending, shown),
            question=self.ready(taken[-1].question if is_shorter else ""),
        )

    @action
    async def rate(self, request: gr.Request, data: gr.LikeData, conversation: PageConversation) -> Update:
        """Keeps whether an answer was good, for training on preferences."""
        rating = {True: 1, False: -1}.get(data.liked, 0) if isinstance(data.liked, bool) else 0
        rated = conversation.with_turn(_turn_number(data.index), rating=rating)
        self.history.save(self.session_of(request).reader, rated)
        return Update(conversation=rated)

    @action
    async def stop(self, request: gr.Request, conversation: PageConversation) -> Update:
        """Keeps the part of the answer that there is."""
        session = self.session_of(request)
        left = await self._leave(request, session, conversation)
        return (await self._talk(session, left))._replace(question=self.ready())

    async def enable_input(self, request: gr.Request) -> Any:
        """Makes the input ready after an answer, unless another one is in work by now."""
        working = self.tab_of(request).answering
        return SAME if working is not None and working.is_running else self.ready()

    async def _answer(
        self,
        request: gr.Request,
        before: PageConversation,
        asked: PageConversation,
        shown: PageMedia | None,
        settings: tuple[Any, ...],
        unlike: str | None = None,
    ) -> AsyncIterator[Update]:
        """Answers the last question of `asked`, until another event of the tab ends that.

        unlike: an answer that the new one should differ from.
        """
        tab = self.tab_of(request)
        await tab.stop(before)
        tab.answering = answering = Answering(asked)
        async for update in answering.run(self._answering(answering, request, before, shown, settings, unlike)):
            yield update

    async def _answering(
        self,
        answering: Answering,
        request: gr.Request,
        before: PageConversation,
        shown: PageMedia | None,
        settings: tuple[Any, ...],
        unlike: str | None,
    ) -> AsyncGenerator[Update]:
        """Yields the answer as it grows. If it is refused, `before` stays and the question returns to the input."""
        session, asked = self.session_of(request), answering.latest
        yield Update(
            conversation=asked,
            welcome="",
            pending=(),
            attached=self._attached(asked, (), shown),
            chat=self._messages(asked),
            question=gr.update(value="", submit_btn=False, stop_btn=self.labels.stop),
        )
        self.history.save(session.reader, asked)
        try:
            async with self.work(request):
                body, progress = self._request(session, asked, self.settings(*settings)), Progress()
                preparing = WatchedWork(prepare_chat(self.service, body, session.owner, progress), progress)
                async for now in preparing:
                    yield Update(chat=self._messages(asked, render.progress(now, self.labels)))
                async for latest in self._generate(asked, preparing.result, unlike):
                    answering.latest = asked = latest
                    yield Update(conversation=asked, chat=self._messages(asked))
                asked = asked.with_answer(status="done", evidence_html=await self._evidence_html(session, asked))
        except PageError:
            self.history.undo(session.reader, asked)
            media, question = asked.turns[-1].media, asked.turns[-1].question
            talk = await self._talk(session, before)
            yield talk._replace(
                pending=media, attached=self._attached(before, media, shown), question=self.ready(question)
            )
            raise
        answering.latest = asked
        self.history.save(session.reader, asked)
        yield await self._talk(session, asked)

    async def _generate(
        self, asked: PageConversation, chat: PreparedChat, unlike: str | None
    ) -> AsyncIterator[PageConversation]:
        """Yields the conversation while the answer grows, and at last with evidence and receipt."""
        if unlike is None:
            async for latest in self._stream(asked, chat):
                yield latest
            return
        for _ in range(OTHER_TRIES):
            temperature = max(OTHER_TEMPERATURE, chat.request.temperature)
            other = chat.request.model_copy(update={"temperature": temperature, "seed": secrets.randbelow(SEEDS)})
            latest = asked
            async for latest in self._stream(asked, replace(chat, request=other)):
                yield latest
            turn = latest.turns[-1]
            if turn.answer != unlike or turn.shown:
                return
            if turn.receipt is not None and turn.receipt.completion_tokens == 0:
                break  # the answer was found and not generated
        gr.Info(self.labels.same_answer)

    async def _stream(self, asked: PageConversation, chat: PreparedChat) -> AsyncIterator[PageConversation]:
        text, updated = "", 0.0
        async with aclosing(stream_answers(self.service, chat)) as stream:
            async for _, item in stream:
                if isinstance(item, Answer):
                    evidence = sorted(evidence_json(item), key=lambda one: (one.video, one.start))
                    receipt = make_receipt(chat, item)
                    if item.media:
                        yield asked.with_answer(answer=item.text)  # making them takes longer than the text
                    shown = tuple(
                        self._keep(chat.owner, one) for one in await generated_files(self.service, chat, item)
                    )
                    yield asked.with_answer(answer=item.text, evidence=evidence, shown=shown, receipt=receipt)
                    return
                text += item.text
                if text and perf_counter() - updated > UPDATE_S:
                    updated = perf_counter()
                    yield asked.with_answer(answer=text)

    def _keep(self, owner: str, made: GeneratedFile) -> ShownFile:
        """Stores what an answer shows, as an upload is stored."""
        if made.problem:
            return ShownFile(made.modality, "", made.problem)
        try:
            with self.service.files.receive(owner, len(made.data)) as target:
                target.write(made.data)
                return ShownFile(made.modality, target.keep(SHOWN_NAMES[made.modality], GENERATED).id)
        except APIError as error:  # the session has no room for more files
            return ShownFile(made.modality, "", str(error))

    def _request(self, session: PageSession, asked: PageConversation, settings: PageSettings) -> ChatRequest:
        """Returns the API's request for the answer to the last question. Raises PageError."""
        messages: list[ChatMessage] = []
        waiting: list[PageMedia] = []  # of questions that were never answered
        for turn in asked.turns:
            waiting += turn.media
            if turn.status == "stopped" and not turn.answer:
                continue
            parts = [_media_part(self.file_of(session, media).id, media) for media in waiting]
            messages.append(ChatMessage(role="user", content=[*parts, TextPart(type="text", text=turn.question)]))
            messages.append(ChatMessage(role="assistant", content=turn.answer))
            waiting = []
        return ChatRequest(
            model=settings.model,
            messages=messages[:-1],  # without the answer that is to be generated
            temperature=settings.temperature,
            video=settings.options,
            stream=True,
        )

    async def _evidence_html(self, session: PageSession, conversation: PageConversation) -> str:
        evidence, media = conversation.turns[-1].evidence, conversation.media
        cells = [await self._evidence_cell(session, media[one.video], one) for one in evidence]
        return render.evidence(cells, self.labels, several=len(media) > 1)

    async def _evidence_cell(self, session: PageSession, media: PageMedia, one: EvidenceJSON) -> render.EvidenceCell:
        file = self.file_of(session, media)
        (thumbnail,) = await self.middle_thumbnails(file, [(one.start, one.end)])
        return render.EvidenceCell(media, render.PreviewCell(one.start, one.end, one.tags, thumbnail))


def _media_part(file: str, media: PageMedia) -> VideoPart | ImagePart:
    if media.is_picture:
        return ImagePart(type="image_url", image_url=ImageUrl(url=file))
    return VideoPart(type="video_url", video_url=VideoUrl(url=file))


def _turn_number(index: Any) -> int:
    """Returns the turn of a message: each turn has two, a question and an answer."""
    return (index if isinstance(index, int) else index[0]) // 2
