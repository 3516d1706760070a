"""The streams that a server watches: each in a thread of its own, whose computations take turns with requests."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from threading import Thread
from time import monotonic, time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from serve.api.errors import APIError, api_errors
from serve.api.schemas.live import StreamCounts, StreamReply, StreamRequest, StreamStatus
from serve.runtime.stream_pictures import StreamPictures
from serve.security.auth import account_of
from serve.security.fetch import Resolve, is_public, resolve
from videollm.cli.live_shapes import event_json
from videollm.config import split_sense
from videollm.errors import VideoLLMError
from videollm.live.memory import LiveSegment
from videollm.live.objects import SENSE as OBJECTS
from videollm.live.session import WINDOW_S
from videollm.live.source import StreamSource
from videollm.live.speech import SENSE as SPEECH
from videollm.live.standing import Alert
from videollm.live.watcher import LiveWatcher, WatchEvent
from videollm.live.webhook import Webhook

if TYPE_CHECKING:
    from serve.runtime.service import Service

logger = logging.getLogger(__name__)

SCHEME = "stream://"
KEPT_EVENTS = 512  # of a stream, for listeners that come later
PING_S = 15.0  # between signs of life of a stream of events
ENDED_S = 600.0  # for which a stream that has ended can still be asked about
STATES: dict[str, StreamStatus] = {"connected": "connected", "lost": "lost", "ended": "ended"}


class StreamNews(NamedTuple):
    """An event of a stream as JSON, and a picture of its middle as a data: URL, empty where the event shows nothing."""

    number: int
    event: dict[str, Any]
    picture: str


class WatchedStream:
    """A stream of one owner, with its latest events."""

    def __init__(self, owner: str, request: StreamRequest, loop: asyncio.AbstractEventLoop):
        self.id, self.owner, self.request = f"stream-{secrets.token_hex(12)}", owner, request
        self.created_at = int(time())
        self.status: StreamStatus = "connecting"
        self.reason = ""
        self.ended_at: float | None = None
        self.events: deque[StreamNews] = deque(maxlen=KEPT_EVENTS)
        self.pictures = StreamPictures()
        self._next, self._loop, self._news = 0, loop, asyncio.Condition()
        self.watcher: LiveWatcher
        self._webhook: Webhook | None = None

    def start(self, watcher: LiveWatcher, webhook: Webhook | None) -> None:
        self.watcher, self._webhook = watcher, webhook
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends watching, in a moment."""
        self.watcher.stop()

    def wait(self) -> None:
        """Waits for the end of watching."""
        self._thread.join()

    @property
    def reply(self) -> StreamReply:
        counts = asdict(self.watcher.reader.stats)
        counts.pop("behind_s")
        memory = self.watcher.session.memory
        return StreamReply(
            id=self.id,
            source=self.request.source.partition("?")[0],
            created_at=self.created_at,
            status=self.status,
            reason=self.reason,
            fps=self.request.fps,
            when=self.request.when,
            segments=len(memory),
            bytes=memory.nbytes,
            lag_s=round(self.watcher.lag_s, 3),
            counts=StreamCounts(**counts),
        )

    @property
    def number(self) -> int:
        """That of the latest event, -1 before the first one."""
        return self._next - 1

    async def listen(self, after: int) -> AsyncIterator[str]:
        """Yields server-sent events with numbers above `after`, until the stream ends."""

        def is_news() -> bool:
            return self._next > after + 1 or self.ended_at is not None

        while True:
            new = [news for news in self.events if news.number > after]
            for number, event, _ in new:
                after = number
                yield f"id: {number}\nevent: {event['event']}\ndata: {_json(event)}\n\n"
            if new:
                continue
            if self.ended_at is not None:
                return
            try:
                async with asyncio.timeout(PING_S), self._news:
                    await self._news.wait_for(is_news)
            except TimeoutError:
                yield ": ping\n\n"

    def _watch(self) -> None:
        try:
            for event in self.watcher.events():
                self._tell(event_json(event), self._picture(event))
        except (VideoLLMError, RuntimeError) as error:  # RuntimeError: the server's executor was closed
            logger.warning("stream %s: %s", self.id, error)
            self._tell({"event": "ended", "reason": "the server cannot watch it any more"})
        finally:
            if self._webhook is not None:
                self._webhook.close()

    def _picture(self, event: WatchEvent) -> str:
        match event:
            case LiveSegment():
                return self.pictures.at((event.start + event.end) / 2)
            case Alert():
                return self.pictures.at(event.time)
            case _:
                return ""

    def _tell(self, event: dict[str, Any], picture: str = "") -> None:
        if self._webhook is not None and event["event"] in ("alert", "clip"):
            self._webhook.send({"stream": self.id, **event})
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._add(event, picture)))

    async def _add(self, event: dict[str, Any], picture: str) -> None:
        async with self._news:
            self.events.append(StreamNews(self._next, event, picture))
            self._next += 1
            if status := STATES.get(event["event"]):
                self.status, self.reason = status, event.get("reason", "")
                self.ended_at = monotonic() if status == "ended" else None
            self._news.notify_all()


