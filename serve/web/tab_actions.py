"""What the tabs beside the chat do: captions, search, summary, and what the model saw."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from serve.api.schemas.media import VideoUrl
from serve.api.schemas.videos import CaptionRequest, SummarizeRequest
from serve.runtime.tasks import caption_video, embed_query, find_moments, summarize_video
from serve.web import render
from serve.web.catalog import indexed_name, is_picture
from serve.web.context import PageContext, PageError, PageSettings, action
from serve.web.conversation import PageConversation, PageMedia, PageTurn
from serve.web.progress import Progress, WatchedWork
from serve.web.sessions import PageSession
from videollm.cli.shapes import tags_json
from videollm.retrieval.grounding import ground

MAX_FRAMES = 48  # frames shown of those that the model used
MAX_MOMENTS = 12
SENSES = ("objects", "speech")  # whose findings the tab shows
ROUNDING_S = 0.0005  # a receipt's times are rounded: half a millisecond later, the right frame is shown


class TabActions(PageContext):
    @action
    async def caption(self, request: gr.Request, shown: PageMedia | None, *settings: Any) -> AsyncIterator[str]:
        yield render.progress(Progress(), self.labels)
        async with self.work(request) as session:
            chosen, file = self.settings(*settings), self.file_of(session, shown)
            body = CaptionRequest(model=chosen.model, video=VideoUrl(url=file.id), options=chosen.options, dense=True)
            reply = await caption_video(self.service, body, session.owner)
            yield self._about(request, shown, render.captions(reply, file.name, self.labels))

    @action
    async def summarize(
        self, request: gr.Request, parts: int, shown: PageMedia | None, *settings: Any
    ) -> AsyncIterator[str]:
        yield render.progress(Progress(), self.labels)
        async with self.work(request) as session:
            chosen, file = self.settings(*settings), self.file_of(session, shown)
            url = VideoUrl(url=file.id)
            body = SummarizeRequest(model=chosen.model, video=url, options=chosen.options, parts=int(parts))
            reply = await summarize_video(self.service, body, session.owner)
            thumbnails = await self.thumbnails.at(file.path, file.sha, [part.time for part in reply.parts])
            yield self._about(request, shown, render.storyboard(reply, thumbnails, self.labels))

    @action
    async def sense(self, request: gr.Request, shown: PageMedia | None) -> AsyncIterator[tuple[Any, str]]:
        """Finds speech, people and things. Yields the lanes below the timeline and the transcript."""
        progress = Progress()
        yield gr.skip(), render.progress(progress, self.labels)
        async with self.work(request) as session:
            file = self.file_of(session, shown)
            finding = self.service.senses.of(session.owner, file.path, file.sha, SENSES, progress=progress)
            watched = WatchedWork(finding, progress)
            async for now in watched:
                yield gr.skip(), self._about(request, shown, render.progress(now, self.labels))
            found = watched.result
            if set(found.problems) == set(SENSES):
                raise found.problems[SENSES[0]]
            lanes = render.lanes(found, self.labels)
            transcript = render.transcript(found, file.name, self.labels)
            yield self._about(request, shown, lanes), self._about(request, shown, transcript)

    def _about(self, request: gr.Request, media: PageMedia | None, html: str) -> Any:
        """Returns what was found in a video, or nothing new if another one is in the player by now."""
        return html if self.is_shown(request, media) else gr.skip()

    @action
    async def search(
        self,
        request: gr.Request,
        query: str,
        said: str,
        has: str,
        indexed: bool,
        shown: PageMedia | None,
        *settings: Any,
    ) -> AsyncIterator[Any]:
        """Finds moments in the video that is shown, or in all indexed videos.

        said: words of the speech. has: names of things that are seen, separated by commas.
        """
        if not (query.strip() or said.strip() or has.strip()):
            raise PageError(self.labels.no_query)
        yield render.progress(Progress(), self.labels)
        async with self.work(request) as session:
            if indexed:
                things = [thing.strip() for thing in has.split(",") if thing.strip()]
                cards = await self._search_index(query.strip() or None, said.strip() or None, things)
            else:
                cards = await self._search_video(query, shown, session, self.settings(*settings))
        self.tab_of(request).searches_index = indexed
        html = render.moments(cards, self.labels) if cards else render.note(self.labels.no_results)
        yield html if indexed else self._about(request, shown, html)

    async def _search_video(
        self, query: str, shown: PageMedia | None, session: PageSession, settings: PageSettings
    ) -> list[render.MomentCard]:
        file = self.file_of(session, shown)
        assert shown is not None  # or else there were no file of it
        video, model = (await self.load(file, session, settings)).video, self.service.model
        embed = await embed_query(self.service, query)
        spans = await asyncio.to_thread(ground, video, embed, model.encoder, MAX_MOMENTS)
        thumbnails = await self.middle_thumbnails(file, [(span.start_s, span.end_s) for span in spans])
        cards = []
        for span, thumbnail in zip(spans, thumbnails, strict=True):
            # One segment over the whole span has the tags of all its frames.
            (segment,) = video.part(span.start_s, span.end_s).segments(model.config, model.encoder.vocabulary, 1)
            cell = render.PreviewCell(span.start_s, span.end_s, tags_json(segment.tags), thumbnail)
            cards.append(render.MomentCard(shown, span.score, cell))
        return cards

    async def _search_index(self, query: str | None, said: str | None, has: list[str]) -> list[render.MomentCard]:
        await self.catalog.refresh()
        moments = await find_moments(self.service, query, MAX_MOMENTS, said, has)
        cards = []
        for moment in moments:
            name = indexed_name(moment.path)
            shared = self.catalog.shared[name]
            middle_s = (moment.start_s + moment.end_s) / 2
            # If the file has changed since it was indexed, opening it shows the reason.
            thumbnail = await self.shared_thumbnail(shared, middle_s)
            cell = render.PreviewCell(moment.start_s, moment.end_s, tags_json(moment.tags), thumbnail)
            media = PageMedia(name, shared.path.name, shared.sha, is_picture=is_picture(moment.path))
            cards.append(render.MomentCard(media, moment.score, cell))
        return cards

    @action
    async def show_receipt(self, request: gr.Request, conversation: PageConversation) -> str:
        """Shows the frames and the receipt of the last complete answer."""
        turns = [turn for turn in conversation.turns if turn.receipt]
        if not turns:
            return render.note(self.labels.receipt_note)
        async with self.work(request) as session:
            return await self._receipt(session, conversation, turns[-1])

    async def _receipt(self, session: PageSession, conversation: PageConversation, turn: PageTurn) -> str:
        assert turn.receipt is not None
        frames = []
        for media, used in zip(conversation.media, turn.receipt.videos, strict=False):
            file, every = self.file_of(session, media), used.times
            count = min(len(every), MAX_FRAMES // len(turn.receipt.videos) or 1)
            times_s = [every[(2 * n + 1) * len(every) // (2 * count)] for n in range(count)]  # middles of equal parts
            thumbnails = await self.thumbnails.at(file.path, file.sha, [time_s + ROUNDING_S for time_s in times_s])
            frames += [render.UsedFrame(media, *frame) for frame in zip(times_s, thumbnails, strict=True)]
        return render.receipt(turn, frames, self.labels)
