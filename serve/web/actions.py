"""The actions of the page on its videos and its conversation. Each answers an event with new component values."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import gradio as gr

from serve.api.schemas.chat import ChatMessage, ChatRequest
from serve.api.schemas.media import ImagePart, ImageUrl, TextPart, VideoPart, VideoUrl
from serve.runtime.chat import PreparedChat, evidence_json, make_receipt, prepare_chat, stream_answers
from serve.web import render
from serve.web.answering import Answering
from serve.web.context import PageError, PageSettings, action
from serve.web.conversation import PageConversation, PageMedia, PageTurn
from serve.web.progress import Progress, WatchedWork
from serve.web.sessions import PageSession
from serve.web.tab_actions import TabActions
from videollm.chat.answer import Answer
from videollm.cli.shapes import EvidenceJSON

UPDATE_S = 0.05  # shortest time between two updates of an answer that streams in
OTHER_TEMPERATURE = 0.8  # least temperature of an answer that shall differ from an earlier one
OTHER_TRIES = 3  # generations until it does
SEEDS = 2**31

SAME = gr.skip()  # a component that stays as it is


class Update(NamedTuple):
    """New values of the components that actions change, in the order of the layout's `outputs`.

    shown: what is in the player, a PageMedia or None. pending: what goes with the next question, a tuple of PageMedia.
    chosen: whether a person has chosen these, and not the page. conversation: the PageConversation.
    """

    shown: Any = SAME
    pending: Any = SAME
    chosen: Any = SAME
    conversation: Any = SAME
    choices: Any = SAME
    player: Any = SAME
    timeline: Any = SAME
    lanes: Any = SAME
    transcript: Any = SAME
    captions: Any = SAME
    summary: Any = SAME
    receipt: Any = SAME
    chat: Any = SAME
    attached: Any = SAME
    question: Any = SAME
    saves: Any = SAME
    conversations: Any = SAME


class Actions(TabActions):
    # --- loading the page, and videos

    @action
    async def load_page(self, request: gr.Request, *settings: Any) -> AsyncIterator[Update]:
        """Fills a new tab with the conversation that its address names, or else with a video to ask about."""
        await self.catalog.refresh()
        session = self.session_of(request)
        # Gradio's requests come from the page, whose address they name.
        query = parse_qs(urlsplit(request.headers.get("referer", "")).query)
        found = self.history.open(session.reader, query.get("c", [""])[0])
        async for update in self._enter(request, session, found or PageConversation(), settings):
            yield update

    @action
    async def open(
        self,
        request: gr.Request,
        data: gr.EventData,
        shown: PageMedia | None,
        pending: tuple[PageMedia, ...],
        chosen: bool,
        conversation: PageConversation,
        *settings: Any,
    ) -> AsyncIterator[Update]:
        """Shows a video or picture that was chosen from the list, found or uploaded (`data.added`).

        It goes with the next question unless it is part of the conversation. One that was added goes beside those that
        a person has chosen before, and one that was chosen from the list takes their place.
        """
        session = self.session_of(request)
        with self.refusals():
            media = self.catalog.media(session.owner, data.name, self.labels)
        if media.sha in {one.sha for one in conversation.media}:
            after = pending
        elif data.added and chosen:
            after = (*(one for one in pending if one.sha != media.sha), media)
        else:
            after = (media,)
        yield Update(pending=after, chosen=True, attached=self._attached(conversation, after, media))
        try:
            async for update in self._show(request, session, media, settings, at_s=data.at):
                yield update
        except PageError:
            # What cannot be decoded is no upload any more, and the page is as before.
            self.catalog.remove(session.owner, media.choice)
            yield Update(pending=pending, chosen=chosen, attached=self._attached(conversation, pending, shown))
            if shown is None:
                yield self._nothing(session)
            else:
                async for update in self._show(request, session, shown, settings):
                    yield update
            raise

    @action
    async def remove(
        self,
        data: gr.EventData,
        shown: PageMedia | None,
        pending: tuple[PageMedia, ...],
        conversation: PageConversation,
    ) -> Update:
        """Takes back what was added for the next question."""
        after = tuple(one for one in pending if one.choice != data.name)
        return Update(pending=after, attached=self._attached(conversation, after, shown))

    @action
    async def refresh_timeline(
        self, request: gr.Request, shown: PageMedia | None, *settings: Any
    ) -> AsyncIterator[str]:
        """Makes the timeline again with other settings."""
        async with self.work(request) as session:
            async for html in self.timeline(self.file_of(session, shown), session, self.settings(*settings)):
                yield html

    async def _show(
        self, request: gr.Request, session: PageSession, media: PageMedia, settings: tuple[Any, ...], at_s: float = 0.0
    ) -> AsyncIterator[Update]:
        """Shows a video or picture at once, and its timeline when it has been analysed. Raises PageError."""
        file = self.file_of(session, media)
        # The player first: the browser plays the video while the server decodes it. What was found in another video
        # must not stand beside it.
        waiting = render.progress(Progress(), self.labels)
        yield self._empty()._replace(
            shown=media,
            choices=self._choices(session, media),
            player=render.player(file.id, media, self.labels, at_s),
            timeline=waiting,
        )
        tab = self.tab_of(request)
        tab.shown = media.choice
        async with self.work(request):
            async for html in self.timeline(file, session, self.settings(*settings)):
                if tab.shown != media.choice:
                    return  # another video was opened meanwhile
                yield Update(timeline=html)

    def _empty(self) -> Update:
        return Update(lanes="", transcript="", captions="", summary="", receipt=render.note(self.labels.receipt_note))

    def _nothing(self, session: PageSession) -> Update:
        return self._empty()._replace(
            shown=None,
            choices=self._choices(session, None),
            player=render.empty_player(self.labels),
            timeline=render.note(self.labels.no_timeline),
        )

    def _choices(self, session: PageSession, shown: PageMedia | None) -> str:
        return render.choices(self.catalog.choices(session.owner, self.labels), shown, self.labels)

    def _attached(self, conversation: PageConversation, pending: tuple[PageMedia, ...], shown: PageMedia | None) -> str:
        return render.attached(conversation.media, pending, shown, self.labels)

    # --- conversations

    @action
    async def new_conversation(
        self, request: gr.Request, shown: PageMedia | None, conversation: PageConversation
    ) -> Update:
        """Starts a conversation about what is shown. The other one is in the list."""
        session, pending = self.session_of(request), () if shown is None else (shown,)
        await self._leave(request, session, conversation)
        return self._talk(session, PageConversation())._replace(
            pending=pending, attached=self._attached(PageConversation(), pending, shown), question=self.ready("")
        )

    @action
    async def open_conversation(
        self, request: gr.Request, data: gr.EventData, conversation: PageConversation, *settings: Any
    ) -> AsyncIterator[Update]:
        session = self.session_of(request)
        await self._leave(request, session, conversation)
        found = self.history.open(session.reader, data.name)
        if found is None:
            raise PageError(self.labels.no_conversation)
        async for update in self._enter(request, session, found, settings):
            yield update

    @action
    async def delete_conversation(
        self, request: gr.Request, data: gr.EventData, shown: PageMedia | None, conversation: PageConversation
    ) -> Update:
        """Removes a conversation from the list, from where it can be restored for a day."""
        session = self.session_of(request)
        self.history.delete(session.reader, data.name)
        if data.name == conversation.id:
            return await self.new_conversation(request, shown, PageConversation())
        return Update(conversations=self._conversations(session, conversation))

    @action
    async def restore_conversation(
        self, request: gr.Request, data: gr.EventData, conversation: PageConversation
    ) -> Update:
        session = self.session_of(request)
        self.history.undo(session.reader, PageConversation(data.name))
        return Update(conversations=self._conversations(session, conversation))

    async def _enter(
        self, request: gr.Request, session: PageSession, conversation: PageConversation, settings: tuple[Any, ...]
    ) -> AsyncIterator[Update]:
        """Shows a conversation and its last video, or with an empty one the first video that there is."""
        choices = self.catalog.choices(session.owner, self.labels)
        media, pending = conversation.media[-1:], ()
        if not media and choices:
            example = next((one for one in choices if one.name in self.catalog.examples), choices[0])
            with self.refusals():
                media = [self.catalog.media(session.owner, example.name, self.labels)]
            pending = (media[0],)
        shown = media[0] if media else None
        yield self._talk(session, conversation)._replace(
            pending=pending,
            chosen=False,
            attached=self._attached(conversation, pending, shown),
            question=self.ready(""),
        )
        try:
            if shown is None:
                yield self._nothing(session)
            else:
                async for update in self._show(request, session, shown, settings):
                    yield update
        except PageError:
            yield self._nothing(session)  # an upload that has expired; the conversation about it can still be read
            raise

    async def _leave(
        self, request: gr.Request, session: PageSession, conversation: PageConversation
    ) -> PageConversation:
        """Ends the answer in work and keeps what there is of it."""
        left = await self.tab_of(request).stop(conversation)
        self.history.save(session.reader, left)
        return left

    def _conversations(self, session: PageSession, conversation: PageConversation) -> str:
        return render.conversations(self.history.entries(session.reader), conversation.id, self.labels)

    def _talk(self, session: PageSession, conversation: PageConversation) -> Update:
        """Everything that shows a conversation."""
        return Update(
            conversation=conversation,
            chat=self._messages(conversation),
            saves=render.saves(conversation, self.labels),
            conversations=self._conversations(session, conversation),
        )

    # --- chat

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
        asked = conversation.with_question(question.strip(), pending)
        async for update in self._answer(request, conversation, asked, shown, settings):
            yield update

    @action
    async def ask_example(
        self,
        request: gr.Request,
        data: gr.SelectData,
        shown: PageMedia | None,
        pending: tuple[PageMedia, ...],
        conversation: PageConversation,
        *settings: Any,
    ) -> AsyncIterator[Update]:
        async for update in self.ask(request, data.value["text"], shown, pending, conversation, *settings):
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
        return self._talk(session, before)._replace(
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
        return self._talk(session, left)._replace(question=self.ready())

    def ready(self, text: str | None = None) -> Any:
        """The input for the next question, with this text, or with what has been written meanwhile."""
        ready = gr.update(submit_btn=self.labels.send, stop_btn=False)
        return ready if text is None else ready | {"value": text}

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
            yield self._talk(session, before)._replace(
                pending=media, attached=self._attached(before, media, shown), question=self.ready(question)
            )
            raise
        answering.latest = asked
        self.history.save(session.reader, asked)
        yield self._talk(session, asked)

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
            if turn.answer != unlike:
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
                    yield asked.with_answer(answer=item.text, evidence=evidence, receipt=receipt)
                    return
                text += item.text
                if text and perf_counter() - updated > UPDATE_S:
                    updated = perf_counter()
                    yield asked.with_answer(answer=text)

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

    def _messages(self, conversation: PageConversation, progress: str = "") -> Any:
        """The chat's messages. progress: shown in place of an answer that has not begun."""
        messages: list[dict[str, Any]] = []
        for turn in conversation.turns:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": self._answer_content(turn, progress)})
        ratings = [{1: "Like", -1: "Dislike"}.get(turn.rating) for turn in conversation.turns]
        return gr.update(value=messages, feedback_value=ratings)

    def _answer_content(self, turn: PageTurn, progress: str) -> list[Any]:
        content: list[Any] = [render.with_links(turn.answer)] if turn.answer else []
        if turn.status == "pending" and not turn.answer:
            content.append(gr.HTML(progress or render.progress(Progress(), self.labels)))
        if turn.status == "stopped":
            content.append(gr.HTML(render.note(self.labels.stopped)))
        if turn.evidence_html:
            content.append(gr.HTML(turn.evidence_html))
        return content


def _media_part(file: str, media: PageMedia) -> VideoPart | ImagePart:
    if media.is_picture:
        return ImagePart(type="image_url", image_url=ImageUrl(url=file))
    return VideoPart(type="video_url", video_url=VideoUrl(url=file))


def _turn_number(index: Any) -> int:
    """Returns the turn of a message: each turn has two, a question and an answer."""
    return (index if isinstance(index, int) else index[0]) // 2
