"""What the tabs beside the chat do: captions, search, summary, and what the model saw."""

import asyncio
from typing import Any

import gradio as gr

from serve.api.errors import APIError
from serve.api.schemas.media import VideoUrl
from serve.api.schemas.videos import CaptionRequest, SummarizeRequest
from serve.runtime.files import StoredFile
from serve.runtime.tasks import caption_video, embed_query, find_moments, summarize_video
from serve.web import render
from serve.web.catalog import indexed_name
from serve.web.context import PageContext, PageSettings
from serve.web.conversation import PageTurn, PageVideo
from serve.web.sessions import PageSession
from videollm.cli.shapes import tags_json
from videollm.retrieval.grounding import ground

MAX_FRAMES = 48  # frames shown of those that the model used
MAX_MOMENTS = 12
ROUNDING_S = 0.0005  # a receipt's times are rounded: half a millisecond later, the right frame is shown


class TabActions(PageContext):
    async def caption(self, request: gr.Request, video: PageVideo, *settings: Any) -> str:
        async with self.work(request) as session:
            chosen, url = self.settings(*settings), VideoUrl(url=self.file_of(session, video).id)
            body = CaptionRequest(model=chosen.model, video=url, options=chosen.options, dense=True)
            reply = await caption_video(self.service, body, session.owner)
            return render.captions(reply, video.name, self.labels)

    async def summarize(self, request: gr.Request, parts: int, video: PageVideo, *settings: Any) -> str:
        async with self.work(request) as session:
            chosen, file = self.settings(*settings), self.file_of(session, video)
            url = VideoUrl(url=file.id)
            body = SummarizeRequest(model=chosen.model, video=url, options=chosen.options, parts=int(parts))
            reply = await summarize_video(self.service, body, session.owner)
            thumbnails = await self.thumbnails.at(file.path, file.sha, [part.time for part in reply.parts])
            return render.storyboard(reply, thumbnails, self.labels)

    async def sense(self, request: gr.Request, video: PageVideo) -> tuple[str, str]:
        """Finds speech, people and things. Returns the lanes below the timeline and the transcript."""
        async with self.work(request) as session:
            file = self.file_of(session, video)
            found = await self.senses.of(session.owner, file.path, file.sha)
            return render.lanes(found, self.labels), render.transcript(found, video.name, self.labels)

    async def search(self, request: gr.Request, query: str, indexed: bool, video: PageVideo, *settings: Any) -> str:
        """Finds moments in the video that is shown, or in all indexed videos."""
        if not query.strip():
            raise self.error(self.labels.no_query)
        async with self.work(request) as session:
            if indexed:
                cards = await self._search_index(query)
            else:
                file = self.file_of(session, video)
                cards = await self._search_video(query, file, session, self.settings(*settings))
        return render.moments(cards) if cards else render.note(self.labels.no_results)

    async def _search_video(
        self, query: str, file: StoredFile, session: PageSession, settings: PageSettings
    ) -> list[render.MomentCard]:
        video, model = (await self.load(file, session, settings)).video, self.service.model
        embed = await embed_query(self.service, query)
        spans = await asyncio.to_thread(ground, video, embed, model.encoder, MAX_MOMENTS)
        thumbnails = await self.middle_thumbnails(file, [(span.start_s, span.end_s) for span in spans])
        cards = []
        for span, thumbnail in zip(spans, thumbnails, strict=True):
            # One segment over the whole span has the tags of all its frames.
            (segment,) = video.part(span.start_s, span.end_s).segments(model.config, model.encoder.vocabulary, 1)
            cell = render.PreviewCell(span.start_s, span.end_s, tags_json(segment.tags), thumbnail)
            cards.append(render.MomentCard(file.name, None, span.score, cell))
        return cards

    async def _search_index(self, query: str) -> list[render.MomentCard]:
        await self.catalog.refresh()
        moments = await find_moments(self.service, query, MAX_MOMENTS)
        cards = []
        for moment in moments:
            name = indexed_name(moment.path)
            shared = self.catalog.shared[name]
            middle_s = (moment.start_s + moment.end_s) / 2
            try:
                (thumbnail,) = await self.thumbnails.at(shared.path, shared.sha, [middle_s])
            except APIError:  # the file has changed since it was indexed; opening it shows the reason
                thumbnail = render.NO_THUMBNAIL
            cell = render.PreviewCell(moment.start_s, moment.end_s, tags_json(moment.tags), thumbnail)
            cards.append(render.MomentCard(shared.path.name, name, moment.score, cell))
        return cards

    async def show_receipt(self, request: gr.Request, video: PageVideo) -> str:
        """Shows the frames and the receipt of the last complete answer."""
        turns = [turn for turn in video.turns if turn.receipt]
        if not turns:
            return render.note(self.labels.receipt_note)
        async with self.work(request) as session:
            return await self._receipt(self.file_of(session, video), turns[-1])

    async def _receipt(self, file: StoredFile, turn: PageTurn) -> str:
        assert turn.receipt is not None
        every = turn.receipt.videos[0].times
        count = min(len(every), MAX_FRAMES)
        times_s = [every[(2 * n + 1) * len(every) // (2 * count)] for n in range(count)]  # the middles of equal parts
        thumbnails = await self.thumbnails.at(file.path, file.sha, [time_s + ROUNDING_S for time_s in times_s])
        return render.receipt(turn, times_s, thumbnails, self.labels)
