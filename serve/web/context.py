"""The base of the page's actions: the session of a request, its slot and limits, its files and settings."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from serve.api.errors import APIError, as_api_error
from serve.api.schemas.media import VideoOptions
from serve.runtime.files import StoredFile
from serve.runtime.senses import VideoSenses
from serve.runtime.service import Service
from serve.runtime.videos import RequestVideo, load_video
from serve.web import render
from serve.web.catalog import VideoCatalog
from serve.web.conversation import PageVideo
from serve.web.labels import Labels
from serve.web.sessions import PageSession, PageSessions
from serve.web.thumbnails import Thumbnails
from videollm.cli.shapes import tags_json
from videollm.errors import VideoLLMError

MAX_CELLS = 24  # of the timeline; segments are merged until no more are left
ERROR_S = 15  # how long an error is shown


@dataclass(frozen=True, slots=True)
class PageSettings:
    model: str
    temperature: float
    options: VideoOptions


class PageContext:
    """The base of the page's actions. All of their work goes through the service, under the same limits as the API's
    requests."""

    def __init__(
        self,
        service: Service,
        sessions: PageSessions,
        catalog: VideoCatalog,
        thumbnails: Thumbnails,
        senses: VideoSenses,
        labels: Labels,
    ):
        self.service, self.sessions, self.catalog, self.thumbnails = service, sessions, catalog, thumbnails
        self.senses, self.labels = senses, labels

    @asynccontextmanager
    async def work(self, request: gr.Request) -> AsyncIterator[PageSession]:
        """Counts the action as a request of its session's key. Shows refusals and errors on the page."""
        session = self.session_of(request)
        try:
            self.service.rate_limiter.take(session.key)
            async with self.service.concurrency.slot(session.owner):
                yield session
        except ValidationError as error:
            raise self.error(error.errors()[0]["msg"]) from error
        except (APIError, VideoLLMError) as error:
            raise self.error(str(as_api_error(error))) from error

    def session_of(self, request: gr.Request) -> PageSession:
        assert request.request is not None and request.session_hash is not None
        session: PageSession = request.request.state.session
        self.sessions.claim(session, request.session_hash)
        return session

    def file_of(self, session: PageSession, video: PageVideo) -> StoredFile:
        if not video.file:
            raise self.error(self.labels.no_video)
        return self.service.files.get(session.owner, video.file)

    def settings(
        self, model: str, sampling: str, fps: float | None, frames: float | None, temperature: float
    ) -> PageSettings:
        """Reads the inputs in the order in which the layout lists them."""
        options: dict[str, Any] = {"auto": {}, "fps": {"fps": fps}, "frames": {"frames": frames and int(frames)}}
        return PageSettings(model, temperature, VideoOptions(**options[sampling]))

    def error(self, reason: str) -> gr.Error:
        return gr.Error(reason, duration=ERROR_S, title=self.labels.failed, print_exception=False)

    async def load(self, file: StoredFile, session: PageSession, settings: PageSettings) -> RequestVideo:
        return await load_video(self.service, file.id, session.owner, settings.options, param="video")

    async def timeline(self, file: StoredFile, session: PageSession, settings: PageSettings) -> str:
        video, model = (await self.load(file, session, settings)).video, self.service.model
        segments = await asyncio.to_thread(video.segments, model.config, model.encoder.vocabulary, MAX_CELLS)
        middles_s = [float(segment.times_s[len(segment.times_s) // 2]) for segment in segments]
        thumbnails = await self.thumbnails.at(file.path, file.sha, middles_s)
        cells = [
            render.PreviewCell(segment.start_s, segment.end_s, tags_json(segment.tags), thumbnail)
            for segment, thumbnail in zip(segments, thumbnails, strict=True)
        ]
        return render.timeline(cells, self.labels)

    async def middle_thumbnails(self, file: StoredFile, spans_s: Sequence[tuple[float, float]]) -> list[str]:
        return await self.thumbnails.at(file.path, file.sha, [(start + end) / 2 for start, end in spans_s])