class StreamRegistry:
    """All streams of a server.

    resolve: how names of hosts are resolved. Tests, which have no public address to watch, replace it.
    """

    def __init__(self, share: int, resolve: Resolve = resolve):
        self.share, self._resolve = share, resolve
        self._streams: dict[str, WatchedStream] = {}
        self._adding = asyncio.Lock()

    async def add(self, service: "Service", owner: str, request: StreamRequest) -> WatchedStream:
        """Begins to watch a stream. Raises APIError."""
        async with self._adding:  # so that streams which are added at once are counted
            return await self._add(service, owner, request)

    async def _add(self, service: "Service", owner: str, request: StreamRequest) -> WatchedStream:
        limits = service.config.limits
        service.check_text([request.source, *request.when, request.webhook or ""], "when")
        self._forget()
        own = sum(account_of(s.owner) == account_of(owner) for s in self.running)
        if len(self.running) >= limits.streams or own >= self.share:
            message = f"{len(self.running)} streams are watched, {own} of them for this key; delete one first"
            raise APIError(429, message, "too_many_streams", kind="rate_limit_error", retry_after_s=60)
        source = await self._source(service, request)
        webhook = await self._webhook(service, request.webhook)
        stream = WatchedStream(owner, request, asyncio.get_running_loop())
        engine, _ = service.blocking_engine_for(owner)
        senses = {}
        for sense in service.used_senses:
            if (name := split_sense(sense)[0]) in (OBJECTS, SPEECH):
                with suppress(APIError):  # the log has said why; the stream is watched without
                    senses[name] = await service.sense_loader.load(sense)
        make = partial(
            LiveWatcher,
            service.model,
            source,
            standing=request.when,
            describe=request.describe,
            engine=engine,
            compute=service.executor.run_blocking,
            memory_bytes=limits.decode_bytes,
            on_frame=stream.pictures.add,
            **senses,
        )
        with api_errors("source"):
            stream.start(await service.executor.run(make), webhook)
        self._streams[stream.id] = stream
        return stream

    def get(self, owner: str, stream_id: str) -> WatchedStream:
        """Returns a stream of this owner. Raises APIError 404."""
        stream = self._streams.get(stream_id)
        if stream is None or account_of(stream.owner) != account_of(owner):
            raise APIError(404, f"no stream {stream_id!r}", "stream_not_found")
        return stream

    def owned_by(self, owner: str) -> list[WatchedStream]:
        self._forget()
        return [s for s in self._streams.values() if account_of(s.owner) == account_of(owner)]

    async def delete(self, owner: str, stream_id: str) -> None:
        stream = self.get(owner, stream_id)
        stream.stop()
        del self._streams[stream_id]
        await asyncio.to_thread(stream.wait)

    @property
    def running(self) -> list[WatchedStream]:
        return [stream for stream in self._streams.values() if stream.ended_at is None]

    async def close(self) -> None:
        """Ends all streams, and with them the events that clients listen to."""
        for stream in self._streams.values():
            stream.stop()
        await asyncio.gather(*(asyncio.to_thread(stream.wait) for stream in self._streams.values()))

    def _forget(self) -> None:
        for stream in list(self._streams.values()):
            if stream.ended_at is not None and monotonic() - stream.ended_at > ENDED_S:
                del self._streams[stream.id]

    async def _source(self, service: "Service", request: StreamRequest) -> StreamSource:
        """Raises APIError for what this server does not watch."""
        if (camera := service.config.cameras.get(request.source)) is not None:
            return StreamSource(url=camera, fps=request.fps)
        await self._check_address(service, request.source, "source")
        return StreamSource(url=request.source, fps=request.fps, public_only=True)

    async def _webhook(self, service: "Service", url: str | None) -> Webhook | None:
        if url is None:
            return None
        await self._check_address(service, url, "webhook")
        with api_errors("webhook"):
            return Webhook(url, public_only=True)

    async def _check_address(self, service: "Service", url: str, param: str) -> None:
        """The worker and the webhook check each address again when they connect to it. Raises APIError."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _refusal("it is not a valid address", param) from error
        if parts.scheme not in ("http", "https") or not host:
            raise _refusal("give a camera of this server, or an http(s):// address that it allows", param)
        if not service.config.allow_remote:
            raise _refusal("this server opens no remote addresses; start it with --allow-remote", param)
        try:
            addresses = await self._resolve(host, port or 443)
        except OSError as error:
            raise _refusal(f"{host} cannot be found", param) from error
        if not addresses or not all(map(is_public, addresses)):
            raise _refusal(f"{host} is not a public address", param)


async def remembered(service: "Service", owner: str, url: str) -> tuple[WatchedStream, list[LiveSegment]]:
    """Returns the stream that stream://ID names, and its segments of the last minute, or of the last N seconds with
    ?last=N. Raises APIError."""
    address, _, query = url.removeprefix(SCHEME).partition("?")
    stream = service.streams.get(owner, address)
    values = parse_qs(query, keep_blank_values=True)
    last = values.pop("last", [f"{WINDOW_S}"])[0]
    try:
        seconds = float(last)
    except ValueError:
        seconds = 0.0
    if values or not 0 < seconds < float("inf"):
        raise APIError(400, f"{url}: write stream://ID?last=SECONDS", "invalid_value")
    session = stream.watcher.session
    parts = await service.executor.run(lambda: session.segments(session.latest - seconds))
    if not parts:
        raise APIError(409, f"stream {stream.id} has shown nothing yet; it is {stream.status}", "stream_empty")
    return stream, parts


def _json(event: dict[str, Any]) -> str:
    from videollm.cli.output import to_json

    return to_json(event)


def _refusal(reason: str, param: str) -> APIError:
    return APIError(400, f"{param}: {reason}", "invalid_media_url", param=param)
