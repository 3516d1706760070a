"""The actions of the page on its videos and on the list of conversations. Each answers an event with new values."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import gradio as gr

from serve.web import render
from serve.web.context import PageError, action
from serve.web.conversation import PageConversation, PageMedia, PageTurn
from serve.web.progress import Progress
from serve.web.sessions import PageSession
from serve.web.tab_actions import TabActions

EXAMPLE_SHOWN_S = 2.0  # the second whose frame stands for an example clip
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
    found: Any = SAME
    receipt: Any = SAME
    welcome: Any = SAME
    chat: Any = SAME
    attached: Any = SAME
    question: Any = SAME
    saves: Any = SAME
    conversations: Any = SAME


class ViewActions(TabActions):
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
                yield self._nothing(request, session)
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
        yield self.put(request, session, media, at_s)
        async for update in self.analyse(request, session, media, settings):
            yield update

    def put(self, request: gr.Request, session: PageSession, media: PageMedia, at_s: float = 0.0) -> Update:
        """Puts a video or picture into the player, which plays it while the server decodes it. Raises PageError."""
        file = self.file_of(session, media)
        cleared = Update() if self.is_shown(request, media) else self._empty(request)
        self.tab_of(request).shown = media.choice
        return cleared._replace(
            shown=media,
            choices=self._choices(session, media),
            player=render.player(file.id, media, self.labels, at_s),
            timeline=render.progress(Progress(), self.labels),
        )

    async def analyse(
        self, request: gr.Request, session: PageSession, media: PageMedia, settings: tuple[Any, ...]
    ) -> AsyncIterator[Update]:
        """Yields the timeline of what is in the player, until another one is opened. Raises PageError."""
        async with self.work(request):
            async for html in self.timeline(self.file_of(session, media), session, self.settings(*settings)):
                if not self.is_shown(request, media):
                    return
                yield Update(timeline=html)

    def _empty(self, request: gr.Request) -> Update:
        """Takes away what was found in the video that is in the player. Moments of an index lead to any video."""
        return Update(
            lanes="",
            transcript="",
            captions="",
            summary="",
            found=SAME if self.tab_of(request).searches_index else "",
        )

    def _nothing(self, request: gr.Request, session: PageSession) -> Update:
        cleared = self._empty(request)
        self.tab_of(request).shown = ""
        return cleared._replace(
            shown=None,
            choices=self._choices(session, None),
            player=render.empty_player(self.labels.empty),
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
        talk = await self._talk(session, PageConversation())
        return talk._replace(
            receipt=render.note(self.labels.receipt_note),
            pending=pending,
            attached=self._attached(PageConversation(), pending, shown),
            question=self.ready(""),
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
        talk = await self._talk(session, conversation)
        yield talk._replace(
            receipt=render.note(self.labels.receipt_note),
            pending=pending,
            chosen=False,
            attached=self._attached(conversation, pending, shown),
            question=self.ready(""),
        )
        try:
            if shown is None:
                yield self._nothing(request, session)
            else:
                async for update in self._show(request, session, shown, settings):
                    yield update
        except PageError:
            # An upload has expired. The conversation about it can still be read.
            yield self._nothing(request, session)
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

    async def _talk(self, session: PageSession, conversation: PageConversation) -> Update:
        """Everything that shows a conversation."""
        return Update(
            conversation=conversation,
            welcome="" if conversation.turns else await self._welcome(),
            chat=self._messages(conversation),
            saves=render.saves(conversation, self.labels),
            conversations=self._conversations(session, conversation),
        )

    async def _welcome(self) -> str:
        thumbnails = {
            name: await self.shared_thumbnail(example, EXAMPLE_SHOWN_S)
            for name, example in self.catalog.examples.items()
        }
        return render.welcome(thumbnails, self.labels, english_only=self.service.model.encoder.english_only)

    def ready(self, text: str | None = None) -> Any:
        """The input for the next question, with this text, or with what has been written meanwhile."""
        ready = gr.update(submit_btn=self.labels.send, stop_btn=False)
        return ready if text is None else ready | {"value": text}

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
        if turn.receipt is not None and turn.receipt.dropped_turns:
            content.append(gr.HTML(render.note(self.labels.dropped_turns.format(count=turn.receipt.dropped_turns))))
        if turn.shown:
            content.append(gr.HTML(render.shown(turn.shown, self.labels)))
        if turn.evidence_html:
            content.append(gr.HTML(turn.evidence_html))
        return content
