"""The base of the page's actions: the session of a request, its slot and limits, its files and settings."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from serve.api.errors import APIError, as_api_error
from serve.api.schemas.media import VideoOptions
from serve.runtime.files import StoredFile
from serve.runtime.progress import OnProgress, silent
from serve.runtime.service import Service
from serve.runtime.videos import RequestVideo, load_video
from serve.web import render
from serve.web.catalog import SharedVideo, VideoCatalog, is_picture
from serve.web.conversation import PageMedia
from serve.web.history import History
from serve.web.labels import Labels
from serve.web.progress import Progress, WatchedWork
from serve.web.sessions import PageSession, PageSessions, PageTab
from serve.web.thumbnails import Thumbnails
from videollm.cli.shapes import tags_json
from videollm.errors import VideoLLMError

MAX_CELLS = 24  # of the timeline; segments are merged until no more are left
MESSAGE_S = 15  # how long a message is shown


@dataclass(frozen=True, slots=True)
class PageSettings:
    model: str
    temperature: float
    options: VideoOptions


class PageError(Exception):
    """The reason why an action was refused, for the person who asked for it."""


def action(function: Callable) -> Callable:
    """Marks a method as the action of an event: a refusal becomes a message, and the page stays as it is.

    An error that reached Gradio would cover every component of the event with a sticker.
    """
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def updates(self: "PageContext", *arguments: Any) -> AsyncIterator[Any]:
            try:
                async with aclosing(function(self, *arguments)) as found:
                    async for update in found:
                        yield update
            except PageError as error:
                self.tell(str(error))
                yield gr.skip()

        return updates

    @functools.wraps(function)
    async def update(self: "PageContext", *arguments: Any) -> Any:
        try:
            return await function(self, *arguments)
        except PageError as error:
            self.tell(str(error))
            return gr.skip()

    return update


class PageContext:
    """The base of the page's actions. All of their work goes through the service, under the same limits as the API's
    requests."""

    def __init__(
        self,
        service: Service,
        sessions: PageSessions,
        history: History,
        catalog: VideoCatalog,
        thumbnails: Thumbnails,
        labels: Labels,
    ):
        self.service, self.sessions, self.history = service, sessions, history
        self.catalog, self.thumbnails, self.labels = catalog, thumbnails, labels

    @asynccontextmanager
    async def work(self, request: gr.Request) -> AsyncIterator[PageSession]:
        """Counts the action as a request of its session's key. Raises PageError for what is refused or fails."""
        session = self.session_of(request)
        with self.refusals():
            self.service.rate_limiter.take(session.key)
            async with self.service.concurrency.slot(session.owner):
                yield session

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Turns refusals into PageError."""
        try:
            yield
        except ValidationError as error:
            raise PageError(error.errors()[0]["msg"]) from error
        except (APIError, VideoLLMError) as error:
            raise PageError(str(as_api_error(error))) from error

    def session_of(self, request: gr.Request) -> PageSession:
        assert request.request is not None and request.session_hash is not None
        session: PageSession = request.request.state.session
        self.sessions.claim(session, request.session_hash)
        return session

    def tab_of(self, request: gr.Request) -> PageTab:
        return self.session_of(request).tabs[request.session_hash or ""]

    def file_of(self, session: PageSession, media: PageMedia | None) -> StoredFile:
        if media is None:
            raise PageError(self.labels.no_video)
        with self.refusals():
            return self.catalog.find(session.owner, media)

    def settings(
        self, model: str, sampling: str, fps: float | None, frames: float | None, temperature: float
    ) -> PageSettings:
        """Reads the inputs in the order in which the layout lists them."""
        options: dict[str, Any] = {"auto": {}, "fps": {"fps": fps}, "frames": {"frames": frames and int(frames)}}
        return PageSettings(model, temperature, VideoOptions(**options[sampling]))

    def tell(self, message: str) -> None:
        gr.Warning(message, duration=MESSAGE_S, title=self.labels.failed)

    async def load(
        self, file: StoredFile, session: PageSession, settings: PageSettings, progress: OnProgress = silent
    ) -> RequestVideo:
        return await load_video(
            self.service,
            file.id,
            session.owner,
            settings.options,
            param="video",
            image=is_picture(file.name),
            progress=progress,
        )

    async def timeline(self, file: StoredFile, session: PageSession, settings: PageSettings) -> AsyncIterator[str]:
        """Yields how far the analysis is, and at last the timeline."""
        progress = Progress()
        watched = WatchedWork(self.load(file, session, settings, progress), progress)
        async for now in watched:
            yield render.progress(now, self.labels)
        video, model = watched.result.video, self.service.model
        segments = await asyncio.to_thread(video.segments, model.config, model.encoder.vocabulary, MAX_CELLS)
        middles_s = [float(segment.times_s[len(segment.times_s) // 2]) for segment in segments]
        thumbnails = await self.thumbnails.at(file.path, file.sha, middles_s)
        cells = [
            render.PreviewCell(segment.start_s, segment.end_s, tags_json(segment.tags), thumbnail)
            for segment, thumbnail in zip(segments, thumbnails, strict=True)
        ]
        yield render.timeline(cells, self.labels)

    async def shared_thumbnail(self, shared: SharedVideo, time_s: float) -> str:
        """Returns a frame of a video of the server's own, or nothing to see while it cannot be decoded."""
        try:
            (thumbnail,) = await self.thumbnails.at(shared.path, shared.sha, [time_s])
        except APIError:
            return render.NO_THUMBNAIL
        return thumbnail

    def is_shown(self, request: gr.Request, media: PageMedia | None) -> bool:
        """Says whether this is still in the tab's player, or whether another one was opened meanwhile."""
        return media is not None and self.tab_of(request).shown == media.choice

    async def middle_thumbnails(self, file: StoredFile, spans_s: Sequence[tuple[float, float]]) -> list[str]:
        return await self.thumbnails.at(file.path, file.sha, [(start + end) / 2 for start, end in spans_s])
